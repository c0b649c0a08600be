//! Signs a version, stores it, and serves what the database then holds for its order.

use std::sync::Arc;

use rap_contract::{HeadFacts, sign};
use rap_planner::{HeadTerms, Plan, Published};
use rap_store::{
    HeadInsert, HeadRow, LeafRow, NewHeadRow, PgConnection, head_insert, head_insert_first, leaves_record,
};
use rap_types::{Digest, HeadOrder};

use crate::config::settings::Config;
use crate::keys::handle::Keys;
use crate::publish::head::{RoundError, open_head};
use crate::serve::cluster::Cluster;
use crate::watch::handle::Watch;

/// Signs, inserts, and serves what the database then holds for this order.
pub(crate) async fn sign_version(
    watch: &Watch,
    config: &Config,
    cluster: &Cluster,
    planned: Arc<Plan>,
    order: HeadOrder,
    previous: Option<Digest>,
) -> Result<(), RoundError> {
    let terms = HeadTerms {
        issuer: cluster.authority.id(),
        refresh: order.refresh,
        previous,
        issued_at: watch.clock.now().wall,
        fresh_for: cluster.timing.fresh_for,
        reconnect_window: config.pushing.reconnect_window,
        dev: watch.keys.installation.facts.dev,
    };
    let envelope = sign(&planned.head(&terms), &[&cluster.authority]);
    let (verified, facts) = open_head(&watch.keys, cluster, &envelope)?;
    let new =
        NewHeadRow { cluster: cluster.id, order, envelope, root: facts.root, digest: verified.digest() };
    let leaves = changed_leaves(&planned, order);
    let outcome: Result<HeadInsert, RoundError> =
        rap_store::transact!(watch.database.store.system(), |connection| {
            insert(connection, &new, previous, &leaves).await
        });
    match outcome? {
        HeadInsert::Inserted => {
            tracing::trace!(way = "the head is signed and stored");
            watch.metrics.head_signed();
            serve(cluster, planned, new.envelope, &facts);
        }
        HeadInsert::Overtaken => return Err(RoundError::Overtaken),
        HeadInsert::Lost(stored) => {
            let (_, other) = open_head(&watch.keys, cluster, &stored.head.envelope)?;
            // Of other rows, or of the same after other heads: not what was planned here.
            if other.root != facts.root && other.previous != previous {
                return Err(RoundError::Overtaken);
            }
            return adopt(&watch.keys, cluster, planned, &stored);
        }
    }
    Ok(())
}

pub(crate) fn adopt(
    keys: &Keys,
    cluster: &Cluster,
    planned: Arc<Plan>,
    stored: &HeadRow,
) -> Result<(), RoundError> {
    let (_, facts) = open_head(keys, cluster, &stored.head.envelope)?;
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
    previous: Option<Digest>,
    leaves: &[LeafRow],
) -> Result<HeadInsert, RoundError> {
    if new.order.refresh.0 > 0 {
        return Ok(head_insert(connection, new).await?);
    }
    let outcome = head_insert_first(connection, new, previous).await?;
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
            manifest_root: node.manifest.root(),
        })
        .collect()
}
