//! A new incarnation: after a database went back in time, nothing of the old one is signed again.

use rap_authority::next_incarnation;
use rap_store::{PgConnection, incarnation_raise};
use rap_types::Incarnation;

use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::watch::handle::Watch;

/// Stops serving incarnations up to `seen`, raises the cluster's above it, and wakes its publisher.
pub(crate) async fn raise_incarnation(
    watch: &Watch,
    cluster: &Cluster,
    seen: Incarnation,
) -> Result<(), Failure> {
    cluster.feed.end_incarnation(seen);
    let now = watch.clock.now().wall;
    let incarnation = next_incarnation(seen.0, now);
    let acting = Acting::alone("system", watch.keys.pen.clone(), now);
    let raised: Result<bool, Failure> = rap_store::transact!(watch.database.store.system(), |connection| {
        write(connection, &acting, cluster, incarnation).await
    });
    if raised? {
        tracing::error!(cluster = %cluster.id, incarnation, "a new incarnation begins");
    }
    cluster.wake.changed();
    Ok(())
}

async fn write(
    connection: &mut PgConnection,
    acting: &Acting,
    cluster: &Cluster,
    incarnation: u64,
) -> Result<bool, Failure> {
    if !incarnation_raise(connection, &cluster.rows, incarnation).await? {
        return Ok(false);
    }
    let reason = format!("the database is older than what was signed; incarnation {incarnation}");
    let change = Change::of("cluster.incarnation", format!("cluster/{}", cluster.id)).inside(cluster.id);
    change.because(reason).record(connection, acting).await?;
    Ok(true)
}
