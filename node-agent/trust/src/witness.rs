//! A node as witness of the audit log: it keeps the largest checkpoint it verified and takes no other
//! history.
//!
//! Owns the comparison. Refuses to act before the disk has it: what is accepted is an output first, and
//! is held only when it was kept.

use rap_contract::{Checkpoint, LogKeyChain, PublicKey, Reject, check_audit_consistency};
use rap_types::{Digest, InstallationId, Reason};
use rap_wire::v1;

use crate::known_features;

/// A checkpoint with the records that vouch for its key, as they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldCheckpoint {
    /// Encoded log key records, generation 1..n.
    pub records: Vec<Vec<u8>>,
    /// The signed note.
    pub note: Vec<u8>,
}

/// What a membership's disk has of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptAudit {
    /// The checkpoint kept last.
    pub checkpoint: Option<HeldCheckpoint>,
    /// True if evidence of two histories is kept.
    pub contradicted: bool,
}

/// Two signed statements of one log that cannot both be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvidence {
    /// What this node holds.
    pub held: HeldCheckpoint,
    /// What it was shown.
    pub shown: HeldCheckpoint,
    /// The proof it was shown.
    pub consistency: Vec<Vec<u8>>,
    /// What does not fit.
    pub reject: Reject,
}

/// What becomes of a checkpoint that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witnessed {
    /// Larger, and of the same history: keep it, then say so by [`Witness::kept`].
    Keep(Box<HeldCheckpoint>),
    /// The one that is held.
    Known,
    /// Of another history.
    Contradiction(Box<AuditEvidence>),
    /// Not a checkpoint of this log, or a smaller one; or it cannot be told, or evidence is kept already.
    Refused(Reject),
}

/// A checkpoint that is held, with the chain of log keys that vouches for it.
#[derive(Debug, Clone)]
struct Held {
    chain: LogKeyChain,
    checkpoint: Checkpoint,
    kept: HeldCheckpoint,
}

/// The witness of one membership.
#[derive(Debug, Clone)]
pub struct Witness {
    installation: InstallationId,
    authority: PublicKey,
    accept_dev: bool,
    held: Option<Held>,
    contradicted: bool,
    refused: Option<Reject>,
    /// Something larger was offered and is not known to be kept: the next proof may begin with that.
    unsure: bool,
}

impl Witness {
    /// A witness with these pins. What was kept is verified again; what does not hold any more is
    /// forgotten, and counts as the last refusal.
    pub fn start(
        installation: InstallationId,
        authority: PublicKey,
        accept_dev: bool,
        kept: KeptAudit,
    ) -> Self {
        let mut witness = Self {
            installation,
            authority,
            accept_dev,
            held: None,
            contradicted: kept.contradicted,
            refused: None,
            unsure: false,
        };
        if let Some(kept) = kept.checkpoint {
            match witness.open(&kept) {
                Ok((chain, checkpoint)) => witness.held = Some(Held { chain, checkpoint, kept }),
                Err(reject) => witness.refused = Some(reject),
            }
        }
        witness
    }

    /// The checkpoint that is held.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.held.as_ref().map(|held| held.checkpoint)
    }

    /// The note for a hello; empty without one.
    pub fn note(&self) -> Vec<u8> {
        self.held.as_ref().map(|held| held.kept.note.clone()).unwrap_or_default()
    }

    /// Why the last checkpoint that was refused was.
    pub const fn refused(&self) -> Option<Reject> {
        self.refused
    }

    /// True if two histories were shown to this node.
    pub const fn contradicted(&self) -> bool {
        self.contradicted
    }

    /// Judges what the control plane shows.
    pub fn judge(&mut self, shown: v1::AuditWitness) -> Witnessed {
        let judged = self.compared(shown);
        self.unsure |= matches!(judged, Witnessed::Keep(_));
        self.refused = match &judged {
            Witnessed::Keep(_) | Witnessed::Known => None,
            Witnessed::Contradiction(evidence) => Some(evidence.reject),
            Witnessed::Refused(reject) => Some(*reject),
        };
        judged
    }

    fn compared(&mut self, shown: v1::AuditWitness) -> Witnessed {
        let v1::AuditWitness { log_key_records, checkpoint, consistency } = shown;
        let shown = HeldCheckpoint { records: log_key_records, note: checkpoint };
        let (chain, offered) = match self.open(&shown) {
            Ok(opened) => opened,
            Err(reject) => return Witnessed::Refused(reject),
        };
        let Some(held) = &self.held else { return Witnessed::Keep(Box::new(shown)) };
        match compare(held, &chain, &offered, &consistency) {
            Ok(true) => Witnessed::Keep(Box::new(shown)),
            Ok(false) => Witnessed::Known,
            // The first contradiction is the evidence; later ones add nothing to it.
            Err(reject) if reject.reason == Reason::AuditRollback || self.contradicted || self.unsure => {
                Witnessed::Refused(reject)
            }
            Err(reject) => {
                self.contradicted = true;
                let held = held.kept.clone();
                Witnessed::Contradiction(Box::new(AuditEvidence { held, shown, consistency, reject }))
            }
        }
    }

    /// The control plane is told anew what is held; proofs begin with that from now on.
    pub const fn told(&mut self) {
        self.unsure = false;
    }

    /// What was to be kept is on disk.
    pub fn kept(&mut self, kept: HeldCheckpoint) {
        self.unsure = false;
        if let Ok((chain, checkpoint)) = self.open(&kept)
            && self.checkpoint().is_none_or(|held| held < checkpoint)
        {
            self.held = Some(Held { chain, checkpoint, kept });
        }
    }

    /// Verifies a checkpoint. The same records as those of what is held were verified with it.
    fn open(&self, shown: &HeldCheckpoint) -> Result<(LogKeyChain, Checkpoint), Reject> {
        let chain = match &self.held {
            Some(held) if held.kept.records == shown.records => held.chain.clone(),
            Some(_) | None => {
                let features = known_features(self.accept_dev);
                LogKeyChain::verify(&shown.records, &self.authority, self.installation, features)?
            }
        };
        let checkpoint = Checkpoint::open(&shown.note, &chain)?;
        Ok((chain, checkpoint))
    }
}

