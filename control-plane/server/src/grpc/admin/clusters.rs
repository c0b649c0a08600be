//! Clusters: create, list, show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rap_authority::{ClusterOrder, ClusterTiming, NewCluster, create_cluster, create_cluster_of, ids};
use rap_store::{
    ClusterRow, PgConnection, RowName, StoreError, audit_insert, bare_clusters, cluster_names, cluster_read,
    config_seq_allocate, installation_hold, outbox_append,
};
use rap_types::{Digest, Reason};
use rap_wire::v1;

use super::views;
use crate::adoption;
use crate::certificates::Authority;
use crate::clusters::insert_cluster;
use crate::control::Control;
use crate::findings::alarm_about_rows;
use crate::grpc::authority::imported_key;
use crate::grpc::{Actor, Failure, audit};
use crate::keys::require_current;

pub(super) async fn create(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::ClusterCreateRequest,
) -> Result<v1::Cluster, Failure> {
    let timing = timing(control, &request);
    let order = ClusterOrder { name: &request.name, ipv4_pool: &request.ipv4_pool, timing };
    let facts = &control.installation.facts;
    let now = control.clock.now().wall;
    let vouching = &control.installation.authority;
    let new = match request.imported_authority_seed.as_slice() {
        [] => create_cluster(facts.id, vouching, facts.dev, &order, now, &mut rand::rng())?,
        seed => {
            let authority = imported_key(seed)?;
            create_cluster_of(facts.id, vouching, facts.dev, &order, authority, now, &mut rand::rng())?
        }
    };
    let serial = ids::random(&mut rand::rng());
    let ca = Authority::generate(&format!("RAP cluster {}", new.id), now, serial)?;
    let done: Result<(), Failure> = rap_store::transact!(control.store.system(), |connection| {
        write(control, connection, actor, &new, &order, &ca).await
    });
    done?;
    let cluster = control
        .load_cluster(new.id)
        .await?
        .ok_or_else(|| Failure::new(Reason::ServerInternal, "a committed cluster is gone"))?;
    control.changed(&cluster).await;
    let row = read(control, &cluster).await?;
    Ok(views::cluster(&cluster, &row))
}

async fn write(
    control: &Control,
    connection: &mut PgConnection,
    actor: &Actor,
    new: &NewCluster,
    order: &ClusterOrder<'_>,
    ca: &Authority,
) -> Result<(), Failure> {
    let facts = &control.installation.facts;
    // Held against a rotation: what is sealed here stays readable.
    installation_hold(connection).await?;
    require_current(connection, &control.kek).await?;
    match insert_cluster(connection, facts, &control.keyring(), new, order.name, &order.timing, ca).await {
        Err(failure) if failure.reason == Reason::ResourceExists => {
            return Err(Failure::new(Reason::ResourceExists, "a cluster has this name or this key"));
        }
        outcome => outcome?,
    }
    let seq = config_seq_allocate(connection, new.id).await?;
    outbox_append(connection, new.id, seq, &["trust".to_owned(), "policy".to_owned()], false).await?;
    let digest = Some(Digest::of(&[&new.record]));
    let object = format!("cluster/{}", new.id);
    let entry = audit(&actor.audit_name(), "cluster.create", object, Some(new.id), digest, "", actor.call);
    audit_insert(connection, &actor.pen, &entry).await?;
    Ok(())
}

fn timing(control: &Control, request: &v1::ClusterCreateRequest) -> ClusterTiming {
    let defaults = &control.config.cluster;
    let or = |given: u64, default: Duration| if given == 0 { default } else { Duration::from_millis(given) };
    ClusterTiming {
        fresh_for: or(request.fresh_for_ms, defaults.fresh_for),
        degraded_for: or(request.degraded_for_ms, defaults.degraded_for),
        refresh_every: or(request.refresh_every_ms, defaults.refresh_every),
        leaf_lifetime: or(request.leaf_lifetime_ms, defaults.leaf_lifetime),
    }
}

pub(super) async fn list(
    control: &Arc<Control>,
    _: &Actor,
    _: v1::ClusterListRequest,
) -> Result<v1::ClusterListAnswer, Failure> {
    control.load_clusters().await?;
    let mut transaction = control.store.system().begin_snapshot().await?;
    let bare: BTreeMap<_, _> =
        bare_clusters(&mut transaction).await?.into_iter().map(|row| (row.cluster, row)).collect();
    let (mut clusters, mut tampered) = (Vec::new(), Vec::new());
    for (id, name) in cluster_names(&mut transaction).await? {
        let served = control.clusters.by_id(id);
        clusters.push(match (served, bare.get(&id)) {
            (None, Some(row)) => views::bare_cluster(row),
            (None, None) => views::refused_cluster(id, &name, control.clusters.refusal(id)),
            (Some(cluster), _) => match cluster_read(&mut transaction, &cluster.rows).await {
                Ok(row) => views::cluster(&cluster, &row.ok_or(StoreError::Absent)?),
                Err(StoreError::Tampered { table, key }) => {
                    tampered.push(RowName { table, key });
                    views::refused_cluster(id, &cluster.name, Reason::RowTampered)
                }
                Err(error) => return Err(error.into()),
            },
        });
    }
    drop(transaction);
    alarm_about_rows(control, &tampered).await;
    Ok(v1::ClusterListAnswer { clusters })
}

pub(super) async fn show(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::ClusterRef,
) -> Result<v1::Cluster, Failure> {
    match control.cluster_named(&request.cluster).await {
        Ok(cluster) => {
            let row = read(control, &cluster).await?;
            Ok(views::cluster(&cluster, &row))
        }
        Err(failure) if failure.reason == Reason::ClusterNoAuthority => {
            let row = adoption::bare(control, &request.cluster).await?.ok_or(failure)?;
            Ok(views::bare_cluster(&row))
        }
        Err(failure) => Err(failure),
    }
}

async fn read(control: &Control, cluster: &crate::clusters::Cluster) -> Result<ClusterRow, Failure> {
    let mut transaction = control.store.system().begin().await?;
    Ok(cluster_read(&mut transaction, &cluster.rows).await?.ok_or(StoreError::Absent)?)
}
