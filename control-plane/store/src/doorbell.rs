//! The doorbell: a notification that the outbox has new rows. Only the outbox is authoritative; a lost notification
//! delays a replica by one poll interval.

use std::time::Duration;

use rap_types::ClusterId;
use sqlx::PgConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::Instant;

use crate::Result;
use crate::pool::DatabaseTarget;
use crate::query::{done, statements};
use crate::roles::DatabaseRole;

const CHANNEL: &str = "rap_outbox";
/// What replicas tell each other.
const TOLD: &str = "rap_told";

statements! {
    DOORBELL_RING = "SELECT pg_notify('rap_outbox', $1)";
    /// Tells every replica that listens, this one included, once the transaction of the connection is committed. A
    /// text has at most 7999 bytes.
    pub async fn doorbell_tell(text: &str) -> () = done "SELECT pg_notify('rap_told', $1)";
}

/// Rings for `cluster` once the transaction of the connection is committed.
pub async fn doorbell_ring(connection: &mut PgConnection, cluster: ClusterId) -> Result<()> {
    sqlx::query(DOORBELL_RING).bind(cluster.to_string()).execute(connection).await?;
    Ok(())
}

/// Why [`Doorbell::wait`] returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorbellSignal {
    /// This cluster's outbox has something new.
    Cluster(ClusterId),
    /// A replica told this. Whoever can write the database can tell, too.
    Told(String),
    /// It listens from now on: what was told before was not heard. Look at every cluster.
    Begun,
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
    /// `poll`, and `Begun` at once after it connected. Cancel safe.
    pub async fn wait(&mut self, poll: Duration) -> DoorbellSignal {
        let deadline = Instant::now() + poll;
        if self.listener.is_none() {
            match tokio::time::timeout_at(deadline, self.connect()).await {
                Ok(Ok(listener)) => {
                    self.listener = Some(listener);
                    return DoorbellSignal::Begun;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the doorbell cannot connect; polling"),
                Err(_) => tracing::warn!("the doorbell cannot connect in time; polling"),
            }
        }
        let Some(listener) = &mut self.listener else {
            tokio::time::sleep_until(deadline).await;
            return DoorbellSignal::Poll;
        };
        match tokio::time::timeout_at(deadline, listener.try_recv()).await {
            Err(_) => DoorbellSignal::Poll,
            Ok(Ok(Some(told))) if told.channel() == TOLD => DoorbellSignal::Told(told.payload().to_owned()),
            Ok(Ok(Some(notification))) => {
                notification.payload().parse().map_or(DoorbellSignal::Poll, DoorbellSignal::Cluster)
            }
            Ok(Ok(None)) => {
                self.listener = None;
                DoorbellSignal::Poll
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the doorbell lost its connection");
                self.listener = None;
                DoorbellSignal::Poll
            }
        }
    }

    async fn connect(&self) -> Result<PgListener> {
        let options = self.target.options(DatabaseRole::System);
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen_all([CHANNEL, TOLD]).await?;
        Ok(listener)
    }
}
