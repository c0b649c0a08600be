//! One round of publication: rows at one version -> plan -> signed head -> database -> streams.
//!
//! Owns the order: nothing is served that is not committed, and only stored bytes are served.

use std::sync::Arc;

use rap_authority::{DegradedPolicy, NodeLifecyclePolicy, PolicyError, known_features};
use rap_contract::{Expectation, HeadFacts, Reject, RevocationChain, Verified, sign};
use rap_planner::{ClusterRows, HeadTerms, LeafMemory, NodeRow, Plan, PlanError, Published, plan};
use rap_store::{
    HeadInsert, HeadRow, LeafRow, NewHeadRow, PgConnection, PlannerRows, StoreError, Transient, cluster_read,
    head_insert, leaves_record, planner_rows,
};
use rap_types::{Digest, HeadOrder, Incarnation, Reason, Refresh, Version};
use rap_wire::v1;

use crate::alarms::By;
use crate::clusters::Cluster;
use crate::control::Control;
use crate::grpc::Failure;
use crate::grpc::membership::policies_of;

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

/// Publishes the newest version, or signs the present one again if that is due.
pub async fn run(control: &Control, cluster: &Cluster) -> Result<(), RoundError> {
    let newest = cluster.feed.newest();
    let advanced = judge(control, cluster, newest.as_deref()).await;
    if let (Err(RoundError::Plan(_) | RoundError::Refused(..)), Some(published)) = (&advanced, &newest) {
        // Nothing new is signed; nodes keep the last version that was right.
        refresh(control, cluster, published).await?;
    }
    advanced
}

async fn judge(control: &Control, cluster: &Cluster, newest: Option<&Published>) -> Result<(), RoundError> {
    if let Some(published) = newest {
        // One row says whether the other ones need to be read.
        let mut transaction = control.store.system().begin().await?;
        let Some(row) = cluster_read(&mut transaction, &cluster.rows).await? else { return Ok(()) };
        drop(transaction);
        match published.order.durable().cmp(&(Incarnation(row.cluster.incarnation), Version(row.config_seq)))
        {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return refresh(control, cluster, published).await,
            std::cmp::Ordering::Greater => return Err(RoundError::Ahead(published.order.incarnation)),
        }
    }
    let known = cluster.revocations.known();
    let Some(rows) = planner_rows(control.store.system(), &cluster.rows, known.from()).await? else {
        return Ok(());
    };
    // The rows' incarnation belongs to one key, and only that key signs heads in it.
    match rows.authority_sequence.cmp(&cluster.chain.sequence()) {
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => return Err(RoundError::Rotated),
        std::cmp::Ordering::Less => return Err(RoundError::RecordsLost),
    }
    let known = control.judge_revocations(cluster, &known, &rows.revocations)?;
    control.learn_revocations(cluster, known.clone()).await?;
    advance(control, cluster, &rows, known.chain, newest).await?;
    // A version of whole rows is out: whatever row of them was alarmed is as it was written again.
    control.alarms.lower(cluster.id, By::Publisher, Reason::RowTampered);
    Ok(())
}

async fn advance(
    control: &Control,
    cluster: &Cluster,
    rows: &PlannerRows,
    revocations: Arc<RevocationChain>,
    newest: Option<&Published>,
) -> Result<(), RoundError> {
    let policies = policies_of(&rows.policies)?;
    let input = planner_input(control, rows, revocations, policies);
    let planned = Arc::new(plan(&input, &cluster.map_key, newest.map(|published| &*published.plan))?);
    let version = (planned.incarnation, planned.version);
    // After a restart, or when another replica was first: what is stored is what is served.
    if let Some(stored) = rows.head.as_ref().filter(|row| row.head.order.durable() == version) {
        return adopt(control, cluster, planned, stored);
    }
    if let Some(stored) = rows.head.as_ref().filter(|row| row.head.order.durable() > version) {
        return Err(RoundError::Ahead(stored.head.order.incarnation));
    }
    let previous = rows.first_head.as_ref().map(|row| row.head.digest);
    let order = HeadOrder { incarnation: planned.incarnation, version: planned.version, refresh: Refresh(0) };
    store(control, cluster, planned, order, previous).await
}

async fn refresh(control: &Control, cluster: &Cluster, published: &Published) -> Result<(), RoundError> {
    let age = control.clock.now().wall.since(published.issued_at);
    if age < cluster.timing.refresh_every {
        return Ok(());
    }
    let order = HeadOrder { refresh: Refresh(published.order.refresh.0 + 1), ..published.order };
    store(control, cluster, published.plan.clone(), order, published.previous).await
}

/// Signs, inserts, and serves what the database then holds for this order.
async fn store(
    control: &Control,
    cluster: &Cluster,
    planned: Arc<Plan>,
    order: HeadOrder,
    previous: Option<Digest>,
) -> Result<(), RoundError> {
    let terms = HeadTerms {
        issuer: cluster.authority.id(),
        refresh: order.refresh,
        previous,
        issued_at: control.clock.now().wall,
        fresh_for: cluster.timing.fresh_for,
        reconnect_window: control.config.pushing.reconnect_window,
        dev: control.installation.facts.dev,
    };
    let envelope = sign(&planned.head(&terms), &[&cluster.authority]);
    let (verified, facts) = open_head(control, cluster, &envelope)?;
    let new =
        NewHeadRow { cluster: cluster.id, order, envelope, root: facts.root, digest: verified.digest() };
    let leaves = changed_leaves(&planned, order);
    let outcome: Result<HeadInsert, RoundError> =
        rap_store::transact!(control.store.system(), |connection| {
            insert(connection, &new, &leaves).await
        });
    match outcome? {
        HeadInsert::Inserted => {
            control.metrics.head_signed();
            serve(cluster, planned, new.envelope, &facts);
        }
        HeadInsert::Lost(stored) => return adopt(control, cluster, planned, &stored),
    }
    Ok(())
}

