//! The doorbell: a notification that the outbox has new rows. Only the outbox is authoritative; a lost notification
//! delays a replica by one poll interval.

use std::time::Duration;

use rap_types::ClusterId;
use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::Instant;

use crate::Result;
use crate::pool::DatabaseTarget;
use crate::query::statements;
use crate::roles::DatabaseRole;

const CHANNEL: &str = "rap_outbox";

statements! {
    DOORBELL_RING = "SELECT pg_notify('rap_outbox', $1)";
}

/// Rings for `cluster` once the transaction of the connection is committed.
pub async fn doorbell_ring(connection: &mut PgConnection, cluster: ClusterId) -> Result<()> {
    sqlx::query(DOORBELL_RING).bind(cluster.to_string()).execute(connection).await?;
    Ok(())
}

/// Why [`Doorbell::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// This cluster's outbox has something new.
    Cluster(ClusterId),
    /// The poll interval passed, or the connection was lost meanwhile: look at every cluster.
    Poll,
}

/// Listens on a connection of its own, which is made again by itself when it is lost.
#[derive(Debug)]
pub struct Doorbell {
    target: DatabaseTarget,
    listener: Option<PgListener>,
}

impl Doorbell {
    /// A doorbell that connects at its first [`Self::wait`].
    pub fn new(target: &DatabaseTarget) -> Self {
        Self { target: target.clone(), listener: None }
    }

    /// Waits for a ring, at most `poll`. Never fails: without a connection it answers `Poll` after
    /// `poll`, and at once after it connected, because rings before that were not heard. Cancel safe.
    pub async fn wait(&mut self, poll: Duration) -> Ring {
        let deadline = Instant::now() + poll;
        if self.listener.is_none() {
            match tokio::time::timeout_at(deadline, self.connect()).await {
                Ok(Ok(listener)) => {
                    self.listener = Some(listener);
                    return Ring::Poll;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the doorbell cannot connect; polling"),
                Err(_) => tracing::warn!("the doorbell cannot connect in time; polling"),
            }
        }
        let Some(listener) = &mut self.listener else {
            tokio::time::sleep_until(deadline).await;
            return Ring::Poll;
        };
        match tokio::time::timeout_at(deadline, listener.try_recv()).await {
            Err(_) => Ring::Poll,
            Ok(Ok(Some(notification))) => notification.payload().parse().map_or(Ring::Poll, Ring::Cluster),
            Ok(Ok(None)) => {
                self.listener = None;
                Ring::Poll
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the doorbell lost its connection");
                self.listener = None;
                Ring::Poll
            }
        }
    }

    async fn connect(&self) -> Result<PgListener> {
        let options = self.target.options(DatabaseRole::System);
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}
