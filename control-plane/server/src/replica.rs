//! One running control plane: its four handles, its configuration, tasks and audit log.
//!
//! Only `grpc`, `tasks`, `http` and `start` name it. What decides takes the handles it needs.

use std::sync::Arc;

use rap_runtime::TaskGroup;
use rap_types::Reason;

use crate::audit::log::AuditLog;
use crate::config::settings::Config;
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::handle::Serving;
use crate::watch::handle::Watch;

/// The running control plane.
#[derive(Debug)]
pub struct Replica {
    /// The resolved configuration.
    pub config: Arc<Config>,
    /// The keys of the installation.
    pub keys: Arc<Keys>,
    /// The database, and what is kept outside of it.
    pub database: Arc<Database>,
    /// Clock, counters and alarms.
    pub watch: Arc<Watch>,
    /// What is served.
    pub serving: Arc<Serving>,
    /// The audit tree.
    pub audit: Arc<AuditLog>,
    /// Every task of this process belongs to this group.
    pub tasks: TaskGroup,
}

impl Replica {
    /// Refuses what needs a database that takes writes.
    ///
    /// # Errors
    /// `server.unavailable`.
    pub fn require_ready(&self) -> Result<(), Failure> {
        self.watch.readiness.check(self.watch.clock.now().mono).map_err(|reason| {
            Failure::new(Reason::ServerUnavailable, format!("this replica is not ready ({reason})"))
        })
    }
}
