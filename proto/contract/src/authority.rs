//! The chain of authority records of a cluster: its last record names the key that signs for the cluster.

use rap_types::{ClusterId, Digest, InstallationId, KeyId, Reason};
use rap_wire::v1;
use v1::authority_record::Kind;

use crate::verify::verify_cosigned;
use crate::{Audience, Expectation, KeySet, PublicKey, Reject, Verified};

/// Most records a chain may have.
const RECORDS_CAP: usize = 1024;

/// A cluster's verified authority records, first to last.
#[derive(Debug, Clone)]
pub struct AuthorityChain {
    records: Vec<Verified<v1::AuthorityRecord>>,
    active: PublicKey,
}

impl AuthorityChain {
    /// Walks encoded records from the installation authority to the active key.
    ///
    /// # Errors
    /// Those of verification, `chain.broken` for a gap, a wrong link or a wrong kind.
    pub fn verify<B: AsRef<[u8]>>(
        records: &[B],
        installation_authority: &PublicKey,
        installation: InstallationId,
        cluster: ClusterId,
        features: &[&str],
    ) -> Result<Self, Reject> {
        let broken = |what| Reject::new(Reason::ChainBroken, what);
        if records.is_empty() || records.len() > RECORDS_CAP {
            return Err(broken("a chain has 1 to 1024 records"));
        }
        let scope = (installation, cluster);
        let mut chain: Option<Self> = None;
        for bytes in records {
            chain = Some(Self::walk(chain, bytes.as_ref(), installation_authority, scope, features)?);
        }
        chain.ok_or(broken("empty"))
    }

    /// This chain with later records. Records it has already are passed over; the first new one must be
    /// exactly the next.
    ///
    /// # Errors
    /// Those of [`Self::verify`].
    pub fn extended<B: AsRef<[u8]>>(
        &self,
        records: &[B],
        installation_authority: &PublicKey,
        features: &[&str],
    ) -> Result<Self, Reject> {
        let header = self.last().header();
        let scope = (header.installation, header.cluster);
        let mut chain = self.clone();
        for bytes in records.iter().map(AsRef::as_ref) {
            if self.records.iter().any(|known| known.envelope() == bytes) {
                continue;
            }
            if chain.records.len() >= RECORDS_CAP {
                return Err(Reject::new(Reason::ChainBroken, "a chain has 1 to 1024 records"));
            }
            chain = Self::walk(Some(chain), bytes, installation_authority, scope, features)?;
        }
        Ok(chain)
    }

    fn walk(
        chain: Option<Self>,
        bytes: &[u8],
        installation_authority: &PublicKey,
        (installation, cluster): (InstallationId, ClusterId),
        features: &[&str],
    ) -> Result<Self, Reject> {
        let audience = [Audience::Cluster(cluster)];
        let expect = Expectation::within(installation, cluster, features).for_one_of(&audience);
        let mut keys = KeySet::of::<v1::AuthorityRecord>(*installation_authority);
        if let Some(chain) = &chain {
            keys = keys.with::<v1::AuthorityRecord>(chain.active, crate::KeyState::Active);
        }
        let record = verify_cosigned(bytes, &keys, &expect, |record: &v1::AuthorityRecord| {
            PublicKey::from_slice(&record.authority_key).map(Some)
        })?;
        Self::link(chain, record, installation_authority)
    }

    fn link(
        chain: Option<Self>,
        record: Verified<v1::AuthorityRecord>,
        installation_authority: &PublicKey,
    ) -> Result<Self, Reject> {
        let broken = |what| Reject::new(Reason::ChainBroken, what);
        let active = PublicKey::from_slice(&record.authority_key)?;
        let kind = Kind::try_from(record.kind).unwrap_or(Kind::Unspecified);
        let issuer = record.header().issuer;
        let Some(mut chain) = chain else {
            if kind != Kind::Create
                || record.header().sequence != 1
                || !record.previous_record_digest.is_empty()
            {
                return Err(broken("the first record creates"));
            }
            if issuer != installation_authority.id() {
                return Err(broken("the installation authority creates"));
            }
            return Ok(Self { records: vec![record], active });
        };
        let last = chain.last();
        if record.header().sequence != last.header().sequence + 1 {
            return Err(broken("sequence is not the next"));
        }
        if record.previous_record_digest != last.digest().as_bytes() {
            return Err(broken("previous_record_digest"));
        }
        // One incarnation belongs to one key.
        if record.header().incarnation <= last.header().incarnation {
            return Err(broken("incarnation does not rise"));
        }
        let signer = match kind {
            Kind::Rotate => chain.active.id(),
            Kind::Recovery => installation_authority.id(),
            Kind::Create | Kind::Unspecified => return Err(broken("only the first record creates")),
        };
        if issuer != signer {
            return Err(broken("signed by the wrong key for its kind"));
        }
        if chain.contains(&active) || active == *installation_authority {
            return Err(broken("a key that was replaced never returns"));
        }
        chain.records.push(record);
        chain.active = active;
        Ok(chain)
    }

