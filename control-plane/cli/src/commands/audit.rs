//! The audit log: list, verify, export, and the new beginning after history was lost.

use rap_contract::{
    AUDIT_EXPORT_CAP, AuditEntry, LogGeneration, VerifiedAuditExport, audit_leaf_hash, check_audit_inclusion,
    encode_audit_export, open_audit_export,
};
use rap_runtime::{Clock, Fault};
use rap_types::Reason;
use rap_wire::v1;
use serde_json::{Value, json};

use crate::args::{Audit as Command, AuditExport, AuditList, AuditVerify, Global};
use crate::audit_log::{LogView, compare_export, hashes};
use crate::client::{Connection, ask};
use crate::files::{self, refused};
use crate::output::{Answer, clean, time};

pub(crate) async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(command) => list(global, command).await,
        Command::Verify(command) if command.file.is_some() => verify_file(global, &command),
        Command::Verify(command) => verify(global, &command).await,
        Command::Export(command) => export(global, &command).await,
        Command::Restart { reason } => restart(global, reason).await,
    }
}

async fn list(global: &Global, command: AuditList) -> anyhow::Result<()> {
    // To a script with an empty variable "all" would look like "of this cluster".
    let filters = [&global.cluster, &command.actor, &command.action];
    if filters.into_iter().flatten().any(String::is_empty) {
        return Err(Fault::new(Reason::RequestInvalid, "an empty filter; leave it out to list all").into());
    }
    let mut connection = Connection::of_context(global).await?;
    let since_ms = command.since.map_or(0, |since| Clock::new().now().wall.minus(since).0);
    let request = v1::AuditListRequest {
        cluster: global.cluster.clone().unwrap_or_default(),
        actor: command.actor.unwrap_or_default(),
        action: command.action.unwrap_or_default(),
        since_ms,
        limit: command.limit,
        before: 0,
    };
    let answer = ask!(connection.audit.list(request));
    let mut listed = answer.entries;
    listed.reverse();
    let entries: Vec<AuditEntry> = decoded(&listed)?;
    let rows = entries.iter().zip(&listed).map(|(entry, listed)| {
        [
            time(entry.recorded_at_us / 1000),
            entry.actor.clone(),
            entry.action.clone(),
            entry.object.clone(),
            entry.reason.clone(),
            if listed.sequenced { listed.index.to_string() } else { "-".into() },
            entry.device.clone(),
            entry.request.to_string(),
        ]
    });
    let documents: Vec<Value> =
        entries.iter().zip(&listed).map(|(entry, listed)| document(entry, listed)).collect();
    Answer::new("rap.audit.v1", json!({ "entries": documents, "unsequenced": answer.unsequenced }))
        .table(["TIME", "ACTOR", "ACTION", "OBJECT", "REASON", "INDEX", "DEVICE", "REQUEST"], 2, rows)
        .print(global)
}

fn decoded(listed: &[v1::AuditListed]) -> anyhow::Result<Vec<AuditEntry>> {
    let entries = listed.iter().map(|listed| AuditEntry::decode(&listed.entry));
    Ok(entries.collect::<Result<_, _>>().map_err(|reject| refused("an entry", reject))?)
}

fn document(entry: &AuditEntry, listed: &v1::AuditListed) -> Value {
    json!({
        "entry": entry.entry, "index": listed.sequenced.then_some(listed.index),
        "recorded_at_us": entry.recorded_at_us, "cluster_id": entry.cluster,
        "organization_id": entry.organization, "actor": entry.actor, "device": entry.device,
        "action": entry.action, "object": entry.object, "before_digest": entry.before_digest,
        "after_digest": entry.after_digest, "reason": entry.reason, "request_id": entry.request,
    })
}

