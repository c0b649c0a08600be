//! Certificates: first leaf and renewal, authenticated by the identity key alone.

use std::sync::Arc;

use rap_authority::{ProofChannel, check_certificate_proof, ids};
use rap_runtime::tls::NodeIdentity;
use rap_store::{audit_insert, node_read};
use rap_types::Digest;
use rap_wire::v1;

use super::{Claim, refused};
use crate::control::Control;
use crate::grpc::{Call, Failure, audit};

pub(super) async fn certificate(
    control: &Arc<Control>,
    call: &Call,
    request: v1::CertificateRequest,
) -> Result<v1::CertificateAnswer, Failure> {
    let Claim { nonce, key, node, cluster } =
        Claim::read(call, &request.nonce, &request.node_public_key, &request.node_id, &request.cluster_id)?;
    let channel = ProofChannel { nonce: &nonce, exporter: call.channel.exporter() };
    check_certificate_proof(node, cluster, &key, &request.csr, &channel, &request.signature)
        .map_err(|_| refused())?;
    let cluster = control.cluster(cluster).await?.ok_or_else(refused)?;
    let known = cluster.revocations.known();
    let mut transaction = control.store.system().begin().await?;
    let revocations = control.revocations(&mut transaction, &cluster, &known).await?.chain;
    let row = node_read(&mut transaction, &cluster.rows, node).await?.ok_or_else(refused)?;
    if row.node.cluster != cluster.id || row.node.node_public_key != *key.as_bytes() {
        return Err(refused());
    }
    control.require_member(&row, &revocations)?;
    let identity = NodeIdentity {
        installation: control.installation.facts.id,
        cluster: cluster.id,
        node,
        key_generation: row.key_generation,
    };
    let now = control.clock.now().wall;
    let serial = ids::random(&mut rand::rng());
    let (leaf, not_after) =
        cluster.ca.node_leaf(&identity, &request.csr, now, cluster.timing.leaf_lifetime, serial)?;
    let object = format!("node/{node}");
    let digest = Some(Digest::of(&[&leaf]));
    let mut entry =
        audit(&format!("node:{node}"), "certificate.issue", object, Some(cluster.id), digest, "", call.id);
    entry.organization = row.node.organization;
    let pen = control.pen.of_device(call.device(Some(&key)));
    audit_insert(&mut transaction, &pen, &entry).await?;
    transaction.commit().await.map_err(rap_store::StoreError::from)?;
    Ok(v1::CertificateAnswer {
        leaf,
        cluster_ca: cluster.ca.certificate().to_vec(),
        not_after_ms: not_after.0,
    })
}
