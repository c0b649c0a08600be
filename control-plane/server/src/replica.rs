//! One running control plane: its four handles, its configuration, clock, tasks and audit log.
//!
//! Only `grpc`, `tasks`, `http` and `start` name it. What decides takes the handles it needs.

use std::sync::Arc;

use rap_authority::{RowKeys, SealingKey, SessionKey};
use rap_runtime::tls::TrustStore;
use rap_runtime::{Clock, TaskGroup};
use rap_store::{AuditPen, Store};

use crate::audit::log::AuditLog;
use crate::config::settings::Config;
use crate::database::replica_floors::FloorFile;
use crate::keys::installation::Installation;
use crate::serve::clusters::Clusters;
use crate::serve::contact_log::ContactLog;
use crate::serve::contacts;
use crate::serve::dial_hints::Directory;
use crate::serve::operator_sessions::KnownSessions;
use crate::serve::sessions::Sessions;
use crate::watch::alarms::Alarms;
use crate::watch::metrics::Metrics;

/// The running control plane.
pub struct Replica {
    /// Its configuration.
    pub config: Config,
    /// Its clock.
    pub clock: Clock,
    /// Its database.
    pub store: Store,
    /// Key encryption key.
    pub kek: SealingKey,
    /// What its own audit rows are written with.
    pub pen: AuditPen,
    /// Keys of the MACs of the installation's own rows.
    pub rows: RowKeys,
    /// The audit tree.
    pub audit: AuditLog,
    /// Key of session hashes.
    pub session_key: SessionKey,
    /// Its installation.
    pub installation: Installation,
    /// What it has seen signed and never accepts less of.
    pub floors: FloorFile,
    /// The role-grant set it admitted last.
    pub grants: crate::serve::role_grants::GrantMemory,
    /// What it raised alarms about lately.
    pub findings: crate::watch::alarm_log::Findings,
    /// Its clusters.
    pub clusters: Clusters,
    /// Whom node connections are accepted from.
    pub trust: TrustStore,
    /// Connected nodes.
    pub sessions: Arc<Sessions>,
    /// Dial hints.
    pub directory: Arc<Directory>,
    /// Last contacts not written yet.
    pub contacts: contacts::ContactBook,
    /// What nodes said they went through, as far as it was logged.
    pub contact_log: ContactLog,
    /// Wakes the removal of absent nodes: what it goes by changed.
    pub absence: tokio::sync::Notify,
    /// Operator sessions seen lately.
    pub known: Arc<KnownSessions>,
    /// What is wrong now.
    pub alarms: Alarms,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Its tasks.
    pub tasks: TaskGroup,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({})", self.installation.facts.id)
    }
}
