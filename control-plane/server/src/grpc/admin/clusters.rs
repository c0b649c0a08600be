//! Clusters: create, list, show.

use std::collections::BTreeMap;
use std::time::Duration;

use rap_authority::{ClusterOrder, ClusterTiming, create_cluster, create_cluster_of};
use rap_store::{RowName, StoreError, bare_clusters, cluster_names, cluster_read};
use rap_types::Reason;
use rap_wire::v1;

use crate::acts::adopt_cluster;
use crate::acts::change::commit;
use crate::acts::create_cluster::write_cluster;
use crate::acts::lock_cluster::imported_key;
use crate::acts::rotate_ca::new_ca;
use crate::auth::actor::Actor;
use crate::grpc::answer::Answer;
use crate::replica::Replica;
use crate::views::cluster::{ca, rows};
use crate::watch::raise::alarm_about_rows;

pub(crate) async fn create(
    replica: &Replica,
    actor: &Actor,
    request: v1::ClusterCreateRequest,
) -> Answer<v1::Cluster> {
    let timing = timing(replica, &request);
    let order = ClusterOrder { name: &request.name, ipv4_pool: &request.ipv4_pool, timing };
    let facts = &replica.keys.installation.facts;
    let now = replica.watch.clock.now().wall;
    let vouching = &replica.keys.installation.authority;
    let new = match request.imported_authority_seed.as_slice() {
        [] => create_cluster(facts.id, vouching, facts.dev, &order, now, &mut rand::rng())?,
        seed => {
            let authority = imported_key(seed)?;
            create_cluster_of(facts.id, vouching, facts.dev, &order, authority, now, &mut rand::rng())?
        }
    };
    let ca = new_ca(new.id, now)?;
    let acting = actor.acting("");
    let row = commit!(&replica.serving, &acting, |transaction| {
        write_cluster(&replica.keys, &replica.database, transaction, &acting, &new, &order, &ca).await
    })?;
    Ok(rows::cluster(&row, &new.authority.public()))
}

fn timing(replica: &Replica, request: &v1::ClusterCreateRequest) -> ClusterTiming {
    let defaults = &replica.config.cluster;
    let or = |given: u64, default: Duration| if given == 0 { default } else { Duration::from_millis(given) };
    ClusterTiming {
        fresh_for: or(request.fresh_for_ms, defaults.fresh_for),
        degraded_for: or(request.degraded_for_ms, defaults.degraded_for),
        refresh_every: or(request.refresh_every_ms, defaults.refresh_every),
        leaf_lifetime: or(request.leaf_lifetime_ms, defaults.leaf_lifetime),
    }
}

pub(crate) async fn list(
    replica: &Replica,
    _: &Actor,
    _: v1::ClusterListRequest,
) -> Answer<v1::ClusterListAnswer> {
    replica.serving.load_clusters().await?;
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let bare: BTreeMap<_, _> =
        bare_clusters(&mut transaction).await?.into_iter().map(|row| (row.cluster, row)).collect();
    let (mut clusters, mut tampered) = (Vec::new(), Vec::new());
    for (id, name) in cluster_names(&mut transaction).await? {
        let served = replica.serving.clusters.by_id(id);
        clusters.push(match (served, bare.get(&id)) {
            (None, Some(row)) => rows::bare_cluster(row),
            (None, None) => rows::refused_cluster(id, &name, replica.serving.clusters.refusal(id)),
            (Some(cluster), _) => match cluster_read(&mut transaction, &cluster.rows).await {
                Ok(row) => rows::cluster(&row.ok_or(StoreError::Absent)?, &cluster.authority.public()),
                Err(StoreError::Tampered { table, key }) => {
                    tampered.push(RowName { table, key });
                    rows::refused_cluster(id, &cluster.name, Reason::RowTampered)
                }
                Err(error) => return Err(error.into()),
            },
        });
    }
    drop(transaction);
    alarm_about_rows(&replica.watch, &tampered).await;
    Ok(v1::ClusterListAnswer { clusters })
}

pub(crate) async fn show(replica: &Replica, _: &Actor, request: v1::ClusterRef) -> Answer<v1::Cluster> {
    match replica.serving.cluster_named(&request.cluster).await {
        Ok(cluster) => {
            let mut transaction = replica.database.store.system().begin_snapshot().await?;
            let row = cluster_read(&mut transaction, &cluster.rows).await?.ok_or(StoreError::Absent)?;
            let ca_rotation = ca::rotation(&mut transaction, &cluster).await?;
            Ok(v1::Cluster { ca_rotation, ..rows::cluster(&row, &cluster.authority.public()) })
        }
        Err(failure) if failure.reason == Reason::ClusterNoAuthority => {
            let row = adopt_cluster::bare(&replica.database, &request.cluster).await?.ok_or(failure)?;
            Ok(rows::bare_cluster(&row))
        }
        Err(failure) => Err(failure),
    }
}
