//! The chain of records that says which key signs checkpoints of the audit log.
//!
//! A generation is one life of the log. A new one begins only by a record of the installation
//! authority, which also names the tree it begins with: so lost history is never lost silently.

use rap_types::{ClusterId, Digest, InstallationId, KeyId, Reason, Wall};
use rap_wire::v1;

use crate::verify::verify_cosigned;
use crate::{Audience, Expectation, HeaderTerms, KeySet, PublicKey, Reject, Signer, Verified, sign};

/// Most generations a log may have.
const GENERATIONS_CAP: usize = 256;

/// Longest reason of a record, bytes.
const REASON_CAP: usize = 1024;

/// One generation of a log, as its record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogGeneration {
    /// Its number, from 1.
    pub generation: u64,
    /// Key that signs its checkpoints.
    pub key: PublicKey,
    /// Entries that the log had when it began.
    pub first_size: u64,
    /// Root of the tree of those.
    pub first_root: Digest,
    /// Why it began.
    pub reason: String,
    /// When.
    pub issued_at: Wall,
}

/// What a new record says.
#[derive(Debug, Clone)]
pub struct LogKeyTerms<'a> {
    /// The installation.
    pub installation: InstallationId,
    /// True for a development installation.
    pub dev: bool,
    /// Entries that the log has.
    pub first_size: u64,
    /// Root of the tree of those.
    pub first_root: Digest,
    /// Why it begins.
    pub reason: &'a str,
    /// Now.
    pub now: Wall,
}

/// A log's verified key records, first to last.
#[derive(Debug, Clone)]
pub struct LogKeyChain {
    installation: InstallationId,
    generations: Vec<LogGeneration>,
    envelopes: Vec<Vec<u8>>,
    digest: Digest,
}

/// Signs the record of a new generation; `previous` is the chain so far.
pub fn sign_log_key(
    terms: &LogKeyTerms<'_>,
    previous: Option<&LogKeyChain>,
    installation_authority: &Signer,
    log_key: &Signer,
) -> Vec<u8> {
    let features = if terms.dev { vec![crate::FEATURE_DEV.to_owned()] } else { Vec::new() };
    let record = v1::LogKeyRecord {
        header: Some(
            HeaderTerms {
                sequence: previous.map_or(1, |chain| chain.newest().generation + 1),
                critical: features,
                ..HeaderTerms::of_installation(terms.installation, installation_authority.id(), terms.now)
            }
            .to_wire(),
        ),
        log_key: log_key.public().to_vec(),
        previous_record_digest: previous.map(|chain| chain.digest.to_vec()).unwrap_or_default(),
        first_size: terms.first_size,
        first_root: terms.first_root.to_vec(),
        reason: terms.reason.to_owned(),
    };
    sign(&record, &[installation_authority, log_key])
}

impl LogKeyChain {
    /// Walks encoded records from the installation authority to the newest log key.
    ///
    /// # Errors
    /// Those of verification, `chain.broken` for a gap, a wrong link or a key that returns.
    pub fn verify<B: AsRef<[u8]>>(
        records: &[B],
        installation_authority: &PublicKey,
        installation: InstallationId,
        features: &[&str],
    ) -> Result<Self, Reject> {
        let broken = |what| Reject::new(Reason::ChainBroken, what);
        if records.is_empty() || records.len() > GENERATIONS_CAP {
            return Err(broken("a log has 1 to 256 generations"));
        }
        let audience = [Audience::Installation(installation)];
        let expect = Expectation::within(installation, ClusterId::ZERO, features).for_one_of(&audience);
        let keys = KeySet::of::<v1::LogKeyRecord>(*installation_authority);
        let mut chain: Option<Self> = None;
        for bytes in records {
            let record = verify_cosigned(bytes.as_ref(), &keys, &expect, |record: &v1::LogKeyRecord| {
                PublicKey::from_slice(&record.log_key).map(Some)
            })?;
            chain = Some(Self::link(chain, &record)?);
        }
        chain.ok_or(broken("empty"))
    }

    fn link(chain: Option<Self>, record: &Verified<v1::LogKeyRecord>) -> Result<Self, Reject> {
        let broken = |what| Reject::new(Reason::ChainBroken, what);
        let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
        let header = record.header();
        if record.reason.len() > REASON_CAP {
            return Err(malformed("reason"));
        }
        let generation = LogGeneration {
            generation: header.sequence,
            key: PublicKey::from_slice(&record.log_key)?,
            first_size: record.first_size,
            first_root: Digest::from_slice(&record.first_root).map_err(|_| malformed("first_root"))?,
            reason: record.reason.clone(),
            issued_at: header.issued_at,
        };
        let mut chain = match chain {
            None if header.sequence == 1 && record.previous_record_digest.is_empty() => Self {
                installation: header.installation,
                generations: Vec::new(),
                envelopes: Vec::new(),
                digest: record.digest(),
            },
            None => return Err(broken("the first generation is 1")),
            Some(chain) => {
                if header.sequence != chain.newest().generation + 1 {
                    return Err(broken("generation is not the next"));
                }
                if record.previous_record_digest != chain.digest.as_bytes() {
                    return Err(broken("previous_record_digest"));
                }
                if chain.generations.iter().any(|known| known.key == generation.key) {
                    return Err(broken("a key signs one generation only"));
                }
                chain
            }
        };
        chain.generations.push(generation);
        chain.envelopes.push(record.envelope().to_vec());
        chain.digest = record.digest();
        Ok(chain)
    }

    /// The installation whose log it is.
    pub const fn installation(&self) -> InstallationId {
        self.installation
    }

    /// The generation that goes on.
    pub fn newest(&self) -> &LogGeneration {
        &self.generations[self.generations.len() - 1]
    }

    /// Every generation, first to last.
    pub fn generations(&self) -> &[LogGeneration] {
        &self.generations
    }

    /// The encoded records, first to last.
    pub fn envelopes(&self) -> &[Vec<u8>] {
        &self.envelopes
    }

    /// Digest of the last record.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Id of the key that signs now.
    pub fn key_id(&self) -> KeyId {
        self.newest().key.id()
    }
}