fn adopt(
    control: &Control,
    cluster: &Cluster,
    planned: Arc<Plan>,
    stored: &HeadRow,
) -> Result<(), RoundError> {
    let (_, facts) = open_head(control, cluster, &stored.head.envelope)?;
    if facts.root != planned.tree.root() {
        cluster.feed.withdraw();
        return Err(RoundError::Divergence);
    }
    serve(cluster, planned, stored.head.envelope.clone(), &facts);
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    new: &NewHeadRow,
    leaves: &[LeafRow],
) -> Result<HeadInsert, RoundError> {
    let outcome = head_insert(connection, new).await?;
    if outcome == HeadInsert::Inserted && !leaves.is_empty() {
        leaves_record(connection, new.cluster, leaves).await?;
    }
    Ok(outcome)
}

fn serve(cluster: &Cluster, plan: Arc<Plan>, envelope: Vec<u8>, facts: &HeadFacts) {
    tracing::debug!(cluster = %cluster.id, order = %facts.order, "published");
    cluster.feed.publish(Published {
        plan,
        head: envelope.into(),
        order: facts.order,
        previous: facts.previous,
        issued_at: facts.issued_at,
        fresh_until: facts.fresh_until,
    });
}

/// Verifies a head of this cluster, at whatever time and by whichever of its keys it was signed.
pub fn open_head(
    control: &Control,
    cluster: &Cluster,
    envelope: &[u8],
) -> Result<(Verified<v1::ClusterHead>, HeadFacts), RoundError> {
    let facts = &control.installation.facts;
    let expect = Expectation {
        installation: Some(facts.id),
        cluster: Some(cluster.id),
        features: known_features(facts.dev),
        ..Expectation::default()
    };
    let head = HeadFacts::open(envelope, &cluster.chain.all_keys::<v1::ClusterHead>(), &expect)
        .map_err(RoundError::Stored)?;
    let owner = cluster.chain.key_at(head.1.order.incarnation.0).map(|key| key.id());
    if owner.as_ref() != head.0.signers().first() {
        let reject = Reject::new(Reason::KeyState, "signed outside the time of its key");
        return Err(RoundError::Stored(reject));
    }
    Ok(head)
}

fn changed_leaves(plan: &Plan, order: HeadOrder) -> Vec<LeafRow> {
    if order.refresh.0 > 0 {
        return Vec::new();
    }
    let changed = plan.nodes.iter().filter(|(_, node)| node.generation == plan.version.0);
    changed
        .map(|(id, node)| LeafRow {
            node: *id,
            incarnation: plan.incarnation.0,
            node_generation: node.generation,
            manifest_root: node.manifest_root,
        })
        .collect()
}

fn planner_input(
    control: &Control,
    rows: &PlannerRows,
    revocations: Arc<RevocationChain>,
    (policy, degraded): (NodeLifecyclePolicy, DegradedPolicy),
) -> ClusterRows {
    let row = &rows.cluster.cluster;
    let nodes = rows.nodes.iter().map(|stored| {
        let node = &stored.node;
        let memory = rows.leaves.iter().find(|leaf| leaf.node == node.node);
        NodeRow {
            node: node.node,
            name: node.name.clone(),
            node_public_key: node.node_public_key,
            wireguard_public_key: node.wireguard_public_key,
            organization: node.organization,
            roles: node.roles.clone(),
            tags: node.facts.tags.clone(),
            region: node.facts.region.clone(),
            link_endpoints: node.facts.link_endpoints.clone(),
            wireguard_endpoints: node.facts.wireguard_endpoints.clone(),
            host_number: node.host_number,
            key_generation: stored.key_generation,
            leaf: memory.map(|leaf| LeafMemory {
                generation: leaf.node_generation,
                manifest_root: leaf.manifest_root,
            }),
        }
    });
    ClusterRows {
        installation: control.installation.facts.id,
        cluster: row.cluster,
        name: row.name.clone(),
        incarnation: Incarnation(row.incarnation),
        version: Version(rows.cluster.config_seq),
        ipv4_pool: row.ipv4_pool,
        cluster_ca: rows.ca.cert_der.clone(),
        degraded_for_ms: row.degraded_for_ms,
        leaf_lifetime_ms: row.leaf_lifetime_ms,
        mtu: MTU,
        link_probe_interval_ms: LINK_PROBE_INTERVAL_MS,
        wireguard_keepalive_s: WIREGUARD_KEEPALIVE_S,
        nodes: nodes.collect(),
        gone: rows.gone.iter().map(|stored| stored.node.node).collect(),
        revocations,
        wireguard_key_max_age_ms: policy.wireguard_key_max_age_ms,
        identity_key_max_age_ms: policy.identity_key_max_age_ms,
        degraded_ends: degraded.ends,
        survive_forever_roles: degraded.survive_forever_roles,
    }
}

const MTU: u32 = 1280;
const LINK_PROBE_INTERVAL_MS: u32 = 1_000;
const WIREGUARD_KEEPALIVE_S: u32 = 25;
