//! Writes what the acceptor hands out: contents, flush, floors by fsync; the old snapshot goes last.
//!
//! Owns the order. Refuses to decide: a failure is reported and nothing is activated.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use rap_contract::{AuthorityChain, VerifiedSnapshot};
use rap_runtime::Fault;
use rap_runtime::files::write_atomic;
use rap_state::{
    Cache, FloorStore, IdentityStore, MembershipDir, NewSnapshot, Raise, RevocationFloor, Snapshots,
    StateError,
};
use rap_trust::{AuditEvidence, Evidence, HeldCheckpoint, Record, StoredSnapshot};
use rap_types::{Digest, HeadOrder, Incarnation, Reason};
use rap_wire::v1;
use serde_json::{Value, json};

use super::keep_records;
use super::records::AUDIT_EVIDENCE;
use crate::blocking::{blocking, on};

/// The disk of one membership.
pub struct Persister {
    dir: MembershipDir,
    cache: Cache,
    snapshots: Snapshots,
    floors: Option<FloorStore>,
    /// Chunks known to be stored.
    stored: BTreeSet<Digest>,
    boot_id: String,
    carried: usize,
}

impl Persister {
    /// Uses an open cache and floors.
    ///
    /// `carried` is how many authority records the contract brings.
    pub fn new(
        dir: MembershipDir,
        cache: Cache,
        floors: FloorStore,
        boot_id: String,
        carried: usize,
    ) -> Self {
        let snapshots = Snapshots::new(cache.clone());
        Self { dir, cache, snapshots, floors: Some(floors), stored: BTreeSet::new(), boot_id, carried }
    }

    /// Writes a record. It is on disk when this returns `Ok`.
    ///
    /// # Errors
    /// The reason of the failure; nothing may be activated then.
    pub async fn write(&mut self, record: &Record) -> Result<(), Fault> {
        if let Some(evidence) = &record.evidence {
            self.keep_evidence(evidence).await?;
        }
        if let Some(chain) = &record.chain {
            self.keep_chain(chain).await?;
        }
        if let Some(snapshot) = &record.snapshot {
            match self.put(snapshot).await {
                // The cache lost what was stored before: this snapshot goes in whole.
                Err(StateError::CacheReset(why)) => {
                    tracing::warn!(%why, "the cache was damaged and is empty now");
                    self.stored.clear();
                    self.put(snapshot).await?;
                }
                put => put?,
            }
        }
        let head = record.snapshot.as_ref().map(|snapshot| {
            let head = snapshot.head();
            (head.order.incarnation, head.order.version, head.root)
        });
        let authority = record.chain.as_ref();
        let raise = Raise {
            head,
            authority: authority
                .map(|chain| (chain.sequence(), chain.digest(), Incarnation(chain.incarnation()))),
            time: Some(record.floors.time),
            freeze: record.floors.frozen,
            revocations: record.floors.revocations.map(|told| RevocationFloor {
                incarnation: told.incarnation,
                sequence: told.sequence,
                digest: told.digest,
            }),
            boot_id: Some(self.boot_id.clone()),
            ..Raise::default()
        };
        on(&mut self.floors, move |floors| Ok(floors.raise(&raise).map(drop)?)).await
    }

    /// Removes every snapshot but the active one.
    pub async fn keep_only(&mut self, active: &VerifiedSnapshot) {
        if let Err(error) = self.snapshots.keep_only(active.head().order).await {
            tracing::warn!(%error, "superseded snapshots could not be removed");
        }
        self.stored = active.parts().chunks.keys().copied().collect();
    }

    /// Flushes and closes the cache.
    pub async fn close(self) {
        if let Err(error) = self.cache.close().await {
            tracing::warn!(%error, "the cache did not close cleanly");
        }
    }

