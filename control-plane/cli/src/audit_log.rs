//! The audit log as this operator sees it: what the control plane shows, compared with what it showed
//! before.
//!
//! Owns the small file beside the contexts that remembers the largest checkpoint, which exports are compared with, too. Refuses to believe
//! the control plane about its own history.

use std::path::{Path, PathBuf};

use rap_contract::{
    ActivationTerms, AuditFrontier, Checkpoint, Expectation, FEATURE_DEV, LogKeyChain, PublicKey,
    VerifiedAuditExport, audit_leaf_hash, check_audit_consistency,
};
use rap_runtime::Fault;
use rap_runtime::files::{read_capped, write_atomic};
use rap_types::{ClusterId, Digest, InstallationId, Reason};
use rap_wire::v1;
use serde::{Deserialize, Serialize};

use crate::args::Global;
use crate::client::{Connection, ask};
use crate::contexts::Contexts;
use crate::files::{self, refused};

/// The newest checkpoint, verified.
pub(crate) struct LogView {
    /// What the trust begins with: `product root`, `remembered`, `first look`.
    pub(crate) anchor: &'static str,
    /// The checkpoint; `None` before the first.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The log's keys.
    pub(crate) log: Option<LogKeyChain>,
    /// Id of the key that signed.
    pub(crate) log_key: String,
    /// Size of the checkpoint that this operator saw last, which this one contains.
    pub(crate) consistent_from: Option<u64>,
    /// Committed entries without a place yet.
    pub(crate) unsequenced: u64,
    /// Encoded activation manifest.
    pub(crate) activation_manifest: Vec<u8>,
    /// Signed notes, by size; the last is the checkpoint's.
    pub(crate) checkpoints: Vec<Vec<u8>>,
    authority: PublicKey,
    installation: InstallationId,
    path: PathBuf,
}

/// What is remembered between two looks.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    schema: String,
    installation_id: InstallationId,
    installation_authority: String,
    generation: u64,
    size: u64,
    root: Digest,
}

impl LogView {
    /// Fetches and verifies the newest checkpoint and its consistency with the last one seen.
    pub(crate) async fn fetch(
        global: &Global,
        connection: &mut Connection,
        root_key: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let (context, known) = Contexts::load(global)?.select(global)?;
        let path = Contexts::beside(global, &format!("audit-{context}.json"))?;
        let seen = recall(&path)?;
        let answer = ask!(connection.audit.checkpoint(v1::AuditCheckpointRequest {
            from_generation: seen.as_ref().map_or(0, |seen| seen.generation),
            from_size: seen.as_ref().map_or(0, |seen| seen.size),
        }));
        let shown = ask!(connection.admin.installation(v1::InstallationRequest {}));
        let authority = PublicKey::from_slice(&shown.installation_authority_key)
            .map_err(|reject| refused("the installation authority", reject))?;
        let mut view = Self {
            anchor: "first look",
            checkpoint: None,
            log: None,
            log_key: "-".to_owned(),
            consistent_from: None,
            unsequenced: answer.unsequenced,
            activation_manifest: answer.activation_manifest,
            checkpoints: answer.checkpoints,
            authority,
            installation: known.installation_id,
            path,
        };
        view.anchor_trust(seen.as_ref(), root_key)?;
        if answer.checkpoint.is_empty() {
            return match seen {
                Some(_) => Err(shorter().into()),
                None => Ok(view),
            };
        }
        let features = [FEATURE_DEV];
        let log = LogKeyChain::verify(&answer.log_key_records, &view.authority, view.installation, &features)
            .map_err(|reject| refused("the log keys", reject))?;
        let checkpoint = Checkpoint::open(&answer.checkpoint, &log)
            .map_err(|reject| refused("the newest checkpoint", reject))?;
        view.consistent_from = continues(seen.as_ref(), &log, &checkpoint, &answer.consistency)?;
        let notes = view.checkpoints.iter().map(|note| Checkpoint::open(note, &log));
        let notes: Vec<Checkpoint> =
            notes.collect::<Result<_, _>>().map_err(|reject| refused("a checkpoint", reject))?;
        if notes.last() != Some(&checkpoint) {
            let text = "the last checkpoint of the list is not the newest";
            return Err(Fault::new(Reason::AuditInconsistent, text).into());
        }
        view.log_key = log.key_id().to_string();
        (view.log, view.checkpoint) = (Some(log), Some(checkpoint));
        Ok(view)
    }

    /// Where the installation authority's key comes from.
    fn anchor_trust(&mut self, seen: Option<&Seen>, root_key: Option<&Path>) -> anyhow::Result<()> {
        if let Some(path) = root_key {
            let roots = files::roots(path, 64 * 1024)?;
            let expect = Expectation::within(self.installation, ClusterId::ZERO, &[FEATURE_DEV]);
            let (_, terms) = ActivationTerms::open(&self.activation_manifest, &roots, &expect)
                .map_err(|reject| refused("the activation manifest", reject))?;
            self.authority = terms.installation_authority;
            self.anchor = "product root";
        }
        let Some(seen) = seen else { return Ok(()) };
        if seen.installation_id != self.installation
            || seen.installation_authority != self.authority.to_string()
        {
            let text = format!("{}: another installation authority was seen before", self.path.display());
            return Err(Fault::new(Reason::AuthorityMismatch, text).into());
        }
        if self.anchor == "first look" {
            self.anchor = "remembered";
        }
        Ok(())
    }