/// Asks the control plane, and believes nothing that does not lead to a signed checkpoint.
async fn verify(global: &Global, command: &AuditVerify) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let view = LogView::fetch(global, &mut connection, command.root_key.as_deref()).await?;
    let Some(checkpoint) = view.checkpoint else {
        let body = json!({ "verified": true, "checkpoint": null, "unsequenced": view.unsequenced });
        return Answer::new("rap.audit-verify.v1", body)
            .properties([("checkpoint", "none yet".to_owned())])
            .print(global);
    };
    let answer =
        ask!(connection.audit.list(v1::AuditListRequest { limit: command.limit, ..Default::default() }));
    let placed: Vec<&v1::AuditListed> =
        answer.entries.iter().filter(|listed| listed.sequenced && listed.index < checkpoint.size).collect();
    let indexes = placed.iter().map(|listed| listed.index).collect();
    let paths =
        ask!(connection.audit.inclusion(v1::AuditInclusionRequest { tree_size: checkpoint.size, indexes }))
            .paths;
    if paths.len() != placed.len() {
        return Err(Fault::new(Reason::AuditProof, "the control plane left out proofs").into());
    }
    for (listed, path) in placed.iter().zip(&paths) {
        let entry = AuditEntry::decode(&listed.entry).map_err(|reject| refused("an entry", reject))?;
        let (leaf, hashes) = (audit_leaf_hash(&listed.entry), hashes(&path.hashes)?);
        check_audit_inclusion(leaf, listed.index, checkpoint.size, &hashes, &checkpoint.root)
            .map_err(|reject| refused(format!("entry {}", entry.entry), reject))?;
    }
    view.remember()?;
    let unsequenced = view.unsequenced;
    let body = json!({
        "verified": true, "anchor": view.anchor, "generation": checkpoint.generation,
        "size": checkpoint.size, "root": checkpoint.root, "log_key": view.log_key,
        "consistent_from": view.consistent_from, "entries_proved": placed.len(),
        "unsequenced": unsequenced,
    });
    let from = view.consistent_from.map_or("first look".to_owned(), |size| format!("{size} entries"));
    let rows = vec![
        ("anchor", view.anchor.to_owned()),
        ("checkpoint", format!("generation {}, {} entries", checkpoint.generation, checkpoint.size)),
        ("root", checkpoint.root.to_string()),
        ("log key", view.log_key.clone()),
        ("consistent with", from),
        ("entries proved", placed.len().to_string()),
        ("unsequenced", unsequenced.to_string()),
    ];
    Answer::new("rap.audit-verify.v1", body).properties(rows).print(global)
}

async fn export(global: &Global, command: &AuditExport) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let view = LogView::fetch(global, &mut connection, None).await?;
    let none = || Fault::new(Reason::AuditCheckpoint, "the log has no checkpoint yet; try again in a second");
    let (log, checkpoint) = view.log.as_ref().zip(view.checkpoint).ok_or_else(none)?;
    let mut entries = Vec::new();
    let mut frontier = rap_contract::AuditFrontier::default();
    while frontier.size() < checkpoint.size {
        let wanted = (checkpoint.size - frontier.size()).min(1000);
        let page =
            v1::AuditEntriesRequest { from: frontier.size(), limit: u32::try_from(wanted).unwrap_or(1000) };
        let page = ask!(connection.audit.entries(page)).entries;
        if page.len() as u64 != wanted {
            return Err(Fault::new(Reason::AuditTampered, "the control plane left out entries").into());
        }
        page.iter().for_each(|entry| frontier.push(audit_leaf_hash(entry)));
        entries.extend(page);
    }
    if frontier.root() != checkpoint.root {
        let text = "the entries do not lead to the root of the checkpoint";
        return Err(Fault::new(Reason::AuditProof, text).into());
    }
    let export = encode_audit_export(&view.activation_manifest, log, &view.checkpoints, entries);
    files::create_new(&command.out, &export, 0o600)?;
    view.remember()?;
    let body = json!({
        "file": files::shown(&command.out), "generation": checkpoint.generation, "size": checkpoint.size,
        "root": checkpoint.root, "checkpoints": view.checkpoints.len(), "bytes": export.len(),
    });
    let rows = vec![
        ("file", command.out.display().to_string()),
        ("entries", checkpoint.size.to_string()),
        ("checkpoints", view.checkpoints.len().to_string()),
        ("root", checkpoint.root.to_string()),
    ];
    Answer::new("rap.audit-export.v1", body)
        .properties(rows)
        .next(format!("rapctl audit verify --file {} --root-key product-root.pub", command.out.display()))
        .print(global)
}

