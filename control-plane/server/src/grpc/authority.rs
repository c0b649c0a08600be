//! The service of a cluster's keys: list, prepare, rotate, confirmations, taint, revoke, recover, and the
//! rotation of its data key and of its CA.
//!
//! Which step is legal is rap-authority's; every step runs under the cluster's lock, with its audit row, and this
//! replica goes by it at once.

use rap_contract::KeyState;
use rap_rpc::v1::authority_server::Authority;
use rap_store::authority_confirmations;
use rap_types::Reason;
use rap_wire::v1;

use crate::acts::change::commit;
use crate::acts::lock_cluster::find_cluster;
use crate::acts::retire_authority::write_step;
use crate::acts::rotate_authority::{KeyStep, NextKey, write_next_key};
use crate::acts::rotate_ca::{CaOrder, new_ca, write_ca_step};
use crate::acts::rotate_data_key;
use crate::auth::actor::Actor;
use crate::failure::Failure;
use crate::grpc::answer::{Answer, service};
use crate::keys::key_ring::Stage;
use crate::replica::Replica;
use crate::serve::authority_chain::StoredAuthority;
use crate::serve::confirmations::is_awaited;
use crate::views::cluster::authority::view;
use crate::views::cluster::ca;

service! {
    /// Authority of `rap.fabric.v1`.
    AuthorityService: Authority {
        authority_list(ClusterRef) -> AuthorityListAnswer: AuthorityRead list;
        authority_prepare(AuthorityKeyRequest) -> AuthorityListAnswer: AuthorityRotate prepare;
        authority_rotate(AuthorityKeyRequest) -> AuthorityListAnswer: AuthorityRotate rotate;
        authority_confirmations(ClusterRef) -> AuthorityConfirmationsAnswer: AuthorityRead confirmations;
        authority_taint(AuthorityStepRequest) -> AuthorityListAnswer: AuthorityRotate taint;
        authority_revoke(AuthorityStepRequest) -> AuthorityListAnswer: AuthorityRotate revoke;
        authority_recover(AuthorityKeyRequest) -> AuthorityListAnswer: AuthorityRecover recover;
        data_key_rotate(DataKeyRotateRequest) -> DataKeyRotateAnswer: DataKeyRotate rotate_data_key;
        cluster_ca_show(ClusterRef) -> ClusterCaAnswer: AuthorityRead show_ca;
        cluster_ca_rotate(ClusterCaRequest) -> ClusterCaAnswer: AuthorityRotate rotate_ca;
    }
}

async fn taint(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuthorityStepRequest,
) -> Answer<v1::AuthorityListAnswer> {
    step(replica, actor, &request, KeyState::Active, KeyState::Tainted).await
}

async fn revoke(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuthorityStepRequest,
) -> Answer<v1::AuthorityListAnswer> {
    step(replica, actor, &request, KeyState::Tainted, KeyState::Revoked).await
}

async fn step(
    replica: &Replica,
    actor: &Actor,
    request: &v1::AuthorityStepRequest,
    from: KeyState,
    to: KeyState,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find_cluster(&replica.watch, &request.cluster).await?;
    let acting = actor.acting(&request.reason);
    commit!(&replica.serving, &acting, |transaction| {
        write_step(&replica.serving, transaction, &acting, id, request, (from, to)).await?;
        view(&replica.keys, &replica.database, transaction, id).await
    })
}

async fn prepare(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuthorityKeyRequest,
) -> Answer<v1::AuthorityListAnswer> {
    next_key(replica, actor, &request, KeyStep::Prepare).await
}

async fn rotate(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuthorityKeyRequest,
) -> Answer<v1::AuthorityListAnswer> {
    next_key(replica, actor, &request, KeyStep::Rotate).await
}

async fn recover(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuthorityKeyRequest,
) -> Answer<v1::AuthorityListAnswer> {
    next_key(replica, actor, &request, KeyStep::Recover).await
}

