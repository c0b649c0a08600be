//! What a plan is made of, as one transaction sees it.

use std::cmp::Ordering;

use rap_contract::KnownRevocations;
use rap_planner::{ClusterRows, MapKey, Plan, PlanError, plan};
use rap_store::{HeadRow, PgConnection, planner_rows};
use rap_types::Digest;
use rap_types::sense::Loopback;

use crate::publish::head::RoundError;
use crate::publish::planner_rows::planner_input;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::serve::policies::policies_of;

/// What a plan is made of.
pub(crate) struct Input {
    pub(crate) rows: ClusterRows,
    /// Every row was read, and not only those that changed.
    pub(crate) whole: bool,
    pub(crate) head: Option<HeadRow>,
    /// Digest of the head at the tip of the chain.
    pub(crate) tip: Option<Digest>,
    /// The verified chain that was read with the rows. It is not in force yet.
    pub(crate) revocations: KnownRevocations,
}

/// Reads what changed since `base`, or every row; `loopback`: whether endpoints on the own host are published. `None` if there is no such cluster. The transaction is as
/// [`planner_rows`] wants it.
pub(crate) async fn read(
    serving: &Serving,
    connection: &mut PgConnection,
    (cluster, loopback): (&Cluster, Loopback),
    base: Option<&Plan>,
) -> Result<Option<Input>, RoundError> {
    let known = cluster.revocations.known();
    let since = base.map(|base| (base.incarnation.0, base.version.0));
    let read = planner_rows(connection, &cluster.rows, known.from(), since).await?;
    let Some(rows) = read else { return Ok(None) };
    // The rows' incarnation belongs to one key, and only that key signs heads in it.
    match rows.authority_sequence.cmp(&cluster.chain.sequence()) {
        Ordering::Equal => {}
        Ordering::Greater => return Err(RoundError::Rotated),
        Ordering::Less => return Err(RoundError::RecordsLost),
    }
    let revocations = serving.judge_revocations(cluster, &known, &rows.revocations)?;
    let policies = policies_of(&rows.policies)?;
    Ok(Some(Input {
        rows: planner_input(&serving.watch.keys, &rows, revocations.chain.clone(), policies, loopback)?,
        whole: rows.whole,
        head: rows.head,
        tip: rows.first_head.map(|row| row.head.digest),
        revocations,
    }))
}

impl Input {
    /// The plan after `base`; of all rows if every row was read. `None` if every row is needed and was not read.
    pub(crate) fn plan(&self, base: Option<&Plan>, map_key: &MapKey) -> Result<Option<Plan>, PlanError> {
        match base {
            _ if self.whole => plan(&self.rows, map_key).map(Some),
            Some(base) => base.next(&self.rows, map_key),
            None => Ok(None),
        }
    }
}
