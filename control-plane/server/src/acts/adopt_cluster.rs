//! Clusters whose row came from elsewhere: shown as what they are, and given keys by an operator's act.
//!
//! Owns the one way from a row without keys to a cluster. A row alone gives nothing, because anybody who
//! writes the database can make one: an operator who may create clusters has to adopt it, what it says is
//! admitted as if typed, and nothing that already lies in it comes along.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::{ClusterOrder, ClusterTiming, FloorOf, NewCluster, RowKeys, adopt_cluster, check_order};
use rap_planner::addressing::ipv6_prefix;
use rap_store::{
    BareClusterRow, PgConnection, RowsInCluster, SystemTransaction, bare_cluster_hold, bare_clusters,
    cluster_adopt, installation_hold, rows_in_cluster,
};
use rap_types::{ClusterId, Digest, Reason};

use crate::acts::change::commit;
use crate::acts::create_cluster::{cluster_row, insert_keys};
use crate::acts::policy::first_policies;
use crate::acts::rotate_ca::new_ca;
use crate::auth::actor::Actor;
use crate::database::change::Change;
use crate::database::handle::Database;
use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::handle::Keys;
use crate::keys::key_encryption_key::require_current;
use crate::serve::cluster::Cluster;
use crate::serve::clusters::is_meant;
use crate::serve::handle::Serving;
use crate::watch::handle::Watch;

/// What would be adopted.
#[derive(Debug)]
pub(crate) struct Look {
    /// The row.
    pub row: BareClusterRow,
    /// What already belongs to it.
    pub rows_in_it: Vec<RowsInCluster>,
    /// Whether it would be admitted.
    pub verdict: Result<(), Failure>,
}

/// The row of a cluster without keys, by name or id.
pub(crate) async fn bare(database: &Database, text: &str) -> Result<Option<BareClusterRow>, Failure> {
    let mut transaction = database.store.system().begin_snapshot().await?;
    named(&mut transaction, text).await
}

/// What such a row says, what lies in it, and whether it would be admitted; `None` if there is no such row.
pub(crate) async fn look(serving: &Serving, text: &str) -> Result<Option<Look>, Failure> {
    let mut transaction = serving.database.store.system().begin_snapshot().await?;
    let Some(row) = named(&mut transaction, text).await? else { return Ok(None) };
    let rows_in_it = rows_in_cluster(&mut transaction, row.cluster).await?;
    let verdict = judge(serving, &row, &rows_in_it);
    Ok(Some(Look { row, rows_in_it, verdict }))
}

/// Digest of what a row says: what an operator saw is what is adopted.
pub(crate) fn digest(row: &BareClusterRow) -> Digest {
    let numbers = [row.fresh_for_ms, row.refresh_every_ms, row.degraded_for_ms, row.leaf_lifetime_ms];
    let numbers = numbers.map(u64::to_be_bytes).concat();
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    Digest::of(&[
        b"rap.bare-cluster.v1\0",
        row.cluster.as_bytes(),
        &length(&row.name),
        row.name.as_bytes(),
        &length(&row.ipv4_pool),
        row.ipv4_pool.as_bytes(),
        &[u8::from(row.dev)],
        &numbers,
    ])
}

/// The cluster with this name or id, with keys: those it has, or new ones. True if they were made now.
///
/// # Errors
/// `request.conflict` if the row does not say what was `seen`; `request.invalid`, `row.tampered`,
/// `authority.mode_fixed`, `floor.rollback` for a row that is not admitted.
pub(crate) async fn ensure(
    serving: &Serving,
    actor: &Actor,
    text: &str,
    seen: Option<Digest>,
    reason: &str,
) -> Result<(Arc<Cluster>, bool), Failure> {
    let id = match serving.cluster_named(text).await {
        Ok(cluster) => return Ok((cluster, false)),
        Err(failure) if failure.reason == Reason::ClusterNoAuthority => {
            bare(&serving.database, text).await?.map(|row| row.cluster)
        }
        Err(failure) => return Err(failure),
    };
    // Gone from among the bare ones: another replica was first.
    let Some(id) = id else { return Ok((serving.cluster_named(text).await?, false)) };
    let made = commit!(serving, &actor.acting(reason), |transaction| {
        adopt(serving, transaction, actor, (id, text), seen, reason).await
    })?;
    let gone = || Failure::new(Reason::ResourceNotFound, "no such cluster");
    let cluster = serving.cluster(id).await?.ok_or_else(gone)?;
    if !is_meant(id, &cluster.name, text) {
        return Err(Failure::new(Reason::RequestConflict, "the cluster has another name"));
    }
    Ok((cluster, made))
}

