//! Offline verification of an exported snapshot, link by link from the Product Root.

use rap_contract::{EXPORT_CAP, VerifiedExport, open_export};
use serde_json::json;

use crate::args::{Global, Verify};
use crate::files;
use crate::output::{Answer, clean, time};

pub(crate) fn run(global: &Global, command: &Verify) -> anyhow::Result<()> {
    let roots = files::roots(&command.root, 64 * 1024)?;
    let bytes = files::read(&command.export, EXPORT_CAP)?;
    let export = open_export(&bytes, &roots, command.dev)
        .map_err(|reject| files::refused(command.export.display(), reject))?;
    answer(&export).print(global)
}

fn answer(export: &VerifiedExport) -> Answer {
    let snapshot = &export.snapshot;
    let (head, contents) = (snapshot.head(), snapshot.contents());
    let roots: Vec<String> = export.roots.iter().map(ToString::to_string).collect();
    let body = json!({
        "verified": true, "dev": export.dev, "product_root": roots,
        "installation_id": export.activation.installation,
        "installation_authority": export.activation.installation_authority.id(),
        "owner": export.activation.owner_name,
        "cluster_id": snapshot.cluster(), "cluster_authority": export.chain.active().id(),
        "authority_records": export.chain.sequence(),
        "head": {
            "incarnation": head.order.incarnation, "version": head.order.version,
            "refresh": head.order.refresh, "digest": snapshot.head_document().digest(),
            "root": head.root, "issued_at_ms": head.issued_at.0, "fresh_until_ms": head.fresh_until.0,
        },
        "node_id": snapshot.node(), "node_name": contents.assignment.name, "leaf": snapshot.leaf_hash(),
        "manifest_root": snapshot.manifest().root(), "slots": snapshot.manifest().len(),
        "peers": contents.peers.len(),
    });
    let row = |link: &str, proves: String| ["ok".to_owned(), link.to_owned(), proves];
    let rows = vec![
        row("product root", roots.join(" ")),
        row(
            "activation manifest",
            format!(
                "installation {} owned by {}",
                export.activation.installation,
                clean(&export.activation.owner_name)
            ),
        ),
        row("installation authority", export.activation.installation_authority.id().to_string()),
        row(
            "authority records",
            format!(
                "cluster {}, {} record(s), active {}",
                snapshot.cluster(),
                export.chain.sequence(),
                export.chain.active().id()
            ),
        ),
        row(
            "cluster head",
            format!(
                "{} issued {} fresh until {}",
                head.order,
                time(head.issued_at.0),
                time(head.fresh_until.0)
            ),
        ),
        row("inclusion proof", format!("leaf {} in a tree of {}", snapshot.leaf_hash(), head.tree_size)),
        row(
            "manifest",
            format!(
                "{} slots, {} peers, root {}",
                snapshot.manifest().len(),
                contents.peers.len(),
                snapshot.manifest().root()
            ),
        ),
        row("node", format!("{} {}", clean(&contents.assignment.name), snapshot.node())),
    ];
    Answer::new("rap.verify.v1", body).table(["", "LINK", "PROVES"], 0, rows)
}
