//! The audit log as this operator sees it: what the control plane shows, compared with what it showed
//! before.
//!
//! Owns the small file beside the contexts that remembers the largest checkpoint. Refuses to believe
//! the control plane about its own history.

use std::path::{Path, PathBuf};

use rap_contract::{
    ActivationTerms, Checkpoint, Expectation, FEATURE_DEV, LogKeyChain, PublicKey, check_audit_consistency,
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
            let expect = Expectation {
                installation: Some(self.installation),
                cluster: Some(ClusterId::ZERO),
                features: &[FEATURE_DEV],
                ..Expectation::default()
            };
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
