//! A new incarnation: after a database went back in time, nothing of the old one is signed again.

use rap_authority::{ids, next_incarnation};
use rap_store::{PgConnection, audit_insert, incarnation_raise};
use rap_types::{Incarnation, RequestId};

use crate::database::audit_row::audit_row;
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster::Cluster;
use crate::watch::handle::Watch;

/// Stops serving incarnations up to `seen`, raises the cluster's above it, and wakes its publisher.
pub async fn raise_incarnation(watch: &Watch, cluster: &Cluster, seen: Incarnation) -> Result<(), Failure> {
    cluster.feed.end_incarnation(seen);
    let now = watch.clock.now().wall;
    let incarnation = next_incarnation(seen.0, now);
    let call = RequestId::from_parts(ids::millis(now), ids::random(&mut rand::rng()));
    let raised: Result<bool, Failure> = rap_store::transact!(watch.database.store.system(), |connection| {
        write(&watch.keys, connection, cluster, incarnation, call).await
    });
    if raised? {
        tracing::error!(cluster = %cluster.id, incarnation, "a new incarnation begins");
    }
    cluster.wake.notify_one();
    Ok(())
}

async fn write(
    keys: &Keys,
    connection: &mut PgConnection,
    cluster: &Cluster,
    incarnation: u64,
    call: RequestId,
) -> Result<bool, Failure> {
    if !incarnation_raise(connection, &cluster.rows, incarnation).await? {
        return Ok(false);
    }
    let object = format!("cluster/{}", cluster.id);
    let reason = format!("the database is older than what was signed; incarnation {incarnation}");
    let entry = audit_row("system", "cluster.incarnation", object, Some(cluster.id), None, &reason, call);
    audit_insert(connection, &keys.pen, &entry).await?;
    Ok(true)
}
