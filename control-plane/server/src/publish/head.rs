//! Verifies the heads of a cluster; and why a round published nothing.

use rap_authority::{PolicyError, known_features};
use rap_contract::{Expectation, HeadFacts, Reject, Verified};
use rap_planner::PlanError;
use rap_store::{StoreError, Transient};
use rap_types::{Incarnation, Reason};
use rap_wire::v1;

use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster::Cluster;

/// Why a round published nothing.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
    /// The rows contradict each other.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The chain of revocations, a policy or this replica's floor forbids it.
    #[error("{0}: {1}")]
    Refused(Reason, String),
    /// A stored head does not verify.
    #[error("a stored head does not verify: {0}")]
    Stored(Reject),
    /// Another replica, or this one before, signed another root for this version.
    #[error("planner.divergence: two roots for one version")]
    Divergence,
    /// The chain of heads goes on from another head than the rows that were read.
    #[error("another replica published meanwhile")]
    Overtaken,
    /// The rows are of an authority that this process has not loaded yet.
    #[error("another authority speaks for the cluster since")]
    Rotated,
    /// The rows lack authority records that this process served.
    #[error("the database has fewer authority records than were served")]
    RecordsLost,
    /// What was published is newer than the database.
    #[error("the database is older than what was published")]
    Ahead(Incarnation),
}

impl From<StoreError> for RoundError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Tampered { .. } => Self::Refused(error.reason(), error.to_string()),
            error => Self::Store(error),
        }
    }
}

impl From<Failure> for RoundError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.reason, failure.message)
    }
}

impl From<PolicyError> for RoundError {
    fn from(error: PolicyError) -> Self {
        Self::Refused(error.reason(), error.to_string())
    }
}

impl Transient for RoundError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Verifies a head of this cluster, at whatever time and by whichever of its keys it was signed.
pub fn open_head(
    keys: &Keys,
    cluster: &Cluster,
    envelope: &[u8],
) -> Result<(Verified<v1::ClusterHead>, HeadFacts), RoundError> {
    let facts = &keys.installation.facts;
    let expect = Expectation::within(facts.id, cluster.id, known_features(facts.dev));
    let head = HeadFacts::open(envelope, &cluster.chain.all_keys::<v1::ClusterHead>(), &expect)
        .map_err(RoundError::Stored)?;
    let owner = cluster.chain.key_at(head.1.order.incarnation.0).map(|key| key.id());
    if owner.as_ref() != head.0.signers().first() {
        let reject = Reject::new(Reason::KeyState, "signed outside the time of its key");
        return Err(RoundError::Stored(reject));
    }
    Ok(head)
}
