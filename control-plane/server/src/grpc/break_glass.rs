//! Break-glass grants: signing one for operators, and burning the uses that nodes tell into the audit log.
//!
//! Owns "once": the row of a use and its audit row are written together or not at all. Refuses to own what
//! a grant may say: the contract does.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::{
    BreakGlassExpectation, BreakGlassOrder, BreakGlassText, FEATURE_DEV, GrantSigner, PublicKey, Reject,
    VerifiedBreakGlass, sign_break_glass,
};
use rap_rpc::v1::break_glass_server::BreakGlass;
use rap_store::{
    NewBreakGlassUse, PgConnection, audit_insert, break_glass_use_insert, break_glass_uses_list,
};
use rap_types::{NodeId, Reason, Wall};
use rap_wire::v1;
use tonic::{Request, Response, Status};
use v1::break_glass_grant::Permit;
use v1::break_glass_issue_request::Permit as Asked;

use super::{Actor, Call, Failure, audit, authorized};
use crate::clusters::Cluster;
use crate::control::Control;

/// BreakGlass of `rap.fabric.v1`.
#[derive(Debug, Clone)]
pub struct BreakGlassService(Arc<Control>);

impl BreakGlassService {
    /// Serves `control`.
    pub fn new(control: Arc<Control>) -> Self {
        Self(control)
    }
}

#[tonic::async_trait]
impl BreakGlass for BreakGlassService {
    async fn issue(
        &self,
        request: Request<v1::BreakGlassIssueRequest>,
    ) -> Result<Response<v1::BreakGlassIssueAnswer>, Status> {
        authorized!(self, request, BreakGlassGrant, issue)
    }

    async fn uses(
        &self,
        request: Request<v1::BreakGlassUsesRequest>,
    ) -> Result<Response<v1::BreakGlassUsesAnswer>, Status> {
        authorized!(self, request, AuditRead, uses)
    }
}

async fn issue(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::BreakGlassIssueRequest,
) -> Result<v1::BreakGlassIssueAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let node = match request.node_id.as_slice() {
        [] => None,
        bytes => Some(NodeId::from_slice(bytes)?),
    };
    let permit = match request.permit {
        Some(Asked::ExtendDegraded(extend)) => Permit::ExtendDegraded(extend),
        Some(Asked::PermitPeer(permit)) => Permit::PermitPeer(permit),
        None => return Err(Failure::new(Reason::RequestInvalid, "a grant permits something")),
    };
    let facts = &control.installation.facts;
    let order = BreakGlassOrder {
        installation: facts.id,
        cluster: cluster.id,
        node,
        reason: request.reason,
        ttl: if request.ttl_ms == 0 { DEFAULT_TTL } else { Duration::from_millis(request.ttl_ms) },
        permit,
        nonce: rand::random(),
        critical: if facts.dev { vec![FEATURE_DEV.to_owned()] } else { Vec::new() },
    };
    let now = control.clock.now().wall;
    let signed = sign_break_glass(&order, &[&cluster.authority], GrantSigner::ClusterAuthority, now);
    let (text, grant) = signed?;
    let written: Result<u64, Failure> = rap_store::transact!(control.store.system(), |connection| {
        let object = format!("break-glass/{}", grant.digest());
        let (digest, reason) = (Some(grant.digest()), grant.reason());
        let entry = audit(
            &actor.audit_name(),
            "break_glass.issue",
            object,
            Some(cluster.id),
            digest,
            reason,
            actor.call,
        );
        audit_insert(connection, &actor.pen, &entry).await.map_err(Failure::from)
    });
    written?;
    Ok(v1::BreakGlassIssueAnswer {
        text: text.text(),
        digest: grant.digest().to_vec(),
        expires_at_ms: grant.expires_at().0,
    })
}

async fn uses(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::BreakGlassUsesRequest,
) -> Result<v1::BreakGlassUsesAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let mut transaction = control.store.system().begin().await?;
    let rows = break_glass_uses_list(&mut transaction, cluster.id).await?;
    let uses = rows.into_iter().map(|row| v1::BreakGlassUseRow {
        node_id: row.told.node.to_vec(),
        digest: row.told.grant.to_vec(),
        permit: row.told.permit,
        reason: row.told.reason,
        signer: row.told.signer,
        expires_at_ms: row.told.expires_at.0,
        applied_at_ms: row.told.applied_at.0,
        recorded_at_ms: row.recorded_at.0,
    });
    Ok(v1::BreakGlassUsesAnswer { uses: uses.collect() })
}

/// Takes a use that a node tells into the audit log, once. The answer is for the node: it tells no more.
///
/// # Errors
/// Those of the database: nothing is confirmed then, and the node tells again.
pub async fn record_use(
    control: &Control,
    cluster: &Cluster,
    node: NodeId,
    call: &Call,
    told: &v1::BreakGlassUse,
) -> Result<v1::BreakGlassAck, Failure> {
    let file = BreakGlassText::decode(&told.file)?;
    let digest = file.digest()?.to_vec();
    let grant = match open(control, cluster, node, &file) {
        Ok(grant) => grant,
        Err(reject) => {
            control.metrics.rejected(reject.reason);
            control.metrics.alarmed(reject.reason);
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
    let recorded: Result<bool, Failure> = rap_store::transact!(control.store.system(), |connection| {
        burn(control, connection, call, &new).await
    });
    if recorded? {
        tracing::warn!(%node, grant = %new.grant, permit = new.permit, signer = new.signer, "a break-glass grant was used");
    }
    Ok(v1::BreakGlassAck { digest, reason: String::new() })
}

async fn burn(
    control: &Control,
    connection: &mut PgConnection,
    call: &Call,
    new: &NewBreakGlassUse,
) -> Result<bool, Failure> {
    let fresh = break_glass_use_insert(connection, new).await?;
    if fresh {
        let actor = format!("node:{}", new.node);
        let object = format!("break-glass/{}", new.grant);
        let entry = audit(
            &actor,
            "break_glass.use",
            object,
            Some(new.cluster),
            Some(new.grant),
            &new.reason,
            call.id,
        );
        audit_insert(connection, &control.pen.of_device(call.device(None)), &entry).await?;
    }
    Ok(fresh)
}

/// A node that was away may have used a grant of an authority that was replaced since.
fn open(
    control: &Control,
    cluster: &Cluster,
    node: NodeId,
    file: &BreakGlassText,
) -> Result<VerifiedBreakGlass, Reject> {
    let activation = control.installation.activation();
    let manifest = activation.as_ref().map(|activation| activation.manifest.as_slice()).unwrap_or_default();
    let features: &[&str] = if control.installation.facts.dev { &[FEATURE_DEV] } else { &[] };
    let mut refusal = Reject::new(Reason::KeyUnknown, "no authority of this cluster");
    for record in cluster.chain.records().iter().rev() {
        let known = BreakGlassExpectation {
            installation: control.installation.facts.id,
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

const DEFAULT_TTL: Duration = Duration::from_secs(4 * 3600);