/// With no network, from the Product Root alone.
fn verify_file(global: &Global, command: &AuditVerify) -> anyhow::Result<()> {
    let (Some(file), Some(root_key)) = (&command.file, &command.root_key) else {
        return Err(Fault::new(Reason::RequestInvalid, "--file needs --root-key").into());
    };
    let roots = files::roots(root_key, 64 * 1024)?;
    let bytes = files::read(file, AUDIT_EXPORT_CAP)?;
    let export =
        open_audit_export(&bytes, &roots, command.dev).map_err(|reject| refused(file.display(), reject))?;
    compare_export(global, &export, command.older)?;
    verified(&export).print(global)
}

fn verified(export: &VerifiedAuditExport) -> Answer {
    let newest = export.log.newest();
    let last = export.checkpoints.last();
    let roots: Vec<String> = export.roots.iter().map(ToString::to_string).collect();
    let generation = |generation: &LogGeneration| {
        json!({
            "generation": generation.generation, "log_key": generation.key.id(),
            "first_size": generation.first_size, "reason": generation.reason,
            "issued_at_ms": generation.issued_at.0,
        })
    };
    let generations: Vec<Value> = export.log.generations().iter().map(generation).collect();
    let body = json!({
        "verified": true, "dev": export.dev, "product_root": roots,
        "installation_id": export.activation.installation,
        "installation_authority": export.activation.installation_authority.id(),
        "generations": generations, "checkpoints": export.checkpoints.len(),
        "size": export.entries.len(), "root": last.map(|checkpoint| checkpoint.root),
    });
    let row = |link: &str, proves: String| ["ok".to_owned(), link.to_owned(), proves];
    let mut rows = vec![
        row("product root", roots.join(" ")),
        row("activation manifest", format!("installation {}", export.activation.installation)),
        row("installation authority", export.activation.installation_authority.id().to_string()),
    ];
    for generation in export.log.generations() {
        let text = format!(
            "generation {} from entry {}: {}",
            generation.generation,
            generation.first_size,
            clean(&generation.reason)
        );
        rows.push(row("log key", text));
    }
    rows.push(row("checkpoints", format!("{} by {}", export.checkpoints.len(), newest.key.id())));
    let range =
        |entry: Option<&AuditEntry>| entry.map_or("-".into(), |entry| time(entry.recorded_at_us / 1000));
    let (first, last) = (range(export.entries.first()), range(export.entries.last()));
    rows.push(row("entries", format!("{} from {first} to {last}", export.entries.len())));
    Answer::new("rap.audit-verify.v1", body).table(["", "LINK", "PROVES"], 0, rows)
}

async fn restart(global: &Global, reason: String) -> anyhow::Result<()> {
    let mut connection = Connection::of_context(global).await?;
    let status = ask!(connection.admin.status(v1::StatusRequest {}));
    let stopped = match status.audit.unwrap_or_default().reason.as_str() {
        "" => "The audit log has NOT stopped: nothing asks for this.".to_owned(),
        reason => format!("The audit log stopped ({}).", clean(reason)),
    };
    let question = format!(
        "{stopped} A new generation begins with the entries that are there; what is missing stays missing, and \
         every auditor will see that. Go on?"
    );
    crate::output::confirm(global, &question)?;
    let begun = ask!(connection.audit.restart(v1::AuditRestartRequest { reason }));
    let body = json!({ "generation": begun.generation, "first_size": begun.first_size });
    let rows = vec![
        ("generation", begun.generation.to_string()),
        ("begins with", format!("{} entries", begun.first_size)),
    ];
    Answer::new("rap.audit-restart.v1", body).properties(rows).print(global)
}
