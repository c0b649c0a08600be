//! The chain of records that says which key speaks for a cluster.

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
        let mut chain: Option<Self> = None;
        for bytes in records {
            let audience = [Audience::Cluster(cluster)];
            let expect = Expectation {
                installation: Some(installation),
                cluster: Some(cluster),
                audience: &audience,
                now: None,
                features,
            };
            let mut keys = KeySet::of::<v1::AuthorityRecord>(*installation_authority);
            if let Some(chain) = &chain {
                keys = keys.with::<v1::AuthorityRecord>(chain.active, crate::KeyState::Active);
            }
            let record = verify_cosigned(bytes.as_ref(), &keys, &expect, |record: &v1::AuthorityRecord| {
                PublicKey::from_slice(&record.authority_key).map(Some)
            })?;
            chain = Some(Self::link(chain, record, installation_authority)?);
        }
        chain.ok_or(broken("empty"))
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
        if record.header().incarnation < last.header().incarnation {
            return Err(broken("incarnation falls"));
        }
        let signer = match kind {
            Kind::Rotate => chain.active.id(),
            Kind::Recovery => installation_authority.id(),
            Kind::Create | Kind::Unspecified => return Err(broken("only the first record creates")),
        };
        if issuer != signer || active == chain.active {
            return Err(broken("signed by the wrong key for its kind"));
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

    /// The records, first to last.
    pub fn records(&self) -> &[Verified<v1::AuthorityRecord>] {
        &self.records
    }

    /// The encoded records, first to last.
    pub fn envelopes(&self) -> Vec<Vec<u8>> {
        self.records.iter().map(|record| record.envelope().to_vec()).collect()
    }

    /// Every key that ever spoke for the cluster, first to last.
    pub fn keys_ever(&self) -> impl Iterator<Item = PublicKey> + '_ {
        // Each was admitted when its record was verified.
        self.records.iter().filter_map(|record| PublicKey::from_slice(&record.authority_key).ok())
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