    async fn put(&mut self, snapshot: &VerifiedSnapshot) -> Result<(), StateError> {
        let parts = snapshot.parts();
        let stored = StoredSnapshot::of(snapshot);
        let manifest = v1::SnapshotUpdate { slots_set: stored.slots, ..v1::SnapshotUpdate::default() };
        let fresh = parts.chunks.iter().filter(|(id, _)| !self.stored.contains(*id));
        let new = NewSnapshot {
            order: snapshot.head().order,
            head: stored.head,
            leaf: stored.leaf.encode_to_vec(),
            proof: stored.proof.encode_to_vec(),
            manifest: manifest.encode_to_vec(),
            chunk_ids: parts.chunks.keys().copied().collect(),
            new_chunks: fresh.map(|(id, chunk)| (*id, chunk.to_vec())).collect(),
        };
        self.snapshots.put(new).await?;
        self.stored.extend(parts.chunks.keys().copied());
        Ok(())
    }

    /// Adds to the identity the records that the contract does not carry. They come before the floor that
    /// they reset: after a crash in between, the next start raises the floor from them.
    async fn keep_chain(&self, chain: &AuthorityChain) -> Result<(), Fault> {
        let (chain, carried) = (chain.clone(), self.carried);
        self.in_dir(move |dir| {
            let absent = || Fault::new(Reason::MembershipAbsent, "the identity is gone");
            let (mut store, _) = IdentityStore::open(dir)?.ok_or_else(absent)?;
            keep_records(&mut store, &chain, carried)
        })
        .await
    }

    /// Keeps the proof that two histories of the audit log were signed.
    ///
    /// # Errors
    /// An error of local state.
    pub async fn keep_audit_evidence(&self, evidence: &AuditEvidence) -> Result<(), Fault> {
        let side = |held: &HeldCheckpoint| {
            let records: Vec<String> = held.records.iter().map(|record| STANDARD.encode(record)).collect();
            json!({ "log_key_records": records, "checkpoint": STANDARD.encode(&held.note) })
        };
        let consistency: Vec<String> =
            evidence.consistency.iter().map(|hash| STANDARD.encode(hash)).collect();
        let document = json!({
            "schema": "rap.audit-evidence.v1",
            "reason": evidence.reject.reason,
            "what": evidence.reject.what,
            "held": side(&evidence.held),
            "shown": side(&evidence.shown),
            "consistency": consistency,
        });
        self.keep_document(AUDIT_EVIDENCE.to_owned(), document).await
    }

    async fn keep_evidence(&self, evidence: &Evidence) -> Result<(), Fault> {
        let HeadOrder { incarnation, version, refresh } = evidence.order;
        let document = json!({
            "schema": "rap.evidence.v1",
            "order": evidence.order,
            "accepted": STANDARD.encode(&evidence.accepted),
            "contradicting": STANDARD.encode(&evidence.contradicting),
        });
        self.keep_document(format!("evidence-{incarnation}-{version}-{refresh}.json"), document).await
    }

    async fn keep_document(&self, name: String, document: Value) -> Result<(), Fault> {
        let text = document.to_string();
        self.in_dir(move |dir| Ok(write_atomic(&dir.join(&name), text.as_bytes(), 0o600)?)).await
    }

    /// Works in the directory of the membership, off the threads that serve connections.
    ///
    /// # Errors
    /// The error that the work returned.
    pub async fn in_dir(
        &self,
        work: impl FnOnce(&MembershipDir) -> Result<(), Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let dir = self.dir.clone();
        blocking(move || work(&dir)).await
    }
}

/// Everything the cache has, for verification. What does not decode is left out.
///
/// # Errors
/// An error of the cache.
pub async fn stored_snapshots(cache: &Cache) -> Result<Vec<StoredSnapshot>, Fault> {
    let candidates = Snapshots::new(cache.clone()).candidates().await?;
    let mut stored = Vec::new();
    for candidate in candidates {
        let (Ok(leaf), Ok(proof), Ok(manifest)) = (
            v1::Leaf::decode(candidate.leaf.as_slice()),
            v1::InclusionProof::decode(candidate.proof.as_slice()),
            v1::SnapshotUpdate::decode(candidate.manifest.as_slice()),
        ) else {
            tracing::warn!(order = %candidate.order, "a stored snapshot does not decode");
            continue;
        };
        let chunks = candidate.chunks.into_values().collect();
        stored.push(StoredSnapshot { head: candidate.head, leaf, proof, slots: manifest.slots_set, chunks });
    }
    Ok(stored)
}
