//! The pin moves: authority records that extend the chain, kept on disk before they count.
//!
//! Owns when another key's heads count, and what becomes of those of the key before. Refuses to own
//! the verification of records (rap-contract) and their storage.

use std::sync::Arc;

use rap_contract::{AuthorityChain, HeadFacts, Reject, Verified};
use rap_types::{Digest, Incarnation, Now, Reason};
use rap_wire::v1;

use super::{Acceptor, OUTSTANDING_CAP, Output, Outstanding, Record};
use crate::known_features;

/// Most records one message may bring.
const RECORDS_CAP: usize = 1024;

impl Acceptor {
    /// What this node says of its chain: after a hello, and when it changed.
    pub fn confirmation(&self) -> v1::AuthorityConfirm {
        let chain = &self.pinned.chain;
        v1::AuthorityConfirm {
            sequence: chain.sequence(),
            digest: chain.digest().to_vec(),
            reason: String::new(),
        }
    }

    pub(super) fn records_arrived(&mut self, records: &v1::AuthorityRecords, now: Now) {
        match self.extend(records) {
            // Nothing new: the control plane has not heard yet what is on disk.
            Ok(chain) if chain.sequence() == self.pinned.chain.sequence() => {
                let confirmation = self.confirmation();
                self.outputs.push_back(Output::Confirm(confirmation));
            }
            Ok(chain) => self.persist_chain(Arc::new(chain)),
            Err(reject) => self.refuse_records(reject, now),
        }
    }

    fn extend(&self, records: &v1::AuthorityRecords) -> Result<AuthorityChain, Reject> {
        if records.records.len() > RECORDS_CAP {
            return Err(Reject::new(Reason::ChainBroken, "more records than a chain may have"));
        }
        Reject::when(self.outstanding.len() >= OUTSTANDING_CAP, Reason::StateTimeout, "the disk is behind")?;
        // Records that are on their way to the disk are as good as pinned for what follows them.
        let newest = self.outstanding.iter().rev().find_map(|outstanding| outstanding.chain.as_ref());
        let features = known_features(self.pinned.accept_dev);
        newest.unwrap_or(&self.pinned.chain).extended(
            &records.records,
            &self.pinned.installation_authority,
            features,
        )
    }

    fn persist_chain(&mut self, chain: Arc<AuthorityChain>) {
        let id = self.next_persist();
        self.outstanding.push_back(Outstanding { id, snapshot: None, chain: Some(chain.clone()) });
        let record = Record {
            floors: self.floors.reset_to(Incarnation(chain.incarnation())),
            snapshot: None,
            contents_changed: false,
            evidence: None,
            chain: Some(chain),
        };
        self.outputs.push_back(Output::Persist(id, Box::new(record)));
    }

    /// The records are on disk: from here on only the new key's heads count. The snapshot in use stays
    /// until its first one.
    pub(super) fn pin(&mut self, chain: Arc<AuthorityChain>) {
        self.keys = chain.keys::<v1::ClusterHead>();
        self.floors = self.floors.reset_to(Incarnation(chain.incarnation()));
        self.pinned.chain = chain;
        self.base.clone_from(&self.active);
        let confirmation = self.confirmation();
        self.outputs.push_back(Output::Confirm(confirmation));
    }

    pub(super) fn refuse_records(&mut self, reject: Reject, now: Now) {
        self.rejects.count(reject.reason, self.clock.wall(now));
        let reason = reject.reason.code().to_owned();
        let refusal = v1::AuthorityConfirm { reason, ..self.confirmation() };
        self.outputs.push_back(Output::Confirm(refusal));
    }

    /// A head from this node's own disk. Until the first head of a new authority is accepted, the last
    /// one that its predecessor signed in its own time still holds.
    pub(super) fn open_stored(&self, bytes: &[u8]) -> Result<(Verified<v1::ClusterHead>, HeadFacts), Reject> {
        let chain = &self.pinned.chain;
        let head = HeadFacts::open(bytes, &chain.all_keys::<v1::ClusterHead>(), &self.expect(None))?;
        let owner = chain.key_at(head.1.order.incarnation.0).map(|key| key.id());
        if owner.as_ref() != head.0.signers().first() {
            return Err(Reject::new(Reason::KeyState, "signed outside the time of its key"));
        }
        if owner == Some(chain.active().id()) {
            self.floors.admits_stored(&head.1)?;
        } else if !self.floors.is_reset_to(self.pinned.incarnation()) {
            return Err(Reject::new(Reason::SnapshotRollback, "signed by an authority that was replaced"));
        }
        Ok(head)
    }

    /// Position and digest of the newest authority record on disk.
    pub fn authority(&self) -> (u64, Digest) {
        (self.pinned.chain.sequence(), self.pinned.chain.digest())
    }
}
