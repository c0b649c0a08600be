//! Role grants: who may operate the platform, and the one signed set that says which grants are live.
//!
//! Owns what a grant, a revocation and a set must look like and how they hold together. Refuses to own
//! the floor below which no set is accepted, and which role may do what (rap-authority).

use std::collections::BTreeMap;
use std::time::Duration;

use rap_types::{ClusterId, Digest, InstallationId, PlatformRole, Reason, Wall};
use rap_wire::v1;

use crate::{Audience, Expectation, KeySet, PublicKey, Reject, Verified, verify};

/// Life of a set: it is signed again long before.
pub const ROLE_GRANT_SET_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Most grants and revocations in one set.
pub const ROLE_GRANT_SET_CAP: usize = 4096;

/// What a grant gives, or which grant a revocation takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleGrantTerms {
    /// Digest of the signed document.
    pub digest: Digest,
    /// Sequence of the set that took it up first.
    pub taken_up: u64,
    /// Key that proves who it is.
    pub subject: PublicKey,
    /// Name for audit and screens.
    pub name: String,
    /// What the subject may do.
    pub role: PlatformRole,
    /// When it was signed.
    pub issued_at: Wall,
    /// When it ends, if it does.
    pub expires_at: Option<Wall>,
    /// For a revocation: digest of the grant it takes back.
    pub revokes: Option<Digest>,
}

impl RoleGrantTerms {
    /// Verifies an encoded grant or revocation by the installation authority.
    ///
    /// # Errors
    /// Those of [`verify`], `key.invalid`, `payload.malformed`.
    pub fn open(
        bytes: &[u8],
        authority: &PublicKey,
        expect: &Expectation<'_>,
    ) -> Result<(Verified<v1::RoleGrant>, Self), Reject> {
        let grant: Verified<v1::RoleGrant> = verify(bytes, &KeySet::of::<v1::RoleGrant>(*authority), expect)?;
        let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
        let header = grant.header();
        if header.sequence == 0 {
            return Err(malformed("sequence"));
        }
        let revokes = match (grant.revoked, grant.revokes_digest.as_slice()) {
            (false, []) => None,
            (true, digest) => Some(Digest::from_slice(digest).map_err(|_| malformed("revokes_digest"))?),
            (false, _) => return Err(malformed("revokes_digest")),
        };
        if revokes.is_some() && header.expires_at.is_some() {
            return Err(malformed("a revocation does not end"));
        }
        let name = &grant.subject_name;
        if name.is_empty() || name.len() > 256 || name.chars().any(char::is_control) {
            return Err(malformed("subject_name"));
        }
        let terms = Self {
            digest: grant.digest(),
            taken_up: header.sequence,
            subject: PublicKey::from_slice(&grant.subject_key)?,
            name: name.clone(),
            role: grant.platform_role.parse().map_err(|_| malformed("platform_role"))?,
            issued_at: header.issued_at,
            expires_at: header.expires_at,
            revokes,
        };
        Ok((grant, terms))
    }

    /// True while it has not ended.
    pub fn holds_at(&self, now: Wall) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// A set's own values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleGrantSet {
    /// Digest of the signed document.
    pub digest: Digest,
    /// Position in the chain of sets, from 1.
    pub sequence: u64,
    /// Digest of the set before; `None` for the first.
    pub previous: Option<Digest>,
    /// Digests of every live grant and every revocation, ascending.
    pub members: Vec<Digest>,
    /// When it was signed.
    pub issued_at: Wall,
    /// When it ends.
    pub expires_at: Wall,
}

impl RoleGrantSet {
    /// Verifies an encoded set by the installation authority.
    ///
    /// # Errors
    /// Those of [`verify`], `payload.malformed`.
    pub fn open(
        bytes: &[u8],
        authority: &PublicKey,
        expect: &Expectation<'_>,
    ) -> Result<(Verified<v1::RoleGrantSet>, Self), Reject> {
        let keys = KeySet::of::<v1::RoleGrantSet>(*authority);
        let set: Verified<v1::RoleGrantSet> = verify(bytes, &keys, expect)?;
        let malformed = |what| Reject::new(Reason::PayloadMalformed, what);
        let header = set.header();
        let previous = match (header.sequence, set.previous_set_digest.as_slice()) {
            (1, []) => None,
            (2.., digest) => Some(Digest::from_slice(digest).map_err(|_| malformed("previous_set_digest"))?),
            _ => return Err(malformed("sequence")),
        };
        let life = |end: Wall| {
            Duration::from_millis(u64::try_from(end.0.saturating_sub(header.issued_at.0)).unwrap_or(0))
        };
        let expires_at = header
            .expires_at
            .filter(|end| life(*end) <= ROLE_GRANT_SET_LIFE)
            .ok_or(malformed("a set lives at most 24 h"))?;
        if set.grant_digests.is_empty() || set.grant_digests.len() > ROLE_GRANT_SET_CAP {
            return Err(malformed("grant_digests"));
        }
        let members: Vec<Digest> = set
            .grant_digests
            .iter()
            .map(|digest| Digest::from_slice(digest).map_err(|_| malformed("grant_digests")))
            .collect::<Result<_, _>>()?;
        if !members.is_sorted_by(|a, b| a < b) {
            return Err(malformed("grant_digests are not ascending"));
        }
        let terms = Self {
            digest: set.digest(),
            sequence: header.sequence,
            previous,
            members,
            issued_at: header.issued_at,
            expires_at,
        };
        Ok((set, terms))
    }

