//! What this replica serves, as handlers, acts and tasks use it.

use std::sync::Arc;

use rap_runtime::tls::TrustStore;
use tokio::sync::Notify;

use crate::database::handle::Database;
use crate::keys::handle::Keys;
use crate::serve::clusters::Clusters;
use crate::serve::contact_log::ContactLog;
use crate::serve::contacts::ContactBook;
use crate::serve::dial_hints::Directory;
use crate::serve::errands::Errands;
use crate::serve::grant_memory::RoleGrantMemory;
use crate::serve::identities::Identities;
use crate::serve::operator_sessions::KnownSessions;
use crate::serve::sessions::Sessions;
use crate::watch::handle::Watch;

/// Clusters, streams and sessions in memory, with the handles that they are read through.
pub struct Serving {
    /// The keys of the installation.
    pub keys: Arc<Keys>,
    /// The database.
    pub database: Arc<Database>,
    /// Clock, counters and alarms.
    pub watch: Arc<Watch>,
    /// The clusters.
    pub clusters: Clusters,
    /// The role-grant set that was admitted last.
    pub grants: RoleGrantMemory,
    /// Whom node connections are accepted from.
    pub trust: TrustStore,
    /// Connected nodes.
    pub sessions: Arc<Sessions>,
    /// Dial hints.
    pub directory: Arc<Directory>,
    /// Last contacts that are not written yet.
    pub contacts: ContactBook,
    /// As whom nodes were heard.
    pub identities: Identities,
    /// What nodes said of the contacts they had, as far as it was logged.
    pub contact_log: ContactLog,
    /// What other replicas were asked for.
    pub errands: Errands,
    /// Wakes whoever puts signed documents back that the database lost.
    pub heal: Notify,
    /// Wakes the removal of absent nodes: a policy or a node changed.
    pub absence: Notify,
    /// Operator sessions seen lately.
    pub known: Arc<KnownSessions>,
}

impl Serving {
    /// Serves nothing yet.
    pub fn new(watch: Arc<Watch>) -> Self {
        Self {
            keys: watch.keys.clone(),
            database: watch.database.clone(),
            watch,
            clusters: Clusters::default(),
            grants: RoleGrantMemory::default(),
            trust: TrustStore::new(),
            sessions: Arc::default(),
            directory: Arc::default(),
            contacts: ContactBook::default(),
            identities: Identities::default(),
            contact_log: ContactLog::default(),
            errands: Errands::default(),
            heal: Notify::new(),
            absence: Notify::new(),
            known: Arc::default(),
        }
    }
}

rap_types::debug_as!(Serving, |serving| "Serving({})", serving.keys.installation.facts.id);
