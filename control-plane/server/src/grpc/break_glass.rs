//! Break-glass grants: signing one for operators, and burning the uses that nodes tell into the audit log.
//!
//! Owns "once": the row of a use and its audit row are written together or not at all. Refuses to own what
//! a grant may say: the contract does.

use std::time::Duration;

use rap_contract::{BreakGlassOrder, BreakGlassSigner, FEATURE_DEV, sign_break_glass};
use rap_rpc::v1::break_glass_server::BreakGlass;
use rap_store::break_glass_uses_list;
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use v1::break_glass_grant::Permit;
use v1::break_glass_issue_request::Permit as Asked;

use crate::acts::break_glass::check_peer;
use crate::acts::change::commit;
use crate::auth::actor::Actor;
use crate::database::change::Change;
use crate::failure::Failure;
use crate::grpc::answer::{Answer, service};
use crate::replica::Replica;

service! {
    /// BreakGlass of `rap.fabric.v1`.
    BreakGlassService: BreakGlass {
        issue(BreakGlassIssueRequest) -> BreakGlassIssueAnswer: BreakGlassGrant issue;
        uses(BreakGlassUsesRequest) -> BreakGlassUsesAnswer: AuditRead uses;
    }
}

async fn issue(
    replica: &Replica,
    actor: &Actor,
    request: v1::BreakGlassIssueRequest,
) -> Answer<v1::BreakGlassIssueAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let node = match request.node_id.as_slice() {
        [] => None,
        bytes => Some(NodeId::from_slice(bytes)?),
    };
    let permit = match request.permit {
        Some(Asked::ExtendDegraded(extend)) => Permit::ExtendDegraded(extend),
        Some(Asked::PermitPeer(permit)) => {
            if let Some(peer) = &permit.peer {
                check_peer(&replica.serving, &cluster, replica.config.loopback, peer).await?;
            }
            Permit::PermitPeer(permit)
        }
        None => return Err(Failure::new(Reason::RequestInvalid, "a grant permits something")),
    };
    let facts = &replica.keys.installation.facts;
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
    let now = replica.watch.clock.now().wall;
    let signed = sign_break_glass(&order, &[&cluster.authority], BreakGlassSigner::ClusterAuthority, now);
    let (text, grant) = signed?;
    let acting = actor.acting(grant.reason());
    let change = Change::of("break_glass.issue", format!("break-glass/{}", grant.digest()));
    let change = change.inside(cluster.id).after(grant.digest());
    commit!(&replica.serving, &acting, |transaction| Ok(change
        .clone()
        .record(transaction, &acting)
        .await?))?;
    Ok(v1::BreakGlassIssueAnswer {
        text: text.text(),
        digest: grant.digest().to_vec(),
        expires_at_ms: grant.expires_at().0,
    })
}

async fn uses(
    replica: &Replica,
    _: &Actor,
    request: v1::BreakGlassUsesRequest,
) -> Answer<v1::BreakGlassUsesAnswer> {
    let cluster = replica.serving.cluster_named(&request.cluster).await?;
    let mut transaction = replica.database.store.system().begin().await?;
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

const DEFAULT_TTL: Duration = Duration::from_secs(4 * 3600);
