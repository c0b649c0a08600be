//! The life of a cluster's authority keys: prepared, active, tainted, revoked, in this order only.
//!
//! Owns which step is legal from which state, which key signs and which keys still open join tokens.
//! Refuses to own the keys, the records and the count of confirmations.

use rap_contract::{KeyState, Reject};
use rap_types::Reason;

/// What happens to a cluster's authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorityStep {
    /// A key is made or imported for the next rotation.
    Prepare,
    /// The prepared key is named by a record of the newest key.
    Rotate,
    /// A new key is named by a record of the installation authority: every earlier key is lost or stolen.
    Recover,
    /// The key of this record is replaced for good.
    Taint {
        /// Sequence in the chain of records.
        sequence: u64,
        /// Nodes seen within a day that have not confirmed a later record.
        unconfirmed: u64,
        /// Goes on without them.
        force: bool,
    },
    /// The key of this record never counts again.
    Revoke {
        /// Sequence in the chain of records.
        sequence: u64,
    },
}

/// The states of every key of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuthorityLife {
    /// By position in the chain, from 1.
    links: Vec<KeyState>,
    prepared: bool,
}

impl AuthorityLife {
    /// A cluster that was just created: one active key.
    pub fn created() -> Self {
        Self { links: vec![KeyState::Active], prepared: false }
    }

    /// Reads stored states, first link first.
    ///
    /// # Errors
    /// `row.tampered` for states that no sequence of steps leads to.
    pub fn of(links: Vec<KeyState>, prepared: bool) -> Result<Self, Reject> {
        let tampered = |what| Reject::new(Reason::RowTampered, what);
        let Some((newest, earlier)) = links.split_last() else {
            return Err(tampered("the cluster has no authority"));
        };
        if *newest != KeyState::Active {
            return Err(tampered("the newest authority is not active"));
        }
        if earlier.contains(&KeyState::Prepared) {
            return Err(tampered("a key with a record is not prepared"));
        }
        Ok(Self { links, prepared })
    }

    /// The states after `step`.
    ///
    /// # Errors
    /// `authority.state` for a step that does not fit, `authority.unconfirmed`, `resource.not_found`.
    pub fn after(&self, step: AuthorityStep) -> Result<Self, Reject> {
        let unfit = |what| Err(Reject::new(Reason::AuthorityState, what));
        let mut next = self.clone();
        match step {
            AuthorityStep::Prepare if self.prepared => return unfit("a key is prepared already"),
            AuthorityStep::Prepare => next.prepared = true,
            AuthorityStep::Rotate if !self.prepared => return unfit("no key is prepared"),
            AuthorityStep::Rotate => {
                next.links.push(KeyState::Active);
                next.prepared = false;
            }
            AuthorityStep::Recover => {
                // A key that was sealed beside a stolen one is not trusted either.
                next.links.fill(KeyState::Revoked);
                next.links.push(KeyState::Active);
                next.prepared = false;
            }
            AuthorityStep::Taint { sequence, unconfirmed, force } => {
                let link = next.earlier_mut(sequence)?;
                if *link != KeyState::Active {
                    return unfit("only a key in overlap is tainted");
                }
                if unconfirmed > 0 && !force {
                    return Err(Reject::new(
                        Reason::AuthorityUnconfirmed,
                        "nodes seen within a day have not confirmed the newer record",
                    ));
                }
                *link = KeyState::Tainted;
            }
            AuthorityStep::Revoke { sequence } => {
                let link = next.earlier_mut(sequence)?;
                if *link != KeyState::Tainted {
                    return unfit("only a tainted key is revoked");
                }
                *link = KeyState::Revoked;
            }
        }
        Ok(next)
    }

    fn earlier_mut(&mut self, sequence: u64) -> Result<&mut KeyState, Reject> {
        let unfit =
            Reject::new(Reason::AuthorityState, "the newest authority stays active; rotate or recover");
        let newest = self.links.len();
        let index = usize::try_from(sequence).ok().and_then(|sequence| sequence.checked_sub(1));
        match index {
            Some(index) if index + 1 == newest => Err(unfit),
            Some(index) => self
                .links
                .get_mut(index)
                .ok_or(Reject::new(Reason::ResourceNotFound, "no such authority record")),
            None => Err(Reject::new(Reason::ResourceNotFound, "authority records begin at 1")),
        }
    }

    /// State of the key at `sequence`.
    pub fn state(&self, sequence: u64) -> Option<KeyState> {
        self.links.get(usize::try_from(sequence.checked_sub(1)?).ok()?).copied()
    }

    /// Place of the key that signs.
    pub fn signer(&self) -> u64 {
        self.links.len() as u64
    }

    /// True while a key waits for its record.
    pub fn has_prepared(&self) -> bool {
        self.prepared
    }

    /// Whether join tokens that the key at `sequence` signed still count.
    ///
    /// # Errors
    /// `token.authority_revoked`, `key.unknown`.
    pub fn admits_tokens_of(&self, sequence: u64) -> Result<(), Reject> {
        match self.state(sequence) {
            Some(KeyState::Active | KeyState::Tainted) => Ok(()),
            Some(KeyState::Revoked) => Err(Reject::new(Reason::TokenAuthorityRevoked, "ask for a new token")),
            Some(KeyState::Prepared) | None => Err(Reject::new(Reason::KeyUnknown, "no such authority")),
        }
    }
}
