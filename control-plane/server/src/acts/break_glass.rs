//! Records the use of a break-glass grant, once.

use rap_contract::{
    BreakGlassExpectation, BreakGlassText, FEATURE_DEV, PublicKey, Reject, VerifiedBreakGlass,
};
use rap_store::{NewBreakGlassUse, SystemTransaction, break_glass_use_insert};
use rap_types::{NodeId, Reason, Wall};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::auth::call::Call;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::keys::handle::Keys;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;

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