/// True if what is offered goes on from what is held, false if it is the same.
fn compare(
    held: &Held,
    chain: &LogKeyChain,
    offered: &Checkpoint,
    consistency: &[Vec<u8>],
) -> Result<bool, Reject> {
    let Held { checkpoint: held, kept, .. } = held;
    let inconsistent = |what| Reject::new(Reason::AuditInconsistent, what);
    let behind = Reject::new(Reason::AuditRollback, "an older checkpoint than this node holds");
    if kept.records.starts_with(chain.envelopes()) && chain.envelopes().len() < kept.records.len() {
        return Err(behind);
    }
    if !chain.envelopes().starts_with(&kept.records) {
        return Err(inconsistent("two log keys for one generation"));
    }
    if offered.generation > held.generation {
        // The installation authority says that the log began anew, and with what.
        return Ok(true);
    }
    if offered.size < held.size {
        return Err(behind);
    }
    let hashes: Vec<Digest> = consistency
        .iter()
        .map(|hash| Digest::from_slice(hash))
        .collect::<Result<_, _>>()
        .map_err(|_| inconsistent("a hash of the proof has not 32 bytes"))?;
    let proof = if offered.size == held.size { &[] } else { hashes.as_slice() };
    check_audit_consistency((held.size, held.root), (offered.size, offered.root), proof)
        .map_err(|reject| inconsistent(reject.what))?;
    Ok(offered.size > held.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_contract::{AuditTree, LogKeyTerms, Signer, audit_leaf_hash, sign_log_key};
    use rap_types::Wall;

    struct Log {
        authority: Signer,
        keys: Vec<Signer>,
        records: Vec<Vec<u8>>,
        tree: AuditTree,
    }

    fn installation() -> InstallationId {
        InstallationId::from_bytes([1; 16])
    }

    impl Log {
        fn new(entries: u64) -> Self {
            let tree = AuditTree::of((0..entries).map(|entry| audit_leaf_hash(&entry.to_be_bytes())));
            let mut log =
                Self { authority: Signer::from_seed(&[1; 32]), keys: vec![], records: vec![], tree };
            log.begin(0);
            log
        }

        fn begin(&mut self, first_size: u64) {
            let key = Signer::from_seed(&[10 + self.keys.len() as u8; 32]);
            let previous =
                LogKeyChain::verify(&self.records, &self.authority.public(), installation(), &[]).ok();
            let first_root = self.tree.root(first_size).unwrap();
            let now = Wall(1_800_000_000_000);
            let terms = LogKeyTerms {
                installation: installation(),
                dev: false,
                first_size,
                first_root,
                reason: "test",
                now,
            };
            self.records.push(sign_log_key(&terms, previous.as_ref(), &self.authority, &key));
            self.keys.push(key);
        }

        fn shown(&self, from: u64, size: u64) -> v1::AuditWitness {
            let generation = self.keys.len() as u64;
            let checkpoint = Checkpoint { generation, size, root: self.tree.root(size).unwrap() };
            let proof = self.tree.consistency(from, size).unwrap_or_default();
            v1::AuditWitness {
                log_key_records: self.records.clone(),
                checkpoint: checkpoint.sign(installation(), &self.keys[self.keys.len() - 1]),
                consistency: proof.into_iter().map(Digest::to_vec).collect(),
            }
        }

        fn witness(&self) -> Witness {
            self.started(KeptAudit::default())
        }

        fn started(&self, kept: KeptAudit) -> Witness {
            Witness::start(installation(), self.authority.public(), false, kept)
        }
    }

    fn keep(witness: &mut Witness, shown: v1::AuditWitness) {
        match witness.judge(shown) {
            Witnessed::Keep(kept) => witness.kept(*kept),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_larger_checkpoint_of_one_history_is_kept_and_held_only_then() {
        let log = Log::new(9);
        let mut witness = log.witness();
        let Witnessed::Keep(first) = witness.judge(log.shown(0, 3)) else { panic!("the first") };
        assert_eq!(witness.checkpoint(), None, "nothing is held before it is on disk");
        witness.kept(*first.clone());
        assert_eq!(witness.checkpoint().unwrap().size, 3);
        assert_eq!(witness.judge(log.shown(3, 3)), Witnessed::Known);
        keep(&mut witness, log.shown(3, 9));
        assert_eq!(witness.checkpoint().unwrap().size, 9);
        let Witnessed::Refused(older) = witness.judge(log.shown(0, 3)) else { panic!("older") };
        assert_eq!((older.reason, witness.contradicted()), (Reason::AuditRollback, false));
        let kept = KeptAudit { checkpoint: Some(*first.clone()), contradicted: false };
        let again = log.started(kept);
        assert_eq!((again.checkpoint().unwrap().size, again.refused()), (3, None));
        let mut damaged = *first;
        damaged.note[40] ^= 1;
        let kept = KeptAudit { checkpoint: Some(damaged), contradicted: false };
        let forgotten = log.started(kept);
        assert!(forgotten.checkpoint().is_none() && forgotten.refused().is_some());
    }

    #[test]
    fn another_history_is_a_contradiction_with_both_sides_as_evidence() {
        let log = Log::new(9);
        let mut forked = Log::new(9);
        forked.tree = AuditTree::of((0..9u64).map(|entry| audit_leaf_hash(&(entry + 1).to_be_bytes())));
        for (shown, size) in [(forked.shown(3, 9), 9), (forked.shown(3, 3), 3)] {
            let mut witness = log.witness();
            keep(&mut witness, log.shown(0, 3));
            let Witnessed::Contradiction(evidence) = witness.judge(shown.clone()) else { panic!("{size}") };
            assert_eq!(evidence.reject.reason, Reason::AuditInconsistent);
            assert_eq!(evidence.shown.note, shown.checkpoint);
            assert!(!evidence.held.note.is_empty() && witness.contradicted());
            assert_eq!(witness.checkpoint().unwrap().size, 3, "what was held stays");
            assert!(matches!(witness.judge(shown), Witnessed::Refused(_)), "one evidence is enough");
            keep(&mut witness, log.shown(3, 9));
        }
    }

    #[test]
    fn a_checkpoint_that_could_not_be_kept_is_no_contradiction_later() {
        let log = Log::new(9);
        let mut witness = log.witness();
        keep(&mut witness, log.shown(0, 3));
        assert!(matches!(witness.judge(log.shown(3, 5)), Witnessed::Keep(_)));
        // The disk was full; the control plane goes on from 5.
        assert!(matches!(witness.judge(log.shown(5, 9)), Witnessed::Refused(_)));
        assert!(!witness.contradicted());
        witness.told();
        keep(&mut witness, log.shown(3, 9));
    }

    #[test]
    fn strangers_keys_and_altered_notes_are_refused_and_prove_nothing() {
        let log = Log::new(3);
        let mut witness = log.witness();
        let mut altered = log.shown(0, 3);
        altered.checkpoint[60] ^= 1;
        let mut stranger = Log::new(3);
        stranger.authority = Signer::from_seed(&[9; 32]);
        stranger.records.clear();
        stranger.keys.clear();
        stranger.begin(0);
        let none = v1::AuditWitness { log_key_records: vec![], ..log.shown(0, 3) };
        for shown in [altered, stranger.shown(0, 3), none] {
            assert!(matches!(witness.judge(shown), Witnessed::Refused(_)));
            assert!(!witness.contradicted());
        }
    }

    #[test]
    fn only_the_installation_authority_begins_a_generation() {
        let mut log = Log::new(9);
        let mut witness = log.witness();
        keep(&mut witness, log.shown(0, 9));
        let before = log.records.clone();
        log.begin(4);
        keep(&mut witness, log.shown(0, 5));
        assert_eq!(witness.checkpoint().map(|held| (held.generation, held.size)), Some((2, 5)));
        // The old generation is over.
        log.records = before;
        log.keys.truncate(1);
        assert!(matches!(witness.judge(log.shown(0, 9)), Witnessed::Refused(_)));
    }
}
