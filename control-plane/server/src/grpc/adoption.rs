//! The service that shows clusters without keys and gives them keys; this file only routes.

use rap_rpc::v1::adoption_server::Adoption;
use rap_runtime::output::bounded;
use rap_store::cluster_read;
use rap_types::{Digest, Reason};
use rap_wire::v1;

use crate::acts::adopt_cluster;
use crate::acts::adopt_cluster::Look;
use crate::auth::actor::Actor;
use crate::database::change::REASON_CAP;
use crate::failure::Failure;
use crate::grpc::answer::{Answer, service};
use crate::replica::Replica;
use crate::serve::cluster::Cluster;
use crate::views::cluster::rows::{bare_cluster as bare_cluster_view, cluster as cluster_view};

service! {
    /// Adoption of `rap.fabric.v1`.
    AdoptionService: Adoption {
        adoption_look(ClusterRef) -> AdoptionLookAnswer: ClusterRead look;
        ensure_authority(EnsureAuthorityRequest) -> EnsureAuthorityAnswer: ClusterCreate ensure;
    }
}

async fn look(replica: &Replica, _: &Actor, request: v1::ClusterRef) -> Answer<v1::AdoptionLookAnswer> {
    let Some(Look { row, rows_in_it, verdict }) =
        adopt_cluster::look(&replica.serving, &request.cluster).await?
    else {
        let cluster = replica.serving.cluster_named(&request.cluster).await?;
        return Ok(v1::AdoptionLookAnswer {
            cluster: Some(served(replica, &cluster).await?),
            has_authority: true,
            ..v1::AdoptionLookAnswer::default()
        });
    };
    let (refused, why) = match verdict {
        Ok(()) => (String::new(), String::new()),
        Err(failure) => (failure.reason.to_string(), failure.message),
    };
    Ok(v1::AdoptionLookAnswer {
        cluster: Some(bare_cluster_view(&row)),
        has_authority: false,
        digest: adopt_cluster::digest(&row).to_vec(),
        lies_in_it: rows_in_it.iter().map(ToString::to_string).collect(),
        refused,
        why,
    })
}

async fn ensure(
    replica: &Replica,
    actor: &Actor,
    request: v1::EnsureAuthorityRequest,
) -> Answer<v1::EnsureAuthorityAnswer> {
    let seen = match request.digest.as_slice() {
        [] => None,
        digest => Some(Digest::from_slice(digest)?),
    };
    let reason = bounded(&request.reason, REASON_CAP);
    let (cluster, made) =
        adopt_cluster::ensure(&replica.serving, actor, &request.cluster, seen, &reason).await?;
    Ok(v1::EnsureAuthorityAnswer { cluster: Some(served(replica, &cluster).await?), made })
}

async fn served(replica: &Replica, cluster: &Cluster) -> Result<v1::Cluster, Failure> {
    let mut transaction = replica.database.store.system().begin().await?;
    let absent = || Failure::new(Reason::ResourceNotFound, "no such cluster");
    let row = cluster_read(&mut transaction, &cluster.rows).await?.ok_or_else(absent)?;
    Ok(cluster_view(&row, &cluster.authority.public()))
}
