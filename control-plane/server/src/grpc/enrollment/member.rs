//! Calls of members: certificate, leaving, key rotation. Each is proven by the identity key.

use rap_authority::{
    KeyRotation, ProofChannel, check_certificate_proof, check_leave_proof, check_rotation_proof,
    check_wireguard_key, ids,
};
use rap_contract::{PublicKey, RevocationKind};
use rap_runtime::tls::NodeIdentity;
use rap_store::{identity_read, node_read};
use rap_types::{ClusterId, Digest, NodeId, Reason};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::acts::remove_node::{NodeRemoval, write_leave};
use crate::acts::rotate_node_key::write_node_key;
use crate::auth::call::Call;
use crate::database::change::{Acting, Change};
use crate::failure::{Failure, refused};
use crate::grpc::answer::Answer;
use crate::replica::Replica;

pub(crate) async fn certificate(
    replica: &Replica,
    call: &Call,
    request: v1::CertificateRequest,
) -> Answer<v1::CertificateAnswer> {
    let Claim { nonce, key, node, cluster } =
        Claim::read(call, &request.nonce, &request.node_public_key, &request.node_id, &request.cluster_id)?;
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    check_certificate_proof(node, cluster, &key, &request.csr, &channel, &request.signature)
        .map_err(|_| refused())?;
    let cluster = replica.serving.cluster(cluster).await?.ok_or_else(refused)?;
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let revocations = replica.serving.revocations_now(&mut transaction, &cluster).await?.chain;
    let row = node_read(&mut transaction, &cluster.rows, node).await?.ok_or_else(refused)?;
    if row.node.cluster != cluster.id || row.node.node_public_key != *key.as_bytes() {
        return Err(refused());
    }
    let known = identity_read(&mut transaction, node).await?;
    drop(transaction);
    replica.serving.require_member(&row, &revocations)?;
    let doubt = known.filter(|known| known.key_generation == row.key_generation);
    if let Some(reason) = doubt.and_then(|known| Reason::from_code(&known.doubt)) {
        return Err(Failure::new(reason, "no new certificate while the identity of the node is doubted"));
    }
    let identity = NodeIdentity {
        installation: replica.keys.installation.facts.id,
        cluster: cluster.id,
        node,
        key_generation: row.key_generation,
    };
    let now = replica.watch.clock.now().wall;
    let serial = ids::random(&mut rand::rng());
    let (leaf, not_after) =
        cluster.ca.node_certificate(&identity, &request.csr, now, cluster.timing.leaf_lifetime, serial)?;
    let acting = call.acting(&replica.keys.pen, format!("node:{node}"), Some(&key));
    let change = Change::of("certificate.issue", format!("node/{node}")).inside(cluster.id);
    let change = change.owned_by(row.node.organization).after(Digest::of(&[&leaf]));
    commit!(&replica.serving, &acting, |transaction| Ok(change
        .clone()
        .record(transaction, &acting)
        .await?))?;
    Ok(v1::CertificateAnswer {
        leaf,
        cluster_ca: cluster.ca.certificate().to_vec(),
        not_after_ms: not_after.0,
    })
}

pub(crate) async fn leave(
    replica: &Replica,
    call: &Call,
    request: v1::LeaveRequest,
) -> Answer<v1::LeaveAnswer> {
    let Claim { nonce, key, node, cluster } =
        Claim::read(call, &request.nonce, &request.node_public_key, &request.node_id, &request.cluster_id)?;
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    check_leave_proof(node, cluster, &key, &channel, &request.signature).map_err(|_| refused())?;
    let cluster = replica.serving.cluster(cluster).await?.ok_or_else(refused)?;
    let acting = call.acting(&replica.keys.pen, format!("node:{node}"), Some(&key));
    let acting = Acting { reason: "it left".to_owned(), ..acting };
    let removal = NodeRemoval { kind: RevocationKind::Left, action: "node.leave" };
    let recorded = commit!(&replica.serving, &acting, |transaction| {
        write_leave(&replica.serving, transaction, &acting, &cluster, (node, &key), removal).await
    })?;
    Ok(v1::LeaveAnswer { revocation_sequence: recorded.known.chain.sequence() })
}

/// Who a call with a proof by an identity key says it is from. Nothing of it is proven yet.
struct Claim {
    /// Taken back from this connection.
    nonce: [u8; 32],
    key: PublicKey,
    node: NodeId,
    cluster: ClusterId,
}

impl Claim {
    fn read(call: &Call, nonce: &[u8], key: &[u8], node: &[u8], cluster: &[u8]) -> Result<Self, Failure> {
        let nonce = call.nonce(nonce)?;
        let key = node_key(key)?;
        let node = NodeId::from_slice(node).map_err(|_| refused())?;
        let cluster = ClusterId::from_slice(cluster).map_err(|_| refused())?;
        Ok(Self { nonce, key, node, cluster })
    }
}

/// A node key as sent; weak, short, long and non-canonical ones are refused at decode.
pub(crate) fn node_key(bytes: &[u8]) -> Result<PublicKey, Failure> {
    Ok(PublicKey::from_slice(bytes)?)
}

pub(crate) async fn rotate(
    replica: &Replica,
    call: &Call,
    request: v1::RotateKeyRequest,
) -> Answer<v1::RotateKeyAnswer> {
    let Claim { nonce, key, node, cluster } =
        Claim::read(call, &request.nonce, &request.node_public_key, &request.node_id, &request.cluster_id)?;
    let given = |bytes: &[u8]| !bytes.is_empty();
    let new_key =
        given(&request.new_node_public_key).then(|| node_key(&request.new_node_public_key)).transpose()?;
    let new_wireguard = given(&request.new_wireguard_public_key)
        .then(|| check_wireguard_key(&request.new_wireguard_public_key))
        .transpose()?;
    let rotation = KeyRotation { node, cluster, key, new_key, new_wireguard };
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    check_rotation_proof(&rotation, &channel, &request.signature, &request.new_signature)
        .map_err(|_| refused())?;
    let cluster = replica.serving.cluster(cluster).await?.ok_or_else(refused)?;
    let acting = call.acting(&replica.keys.pen, format!("node:{node}"), Some(&key));
    let key_generation = commit!(&replica.serving, &acting, |transaction| {
        write_node_key(&replica.serving, transaction, &acting, &cluster, &rotation).await
    })?;
    Ok(v1::RotateKeyAnswer { key_generation })
}