    /// Remembers the checkpoint for the next look.
    pub(crate) fn remember(&self) -> anyhow::Result<()> {
        let Some(checkpoint) = self.checkpoint else { return Ok(()) };
        let seen = Seen {
            schema: SCHEMA.to_owned(),
            installation_id: self.installation,
            installation_authority: self.authority.to_string(),
            generation: checkpoint.generation,
            size: checkpoint.size,
            root: checkpoint.root,
        };
        Ok(write_atomic(&self.path, serde_json::to_string_pretty(&seen)?.as_bytes(), 0o600)?)
    }
}

/// The size from which the newest checkpoint continues; `None` at the first look, and after a new
/// generation began, which the records say.
fn continues(
    seen: Option<&Seen>,
    log: &LogKeyChain,
    checkpoint: &Checkpoint,
    proof: &[Vec<u8>],
) -> anyhow::Result<Option<u64>> {
    let Some(seen) = seen else { return Ok(None) };
    if seen.generation < checkpoint.generation {
        let begun = log.generations().iter().find(|one| one.generation == seen.generation + 1);
        let size = begun.map_or(0, |generation| generation.first_size);
        let reason = begun.map_or("", |generation| generation.reason.as_str());
        crate::output::complain(&format!(
            "note: the log began anew with {size} entries ({reason}); you had seen {} of the generation before",
            seen.size
        ));
        return Ok(None);
    }
    if seen.generation > checkpoint.generation || seen.size > checkpoint.size {
        return Err(shorter().into());
    }
    let hashes = hashes(proof)?;
    check_audit_consistency((seen.size, seen.root), (checkpoint.size, checkpoint.root), &hashes).map_err(
        |reject| {
            let text =
                format!("the log does not contain the {} entries that you saw: {}", seen.size, reject.what);
            Fault::new(Reason::AuditInconsistent, text)
        },
    )?;
    Ok(Some(seen.size))
}

/// Compares a verified export with what the contexts of this operator have seen of the same log.
///
/// # Errors
/// `audit.rollback` for an export that ends before that, unless it may be `older`; `audit.inconsistent` for one that has
/// other entries.
pub(crate) fn compare_export(
    global: &Global,
    export: &VerifiedAuditExport,
    older: bool,
) -> anyhow::Result<()> {
    let beside = Contexts::beside(global, "audit").ok();
    let Some(Ok(files)) = beside.as_deref().and_then(Path::parent).map(std::fs::read_dir) else {
        return Ok(());
    };
    let is_seen = |name: &str| name.starts_with("audit-") && name.ends_with(".json");
    let paths = files.flatten().filter(|file| file.file_name().to_str().is_some_and(is_seen));
    for path in paths.map(|file| file.path()) {
        let Some(seen) = recall(&path)? else { continue };
        if seen.installation_id == export.activation.installation {
            compare_seen(&seen, export, older)
                .map_err(|fault| Fault::new(fault.reason, format!("{}: {fault}", path.display())))?;
        }
    }
    Ok(())
}

fn compare_seen(seen: &Seen, export: &VerifiedAuditExport, older: bool) -> Result<(), Fault> {
    let end = export.checkpoints.last().map_or((0, 0), |last| (last.generation, last.size));
    if end < (seen.generation, seen.size) {
        let text = format!(
            "the export ends at entry {} of generation {}, and {} of generation {} were seen before; give --older if it was \
             made earlier",
            end.1, end.0, seen.size, seen.generation
        );
        return if older { Ok(()) } else { Err(Fault::new(Reason::AuditRollback, text)) };
    }
    if end.0 > seen.generation {
        return Ok(());
    }
    let mut frontier = AuditFrontier::default();
    let first = export.entries.iter().take(usize::try_from(seen.size).unwrap_or(usize::MAX));
    first.for_each(|entry| frontier.push(audit_leaf_hash(&entry.encode())));
    if frontier.root() == seen.root {
        return Ok(());
    }
    let text = format!("the export does not contain the {} entries that were seen before", seen.size);
    Err(Fault::new(Reason::AuditInconsistent, text))
}

fn recall(path: &Path) -> anyhow::Result<Option<Seen>> {
    let bytes = match read_capped(path, 64 * 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = || Fault::new(Reason::StateCorrupt, format!("{}: not what was written", path.display()));
    let seen: Seen = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if seen.schema == SCHEMA { Ok(Some(seen)) } else { Err(damaged().into()) }
}

fn shorter() -> Fault {
    Fault::new(Reason::AuditRollback, "the log is shorter than what you have seen of it")
}

/// Hashes of a proof.
pub(crate) fn hashes(proof: &[Vec<u8>]) -> anyhow::Result<Vec<Digest>> {
    let hashes = proof.iter().map(|hash| Digest::from_slice(hash)).collect::<Result<_, _>>();
    Ok(hashes.map_err(|_| Fault::new(Reason::AuditMalformed, "a hash has 32 bytes"))?)
}

const SCHEMA: &str = "rap.audit-seen.v1";