async fn next_key(
    replica: &Replica,
    actor: &Actor,
    request: &v1::AuthorityKeyRequest,
    step: KeyStep,
) -> Result<v1::AuthorityListAnswer, Failure> {
    let id = find_cluster(&replica.watch, &request.cluster).await?;
    let next = NextKey::of(&replica.serving, id, request)?;
    let acting = actor.acting(&request.reason);
    commit!(&replica.serving, &acting, |transaction| {
        write_next_key(&replica.keys, &replica.database, transaction, &acting, id, &next, step).await?;
        view(&replica.keys, &replica.database, transaction, id).await
    })
}

async fn list(replica: &Replica, _: &Actor, request: v1::ClusterRef) -> Answer<v1::AuthorityListAnswer> {
    let id = find_cluster(&replica.watch, &request.cluster).await?;
    let mut snapshot = replica.database.store.system().begin_snapshot().await?;
    view(&replica.keys, &replica.database, &mut snapshot, id).await
}

async fn confirmations(
    replica: &Replica,
    _: &Actor,
    request: v1::ClusterRef,
) -> Answer<v1::AuthorityConfirmationsAnswer> {
    let id = find_cluster(&replica.watch, &request.cluster).await?;
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let facts = &replica.keys.installation.facts;
    let keyring = replica.keys.keyring(&replica.database.floors);
    let keys = keyring.rows(id, &keyring.read(&mut transaction, id).await?);
    let stored = StoredAuthority::read(&mut transaction, facts, &keys).await?;
    let rows = authority_confirmations(&mut transaction, id).await?;
    let (newest, now) = (stored.chain.sequence(), replica.watch.clock.now().wall);
    let nodes = rows.iter().map(|row| v1::AuthorityConfirmation {
        node_id: row.node.to_vec(),
        name: row.name.clone(),
        sequence: row.sequence.unwrap_or(0),
        confirmed_at_ms: row.confirmed_at.map_or(0, |at| at.0),
        last_seen_at_ms: row.last_seen_at.map_or(0, |at| at.0),
        awaited: is_awaited(&replica.serving, row, id, newest, now),
    });
    Ok(v1::AuthorityConfirmationsAnswer { sequence: newest, nodes: nodes.collect() })
}

async fn show_ca(replica: &Replica, _: &Actor, request: v1::ClusterRef) -> Answer<v1::ClusterCaAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    ca::view(&mut *replica.database.store.system().begin_snapshot().await?, &cluster).await
}

async fn rotate_ca(
    replica: &Replica,
    actor: &Actor,
    request: v1::ClusterCaRequest,
) -> Answer<v1::ClusterCaAnswer> {
    let id = find_cluster(&replica.watch, &request.cluster).await?;
    let (acting, now) = (actor.acting(&request.reason), replica.watch.clock.now().wall);
    let fresh = new_ca(id, now)?;
    let order = match v1::ClusterCaStep::try_from(request.step) {
        Ok(v1::ClusterCaStep::Begin) => CaOrder::Begin(&fresh),
        Ok(v1::ClusterCaStep::Advance) => CaOrder::Force,
        Ok(v1::ClusterCaStep::Abort) => CaOrder::Abort,
        Ok(v1::ClusterCaStep::Unspecified) | Err(_) => {
            return Err(Failure::new(Reason::RequestInvalid, "step: begin, advance or abort"));
        }
    };
    commit!(&replica.serving, &acting, |transaction| {
        write_ca_step(&replica.serving, transaction, &acting, id, order).await
    })?;
    show_ca(replica, actor, v1::ClusterRef { cluster: id.to_string() }).await
}

async fn rotate_data_key(
    replica: &Replica,
    actor: &Actor,
    request: v1::DataKeyRotateRequest,
) -> Answer<v1::DataKeyRotateAnswer> {
    let id = find_cluster(&replica.watch, &request.cluster).await?;
    let acting = actor.acting(request.reason);
    let rotated = rotate_data_key::rotate(&replica.serving, id, &acting, Stage::Retired).await?;
    Ok(v1::DataKeyRotateAnswer {
        cluster_id: id.to_vec(),
        version: rotated.version,
        replaced: rotated.replaced,
        resumed: rotated.resumed,
        secrets: rotated.secrets,
        rows: rotated.rows,
    })
}
