//! A new incarnation: after a database went back in time, nothing of the old one is signed again.

use rap_authority::next_incarnation;
use rap_store::{SystemTransaction, incarnation_raise};
use rap_types::Incarnation;

use crate::acts::change::commit;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

/// Stops serving incarnations up to `seen`, raises the cluster's above it, and wakes its publisher.
pub(crate) async fn raise_incarnation(
    serving: &Serving,
    cluster: &Cluster,
    seen: Incarnation,
) -> Result<(), Failure> {
    cluster.feed.end_incarnation(seen);
    let now = serving.watch.clock.now().wall;
    let incarnation = next_incarnation(seen.0, now);
    let acting = Acting::alone("system", serving.keys.pen.clone(), now);
    let raised = commit!(serving, &acting, |transaction| {
        transaction.effects.touched.insert(cluster.id, false);
        write(transaction, &acting, cluster, incarnation).await
    })?;
    if raised {
        tracing::error!(cluster = %cluster.id, incarnation, "a new incarnation begins");
    }
    Ok(())
}

async fn write(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    incarnation: u64,
) -> Result<bool, Failure> {
    if !incarnation_raise(transaction, &cluster.rows, incarnation).await? {
        return Ok(false);
    }
    let reason = format!("the database is older than what was signed; incarnation {incarnation}");
    let change = Change::of("cluster.incarnation", format!("cluster/{}", cluster.id)).inside(cluster.id);
    change.because(reason).record(transaction, acting).await?;
    Ok(true)
}
