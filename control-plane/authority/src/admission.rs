//! Which role-grant set of a database is accepted, and what it then allows.
//!
//! Owns the check of stored sets and grant rows against the floor and the signatures. Refuses to own the reaction
//! to a refusal: the caller raises the alarm.

use std::collections::BTreeSet;

use rap_contract::{Expectation, PublicKey, Reject, RoleGrantSet, RoleGrantTerms, RoleGrants};
use rap_types::{ClusterId, Digest, InstallationId, PlatformRole, Reason, Wall};

use crate::installation::known_features;
use crate::{Floor, FloorOf, OperatorGrant, Permission, ReplicaFloors};

/// A stored grant or revocation with the columns that repeat it.
#[derive(Debug, Clone, Copy)]
pub struct StoredRoleGrant<'a> {
    /// Column `grant_digest`.
    pub digest: Digest,
    /// Column `subject_key`.
    pub subject_key: &'a [u8; 32],
    /// Column `platform_role`.
    pub platform_role: &'a str,
    /// The signed bytes.
    pub envelope: &'a [u8],
}

/// Verifies what the installation authority signed.
#[derive(Debug, Clone, Copy)]
pub struct RoleGrantVerifier {
    /// Installation.
    pub installation: InstallationId,
    /// Its authority.
    pub authority: PublicKey,
    /// True for a development installation.
    pub dev: bool,
}

/// A role-grant set that was verified against signatures, chain and floor.
#[derive(Debug, Clone)]
pub struct AdmittedRoleGrants {
    grants: RoleGrants,
    envelope: Vec<u8>,
    documents: Vec<RoleGrantTerms>,
    tampered: Vec<Digest>,
}

impl RoleGrantVerifier {
    /// Judges the stored sets from the floor on, ascending, with every stored grant. `None` before the
    /// first set of an installation whose floor is fresh.
    ///
    /// # Errors
    /// `floor.missing`, `floor.rollback`, `floor.equivocation`, `chain.broken`, those of verification.
    pub fn admit<B: AsRef<[u8]>>(
        &self,
        floors: Option<&ReplicaFloors>,
        sets: &[B],
        rows: &[StoredRoleGrant<'_>],
    ) -> Result<Option<AdmittedRoleGrants>, Reject> {
        let missing = Reject::new(Reason::FloorMissing, FloorOf::GrantSet.name());
        let floor = floors.and_then(|floors| floors.of(FloorOf::GrantSet)).ok_or(missing)?;
        let rollback = Reject::new(Reason::FloorRollback, FloorOf::GrantSet.name());
        let Some(newest) = sets.last() else {
            return if floor.sequence == 0 { Ok(None) } else { Err(rollback) };
        };
        let mut last: Option<Floor> = None;
        for set in sets {
            let set = self.open_set(set.as_ref())?;
            let at = Floor { sequence: set.sequence, digest: set.digest };
            match last {
                Some(last) => set.follows(last.sequence, last.digest)?,
                // The first one is the floor itself, or the first of all above a fresh floor.
                None if floor.sequence == 0 && at.sequence == 1 => {}
                None if at.sequence < floor.sequence => return Err(rollback),
                None if at.sequence > floor.sequence => {
                    return Err(Reject::new(Reason::ChainBroken, "a role-grant set is absent"));
                }
                None if at.digest != floor.digest => {
                    return Err(Reject::new(Reason::FloorEquivocation, FloorOf::GrantSet.name()));
                }
                None => {}
            }
            last = Some(at);
        }
        self.open(newest.as_ref(), rows).map(Some)
    }

    /// Verifies one set and the stored grants, without a floor.
    ///
    /// # Errors
    /// Those of verification, `chain.broken`.
    pub fn open(&self, set: &[u8], rows: &[StoredRoleGrant<'_>]) -> Result<AdmittedRoleGrants, Reject> {
        let envelopes: Vec<&[u8]> = rows.iter().map(|row| row.envelope).collect();
        let features = known_features(self.dev);
        let (grants, known) =
            RoleGrants::verify(set, &envelopes, &self.authority, self.installation, features)?;
        let agrees = |row: &StoredRoleGrant<'_>, terms: &RoleGrantTerms| {
            row.digest == terms.digest
                && row.subject_key == terms.subject.as_bytes()
                && row.platform_role == terms.role.as_str()
        };
        let paired = || rows.iter().zip(&known).map(|(row, terms)| (row, terms.as_ref()));
        let genuine: BTreeSet<Digest> = paired()
            .filter_map(|(row, terms)| terms.filter(|terms| agrees(row, terms)))
            .map(|terms| terms.digest)
            .collect();
        // A grant whose one row was altered is found by its signature's digest; a copy beside the
        // genuine row by its own.
        let tampered = paired()
            .filter(|(row, terms)| !terms.is_some_and(|terms| agrees(row, terms)))
            .map(|(row, terms)| match terms {
                Some(terms) if !genuine.contains(&terms.digest) => terms.digest,
                _ => row.digest,
            })
            .collect();
        let documents = known.into_iter().flatten().collect();
        Ok(AdmittedRoleGrants { grants, envelope: set.to_vec(), documents, tampered })
    }

    /// Verifies a set alone.
    ///
    /// # Errors
    /// The reason why an envelope does not verify.
    pub fn open_set(&self, set: &[u8]) -> Result<RoleGrantSet, Reject> {
        let audience = [rap_contract::Audience::Installation(self.installation)];
        let within = Expectation::within(self.installation, ClusterId::ZERO, known_features(self.dev));
        RoleGrantSet::open(set, &self.authority, &within.for_one_of(&audience)).map(|(_, terms)| terms)
    }
}

impl AdmittedRoleGrants {
    /// The verified set and what it names.
    pub fn grants(&self) -> &RoleGrants {
        &self.grants
    }