    fn last(&self) -> &Verified<v1::AuthorityRecord> {
        &self.records[self.records.len() - 1]
    }

    /// The key that speaks for the cluster now.
    pub fn active(&self) -> PublicKey {
        self.active
    }

    /// Position of the last record, from 1.
    pub fn sequence(&self) -> u64 {
        self.last().header().sequence
    }

    /// Incarnation that the last record starts.
    pub fn incarnation(&self) -> u64 {
        self.last().header().incarnation
    }

    /// Digest of the last record.
    pub fn digest(&self) -> Digest {
        self.last().digest()
    }

    /// The keys that spoke for the cluster, first to last; the last one does now.
    pub fn keys_ever(&self) -> impl Iterator<Item = PublicKey> + '_ {
        // Admitted when the record was linked.
        self.records.iter().filter_map(|record| PublicKey::from_slice(&record.authority_key).ok())
    }

    /// True if the key speaks for the cluster now or did before.
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.keys_ever().any(|known| known == *key)
    }

    /// The key to which heads of `incarnation` belong; `None` before the first record.
    pub fn key_at(&self, incarnation: u64) -> Option<PublicKey> {
        let records = self.records.iter().zip(self.keys_ever());
        let begun = records.take_while(|(record, _)| record.header().incarnation <= incarnation);
        begun.last().map(|(_, key)| key)
    }

    /// Digest of the record at `sequence`, from 1.
    pub fn digest_at(&self, sequence: u64) -> Option<Digest> {
        let index = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.records.get(index).map(Verified::digest)
    }

    /// The encoded records after `sequence`, oldest first.
    pub fn envelopes_after(&self, sequence: u64) -> Vec<Vec<u8>> {
        let known = usize::try_from(sequence).unwrap_or(usize::MAX).min(self.records.len());
        self.records[known..].iter().map(|record| record.envelope().to_vec()).collect()
    }

    /// The encoded records up to the one that heads of `incarnation` belong to.
    pub fn envelopes_until(&self, incarnation: u64) -> Vec<Vec<u8>> {
        let begun = self.records.iter().take_while(|record| record.header().incarnation <= incarnation);
        begun.map(|record| record.envelope().to_vec()).collect()
    }

    /// Every key of the chain as a signer of documents `T`: for what was accepted before and lies on
    /// this host's own disk. The caller compares signer and incarnation with [`Self::key_at`].
    pub fn all_keys<T: crate::Document>(&self) -> KeySet {
        self.keys_ever().fold(KeySet::new(), |keys, key| keys.with::<T>(key, crate::KeyState::Active))
    }

    /// The records, first to last.
    pub fn records(&self) -> &[Verified<v1::AuthorityRecord>] {
        &self.records
    }

    /// The encoded records, first to last.
    pub fn envelopes(&self) -> Vec<Vec<u8>> {
        self.records.iter().map(|record| record.envelope().to_vec()).collect()
    }

    /// Place of the record that gave this key the word in this incarnation.
    pub(crate) fn place_of(&self, key: KeyId, incarnation: u64) -> Option<usize> {
        let is_it = |record: &Verified<v1::AuthorityRecord>| {
            record.header().incarnation == incarnation && KeyId::of(&record.authority_key) == key
        };
        self.records.iter().rposition(is_it)
    }

    /// The active key as the signer of documents `T`.
    pub fn keys<T: crate::Document>(&self) -> KeySet {
        KeySet::of::<T>(self.active)
    }
}
