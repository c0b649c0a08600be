//! The plan that an act would lead to, without the act.
//!
//! Owns the transaction that is always rolled back. Refuses to own the act: its write half runs on the
//! connection of the preview.
//!
//! Why this is sound: the transaction holds the cluster's row from its first statement on. So no other change
//! commits between the two plans, and their difference is what the act alone does.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::RevocationChain;
use rap_planner::Plan;
use rap_store::{SystemTransaction, cluster_hold, statements_within};
use rap_types::Reason;
use rap_types::sense::Loopback;
use tokio::time::Instant;

use crate::failure::{Failure, unknown_cluster};
use crate::publish::head::RoundError;
use crate::publish::input::read;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

/// A transaction that holds the cluster's row and is rolled back.
pub(crate) struct Preview<'a> {
    serving: &'a Serving,
    cluster: &'a Cluster,
    /// Whether endpoints on the own host are published.
    loopback: Loopback,
    /// What a write half runs on.
    pub(crate) transaction: SystemTransaction,
    /// When the caller gives up. A statement that runs then ends at most [`HALF`] later.
    pub(crate) deadline: Instant,
}

/// Half of the longest time that a preview holds the cluster's row.
const HALF: Duration = Duration::from_secs(1);

impl<'a> Preview<'a> {
    /// Waits for the cluster's row, no longer than an act does.
    pub(crate) async fn begin(
        serving: &'a Serving,
        cluster: &'a Cluster,
        loopback: Loopback,
    ) -> Result<Self, Failure> {
        let mut transaction = serving.database.store.system().begin().await?;
        cluster_hold(&mut transaction, &cluster.rows).await?.ok_or_else(unknown_cluster)?;
        let deadline = Instant::now() + HALF;
        statements_within(&mut transaction, HALF).await?;
        Ok(Self { serving, cluster, loopback, transaction, deadline })
    }

    /// The plan of the rows as they are without the act: what is published, with what is not published yet.
    pub(crate) async fn plan_before(&mut self) -> Result<Arc<Plan>, Failure> {
        let published = self.cluster.feed.newest().map(|newest| newest.plan.clone());
        let plan = self.plan_after(published.as_deref(), None).await?;
        Ok(published.filter(|published| published.version == plan.version).unwrap_or_else(|| Arc::new(plan)))
    }

    /// The plan of the rows as they are now, after `base`; with `revocations` instead of those that are stored.
    pub(crate) async fn plan_after(
        &mut self,
        base: Option<&Plan>,
        revocations: Option<Arc<RevocationChain>>,
    ) -> Result<Plan, Failure> {
        let mut base = base;
        loop {
            let input = read(self.serving, &mut self.transaction, (self.cluster, self.loopback), base)
                .await
                .map_err(refusal)?;
            let mut input = input.ok_or_else(unknown_cluster)?;
            if let Some(supposed) = &revocations {
                input.rows.revocations = supposed.clone();
            }
            match input.plan(base, &self.cluster.map_key).map_err(|error| refusal(error.into()))? {
                Some(plan) => return Ok(plan),
                None => base = None,
            }
        }
    }

    /// Rolls back. Nothing that was written on the connection remains.
    pub(crate) async fn end(self) {
        // A connection that is lost rolls back as well.
        let _ended = self.transaction.rollback().await;
    }
}

fn refusal(error: RoundError) -> Failure {
    match error {
        RoundError::Store(error) => error.into(),
        RoundError::Plan(error) => Failure::new(error.reason(), error.to_string()),
        RoundError::Refused(reason, text) => Failure::new(reason, text),
        other => Failure::new(Reason::RequestConflict, format!("{other}; try again")),
    }
}