    /// The encoded set.
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Every genuine document: live grants, grants that were taken back, revocations.
    pub fn documents(&self) -> &[RoleGrantTerms] {
        &self.documents
    }

    /// Rows that are not what the set and the signatures say.
    pub fn tampered(&self) -> &[Digest] {
        &self.tampered
    }

    /// Position of the set.
    pub fn at(&self) -> Floor {
        Floor { sequence: self.grants.set().sequence, digest: self.grants.set().digest }
    }

    /// The grant by which the holder of `key` may do what needs `permission`.
    ///
    /// # Errors
    /// `header.expired` for a set past its life, `grant.missing`, `row.tampered` if the grant's row was
    /// altered.
    pub fn allow(
        &self,
        key: &PublicKey,
        permission: Permission,
        now: Wall,
    ) -> Result<&RoleGrantTerms, Reject> {
        Reject::when(now >= self.grants.set().expires_at, Reason::HeaderExpired, "role-grant set")?;
        let missing = Reject::new(Reason::GrantMissing, "no live signed grant names this operator");
        let grant = self.grants.of(key, now).ok_or(missing)?;
        Reject::when(self.tampered.contains(&grant.digest), Reason::RowTampered, "platform_role_grants")?;
        permission.check(grant.role)?;
        Ok(grant)
    }

    /// Who may log in now.
    pub fn operators(&self, now: Wall) -> Vec<OperatorGrant> {
        let holds = |grant: &&RoleGrantTerms| grant.holds_at(now) && !self.tampered.contains(&grant.digest);
        self.grants
            .live()
            .iter()
            .filter(holds)
            .map(|grant| OperatorGrant {
                key: grant.subject,
                name: grant.name.clone(),
                platform_role: grant.role,
            })
            .collect()
    }

    /// Checks the row of an operator against the signed grant.
    ///
    /// # Errors
    /// `row.tampered`.
    pub fn check_operator(grant: &RoleGrantTerms, name: &str, platform_role: &str) -> Result<(), Reject> {
        if name == grant.name && platform_role.parse::<PlatformRole>() == Ok(grant.role) {
            return Ok(());
        }
        Err(Reject::new(Reason::RowTampered, "operators"))
    }
}