    /// Checks that this set is the one right after `last`.
    ///
    /// # Errors
    /// `chain.broken`.
    pub fn follows(&self, sequence: u64, digest: Digest) -> Result<(), Reject> {
        if self.sequence == sequence + 1 && self.previous == Some(digest) {
            return Ok(());
        }
        Err(Reject::new(Reason::ChainBroken, "role-grant set does not follow the one before"))
    }
}

/// A verified set with the verified documents it names.
#[derive(Debug, Clone)]
pub struct RoleGrants {
    set: RoleGrantSet,
    live: Vec<RoleGrantTerms>,
    revocations: Vec<RoleGrantTerms>,
}

impl RoleGrants {
    /// Verifies a set and every document it names, and says what each of `documents` is; `None` for a
    /// stranger: one that does not verify, or that the set does not name and no revocation in it takes
    /// back.
    ///
    /// # Errors
    /// Those of verification, `chain.broken` if the set names a document that is not there, names one
    /// that is taken up later, or keeps a grant that it also takes back.
    pub fn verify<B: AsRef<[u8]>>(
        set: &[u8],
        documents: &[B],
        authority: &PublicKey,
        installation: InstallationId,
        features: &[&str],
    ) -> Result<(Self, Vec<Option<RoleGrantTerms>>), Reject> {
        let broken = |what| Reject::new(Reason::ChainBroken, what);
        let audience = [Audience::Installation(installation)];
        let expect = Expectation::within(installation, ClusterId::ZERO, features).for_one_of(&audience);
        let (_, set) = RoleGrantSet::open(set, authority, &expect)?;
        // A document that does not verify cannot be one that the set names.
        let mut known: Vec<Option<RoleGrantTerms>> = documents
            .iter()
            .map(|bytes| {
                RoleGrantTerms::open(bytes.as_ref(), authority, &expect).map(|(_, terms)| terms).ok()
            })
            .collect();
        let present: BTreeMap<Digest, &RoleGrantTerms> =
            known.iter().flatten().map(|terms| (terms.digest, terms)).collect();
        let mut grants = Self { set, live: Vec::new(), revocations: Vec::new() };
        for digest in &grants.set.members {
            let terms = *present.get(digest).ok_or(broken("a document of the role-grant set is absent"))?;
            if terms.taken_up > grants.set.sequence {
                return Err(broken("a grant is younger than its set"));
            }
            let kind = if terms.revokes.is_some() { &mut grants.revocations } else { &mut grants.live };
            kind.push(terms.clone());
        }
        if grants.live.iter().any(|grant| grants.takes_back(grant.digest)) {
            return Err(broken("a role-grant set keeps a grant that it takes back"));
        }
        for terms in &mut known {
            let named =
                |digest| grants.set.members.binary_search(&digest).is_ok() || grants.takes_back(digest);
            if terms.as_ref().is_some_and(|terms| !named(terms.digest)) {
                *terms = None;
            }
        }
        Ok((grants, known))
    }

    fn takes_back(&self, digest: Digest) -> bool {
        self.revocations.iter().any(|revocation| revocation.revokes == Some(digest))
    }

    /// The set's own values.
    pub fn set(&self) -> &RoleGrantSet {
        &self.set
    }

    /// Grants that are not taken back; some may have ended.
    pub fn live(&self) -> &[RoleGrantTerms] {
        &self.live
    }

    /// Revocations.
    pub fn revocations(&self) -> &[RoleGrantTerms] {
        &self.revocations
    }

    /// The grant of a key that holds now.
    pub fn of(&self, key: &PublicKey, now: Wall) -> Option<&RoleGrantTerms> {
        self.live.iter().find(|grant| grant.subject == *key && grant.holds_at(now))
    }
}
