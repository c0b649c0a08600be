//! The service of the audit log: entries for operators, and everything that proves them.
//!
//! Owns what may be asked and how much at once. Refuses to own the tree (see [`crate::audit`]).

use rap_rpc::v1::audit_server::Audit;
use rap_store::{AuditFilter, audit_checkpoints, audit_leaves, audit_list, audit_waiting};
use rap_types::{Reason, Wall};
use rap_wire::v1;

use crate::acts::change::commit;
use crate::audit::follow::follow;
use crate::audit::generation::restart;
use crate::auth::actor::Actor;
use crate::database::change::Change;
use crate::failure::Failure;
use crate::grpc::answer::{Answer, service};
use crate::replica::Replica;
use crate::views::owner::audit::listed;

service! {
    /// Audit of `rap.fabric.v1`.
    AuditService: Audit {
        list(AuditListRequest) -> AuditListAnswer: AuditRead list;
        checkpoint(AuditCheckpointRequest) -> AuditCheckpointAnswer: AuditRead checkpoint;
        inclusion(AuditInclusionRequest) -> AuditInclusionAnswer: AuditRead inclusion;
        entries(AuditEntriesRequest) -> AuditEntriesAnswer: AuditRead entries;
        restart(AuditRestartRequest) -> AuditRestartAnswer: AuditRestart begin_again;
    }
}

async fn list(replica: &Replica, _: &Actor, request: v1::AuditListRequest) -> Answer<v1::AuditListAnswer> {
    let cluster = match request.cluster.as_str() {
        "" => None,
        named => Some(replica.serving.cluster_named(named).await?.id),
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let filter = AuditFilter {
        cluster,
        actor: some(request.actor),
        action: some(request.action),
        since: (request.since_ms > 0).then_some(Wall(request.since_ms)),
        before: (request.before > 0).then_some(request.before),
    };
    let limit = if request.limit == 0 { 100 } else { request.limit.min(MOST) };
    let mut transaction = replica.database.store.system().begin_snapshot().await?;
    let rows = audit_list(&mut transaction, &filter, limit).await?;
    let unsequenced = audit_waiting(&mut transaction).await?;
    Ok(v1::AuditListAnswer { entries: rows.iter().map(listed).collect(), unsequenced })
}

async fn checkpoint(
    replica: &Replica,
    _: &Actor,
    request: v1::AuditCheckpointRequest,
) -> Answer<v1::AuditCheckpointAnswer> {
    follow(&replica.watch, &replica.audit).await?;
    let manifest = replica.keys.installation.activated()?.manifest.clone();
    let status = replica.audit.status();
    let newest = replica.audit.newest().borrow().clone();
    let Some((signed, keys)) = newest.zip(replica.audit.keys()) else {
        let answer = v1::AuditCheckpointAnswer {
            activation_manifest: manifest,
            unsequenced: status.unsequenced,
            ..Default::default()
        };
        return Ok(answer);
    };
    let held = signed.checkpoint;
    let consistency = if request.from_generation == held.generation {
        let gone = || Failure::new(Reason::AuditRollback, "the log is shorter than what you have seen of it");
        replica.audit.consistency(request.from_size, held.size).ok_or_else(gone)?
    } else {
        Vec::new()
    };
    let mut transaction = replica.database.store.system().begin().await?;
    let rows = audit_checkpoints(&mut transaction, held.generation, held.size, MOST).await?;
    Ok(v1::AuditCheckpointAnswer {
        activation_manifest: manifest,
        log_key_records: keys.envelopes().to_vec(),
        checkpoint: signed.note.clone(),
        consistency,
        unsequenced: status.unsequenced,
        checkpoints: rows.into_iter().map(|row| row.note).collect(),
    })
}

async fn inclusion(
    replica: &Replica,
    _: &Actor,
    request: v1::AuditInclusionRequest,
) -> Answer<v1::AuditInclusionAnswer> {
    if request.indexes.len() > MOST as usize {
        return Err(Failure::new(Reason::RequestInvalid, "at most 1000 indexes"));
    }
    Ok(v1::AuditInclusionAnswer { paths: replica.audit.inclusion(request.tree_size, &request.indexes)? })
}

async fn entries(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuditEntriesRequest,
) -> Answer<v1::AuditEntriesAnswer> {
    let limit = if request.limit == 0 { MOST } else { request.limit.min(MOST) };
    let upto = request.from.saturating_add(limit.into());
    if request.from == 0 {
        // The first page is the export; later ones belong to it.
        let (acting, change) = (actor.acting(""), Change::of("audit.export", "audit"));
        commit!(&replica.serving, &acting, |transaction| {
            Ok(change.clone().record(transaction, &acting).await?)
        })?;
    }
    let mut transaction = replica.database.store.system().begin().await?;
    let rows = audit_leaves(&mut transaction, request.from..upto).await?;
    Ok(v1::AuditEntriesAnswer { entries: rows.iter().map(|row| row.entry.encode()).collect() })
}

async fn begin_again(
    replica: &Replica,
    actor: &Actor,
    request: v1::AuditRestartRequest,
) -> Answer<v1::AuditRestartAnswer> {
    let reason = request.reason.trim();
    if reason.is_empty() || reason.len() > 1024 || reason.chars().any(char::is_control) {
        return Err(Failure::new(Reason::RequestInvalid, "a reason of 1 to 1024 characters"));
    }
    let (generation, first_size) = restart(&replica.watch, &replica.audit, actor, reason).await?;
    Ok(v1::AuditRestartAnswer { generation, first_size })
}

/// Most entries, indexes or checkpoints in one answer.
const MOST: u32 = 1000;
