//! Records the use of a break-glass grant, once.

use rap_authority::check_endpoints;
use rap_contract::{
    BreakGlassExpectation, BreakGlassText, FEATURE_DEV, PublicKey, Reject, VerifiedBreakGlass,
};
use rap_planner::addressing;
use rap_store::{NewBreakGlassUse, SystemTransaction, break_glass_use_insert, node_by_name};
use rap_types::sense::{Loopback, OverlayPools};
use rap_types::{KeyId, NodeId, Reason, Wall};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::auth::call::Call;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

/// Refuses to admit a peer that no node could use, that the chain of revocations bars, or that has another node's name.
///
/// # Errors
/// `break_glass.conflict`, `node.revoked`, `request.invalid`; those of the database.
pub(crate) async fn check_peer(
    serving: &Serving,
    cluster: &Cluster,
    loopback: Loopback,
    peer: &v1::PeerRecord,
) -> Result<(), Failure> {
    check_endpoints(&peer.link_endpoints, loopback)?;
    check_endpoints(&peer.wireguard_endpoints, loopback)?;
    let conflict = |what: &str| Failure::new(Reason::BreakGlassConflict, what);
    let pools = OverlayPools::of(cluster.ipv4_pool, addressing::ipv6_prefix(cluster.id)).map_err(conflict)?;
    pools.hosts(&peer.overlay_ipv4, &peer.overlay_ipv6).map_err(conflict)?;
    let node = NodeId::from_slice(&peer.node_id)?;
    let chain = cluster.revocations.known().chain;
    let barred = KeyId::from_slice(&peer.node_key_sha256).is_ok_and(|key| chain.bars(&key));
    if barred || chain.gone(node).is_some() {
        return Err(Failure::new(Reason::NodeRevoked, "the peer is revoked"));
    }
    let mut transaction = serving.database.store.system().begin().await?;
    let named = node_by_name(&mut transaction, &cluster.rows, &peer.name).await?;
    if named.is_some_and(|named| named.node.node != node) {
        return Err(conflict("the name is another node's"));
    }
    Ok(())
}

/// Takes a use that a node tells into the audit log, once. The answer is for the node: it tells no more.
///
/// # Errors
/// Those of the database: nothing is confirmed then, and the node tells again.
pub(crate) async fn record_use(
    serving: &Serving,
    cluster: &Cluster,
    node: NodeId,
    call: &Call,
    told: &v1::BreakGlassUse,
) -> Result<v1::BreakGlassAck, Failure> {
    let file = BreakGlassText::decode(&told.file)?;
    let digest = file.digest()?.to_vec();
    let grant = match open(&serving.keys, cluster, node, &file) {
        Ok(grant) => grant,
        Err(reject) => {
            serving.watch.metrics.rejected(reject.reason);
            serving.watch.metrics.alarmed(reject.reason);
            let reason = reject.reason;
            tracing::error!(alarm = true, %reason, %node, "a node tells of a break-glass grant that is none");
            return Ok(v1::BreakGlassAck { digest, reason: reason.code().to_owned() });
        }
    };
    let new = NewBreakGlassUse {
        cluster: cluster.id,
        node,
        grant: grant.digest(),
        permit: grant.permit().to_owned(),
        signer: grant.by().as_str().to_owned(),
        reason: grant.reason().to_owned(),
        expires_at: grant.expires_at(),
        // The node's clock is not trusted further than the grant itself.
        applied_at: Wall(told.applied_at_ms).max(grant.issued_at()).min(grant.expires_at()),
    };
    let acting = call.acting(&serving.keys.pen, format!("node:{node}"), None);
    let recorded = commit!(serving, &acting, |transaction| burn(transaction, &acting, &new).await)?;
    if recorded {
        tracing::warn!(%node, grant = %new.grant, permit = new.permit, signer = new.signer, "a break-glass grant was used");
    }
    Ok(v1::BreakGlassAck { digest, reason: String::new() })
}

async fn burn(
    transaction: &mut SystemTransaction,
    acting: &Acting,
    new: &NewBreakGlassUse,
) -> Result<bool, Failure> {
    let fresh = break_glass_use_insert(transaction, new).await?;
    if fresh {
        let change = Change::of("break_glass.use", format!("break-glass/{}", new.grant)).inside(new.cluster);
        change.after(new.grant).because(&new.reason).record(transaction, acting).await?;
    }
    Ok(fresh)
}

/// A node that was away may have used a grant of an authority that was replaced since.
fn open(
    keys: &Keys,
    cluster: &Cluster,
    node: NodeId,
    file: &BreakGlassText,
) -> Result<VerifiedBreakGlass, Reject> {
    let activation = keys.installation.activation();
    let manifest = activation.as_ref().map(|activation| activation.manifest.as_slice()).unwrap_or_default();
    let features: &[&str] = if keys.installation.facts.dev { &[FEATURE_DEV] } else { &[] };
    let mut refusal = Reject::new(Reason::KeyUnknown, "no authority of this cluster");
    for record in cluster.chain.records().iter().rev() {
        let known = BreakGlassExpectation {
            installation: keys.installation.facts.id,
            cluster: cluster.id,
            node: Some(node),
            authority: PublicKey::from_slice(&record.authority_key)?,
            activation_manifest: manifest,
            now: None,
            features,
        };
        match file.open(&known) {
            Ok(grant) => return Ok(grant),
            Err(reject) => refusal = reject,
        }
    }
    Err(refusal)
}