/// False if the row has keys by now.
async fn adopt(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    actor: &Actor,
    (id, text): (ClusterId, &str),
    seen: Option<Digest>,
    reason: &str,
) -> Result<bool, Failure> {
    // Held against a rotation of the key encryption key: what is sealed here stays readable.
    installation_hold(transaction).await?;
    require_current(transaction, &serving.keys.kek).await?;
    let Some(row) = bare_cluster_hold(transaction, id).await? else { return Ok(false) };
    if seen.is_some_and(|seen| seen != digest(&row)) {
        return Err(Failure::new(Reason::RequestConflict, "the row does not say any more what was shown"));
    }
    if !is_meant(id, &row.name, text) {
        return Err(Failure::new(Reason::RequestConflict, "the row does not have this name any more"));
    }
    judge(serving, &row, &rows_in_cluster(transaction, id).await?)?;
    let order = order(&row);
    let (new, ca) = born(&serving.watch, id, &order)?;
    write(&serving.keys, &serving.database, transaction, &new, &order, &ca).await?;
    let change = Change::of("cluster.backfill", format!("cluster/{id}")).inside(id);
    let change = change.before(digest(&row)).after(Digest::of(&[&new.record]));
    let acting = actor.acting(reason);
    change.touches(id, ["trust", "policy"], false).record(transaction, &acting).await?;
    tracing::info!(cluster = %id, name = row.name, actor = actor.name, "a cluster got its keys");
    Ok(true)
}

fn born(
    watch: &Watch,
    id: ClusterId,
    order: &ClusterOrder<'_>,
) -> Result<(NewCluster, CertificateAuthority), Failure> {
    let installation = &watch.keys.installation;
    let (facts, now, random) = (&installation.facts, watch.clock.now().wall, &mut rand::rng());
    let new = adopt_cluster(facts.id, &installation.authority, facts.dev, id, order, now, random)?;
    let ca = new_ca(id, now)?;
    Ok((new, ca))
}

async fn write(
    keys: &Keys,
    database: &Database,
    transaction: &mut SystemTransaction,
    new: &NewCluster,
    order: &ClusterOrder<'_>,
    ca: &CertificateAuthority,
) -> Result<(), Failure> {
    let facts = &keys.installation.facts;
    let rows = RowKeys::of_cluster(facts.id, new.id, &new.data_key);
    let row = cluster_row(facts, new, order.name, &order.timing);
    cluster_adopt(transaction, &rows, &row).await?;
    insert_keys(transaction, facts, &keys.keyring(&database.floors), new, ca).await?;
    first_policies(transaction, &rows).await?;
    Ok(())
}

/// Whether a row is admitted.
fn judge(serving: &Serving, row: &BareClusterRow, rows_in_it: &[RowsInCluster]) -> Result<(), Failure> {
    check_order(row.cluster, &order(row))?;
    if row.dev != serving.keys.installation.facts.dev {
        return Err(Failure::new(Reason::AuthorityModeFixed, "the row is of another authority mode"));
    }
    let floors = serving.database.floors.current().unwrap_or_default();
    for of in [FloorOf::Authority, FloorOf::Revocations, FloorOf::DataKey].map(|of| of(row.cluster)) {
        if floors.of(of).is_some() {
            let text = format!("cluster {} had {} here, and its row has no keys", row.cluster, of.name());
            serving.watch.alarm(Reason::FloorRollback, &text);
            return Err(Failure::new(Reason::FloorRollback, text));
        }
    }
    if !rows_in_it.is_empty() {
        let named: Vec<String> = rows_in_it.iter().map(ToString::to_string).collect();
        let text = format!(
            "rows that this control plane did not write belong to the cluster ({}): remove them, their hosts join anew",
            named.join(", ")
        );
        return Err(Failure::new(Reason::RowTampered, text));
    }
    let prefix = ipv6_prefix(row.cluster);
    if serving.clusters.all().iter().any(|cluster| ipv6_prefix(cluster.id) == prefix) {
        return Err(Failure::new(Reason::OverlayOverlap, "another cluster has the IPv6 prefix of this id"));
    }
    Ok(())
}

fn order(row: &BareClusterRow) -> ClusterOrder<'_> {
    let timing = ClusterTiming {
        fresh_for: Duration::from_millis(row.fresh_for_ms),
        degraded_for: Duration::from_millis(row.degraded_for_ms),
        refresh_every: Duration::from_millis(row.refresh_every_ms),
        leaf_lifetime: Duration::from_millis(row.leaf_lifetime_ms),
    };
    ClusterOrder { name: &row.name, ipv4_pool: &row.ipv4_pool, timing }
}

/// The one that a text means: what reads as an id is one, everything else is a whole name.
async fn named(connection: &mut PgConnection, text: &str) -> Result<Option<BareClusterRow>, Failure> {
    let rows = bare_clusters(connection).await?;
    let mut meant = rows.into_iter().filter(|row| is_meant(row.cluster, &row.name, text));
    match (meant.next(), meant.next()) {
        (Some(_), Some(_)) => {
            Err(Failure::new(Reason::RequestConflict, "two rows have this name: give the id"))
        }
        (row, _) => Ok(row),
    }
}
