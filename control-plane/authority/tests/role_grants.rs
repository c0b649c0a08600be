//! Granting, revoking and renewing, and which stored sets and rows are accepted.

use std::time::Duration;

use rap_authority::*;
use rap_contract::{PublicKey, Reject, RoleGrantTerms, Signer};
use rap_types::{Digest, InstallationId, PlatformRole, Reason, Wall};

const NOW: Wall = Wall(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// An installation as its database holds it.
struct World {
    authority: Signer,
    dev: bool,
    sets: Vec<Vec<u8>>,
    grants: Vec<(RoleGrantTerms, Vec<u8>)>,
    floors: ReplicaFloors,
}

fn signer(byte: u8) -> Signer {
    Signer::from_seed(&[byte; 32])
}

fn key(byte: u8) -> PublicKey {
    signer(byte).public()
}

fn order(byte: u8, name: &str, role: PlatformRole) -> RoleGrantOrder {
    RoleGrantOrder { subject: key(byte), name: name.into(), role, valid_for: None }
}

impl World {
    /// Activated, with the owner whose key is 1.
    fn new() -> Self {
        let mut world = Self {
            authority: signer(99),
            dev: false,
            sets: vec![],
            grants: vec![],
            floors: ReplicaFloors::fresh(),
        };
        let change = first_role_grant(&world.scope(), "owner", key(1), NOW).unwrap();
        world.store(change);
        world
    }

    fn scope(&self) -> RoleGrantScope<'_> {
        RoleGrantScope {
            installation: InstallationId::from_bytes([7; 16]),
            dev: self.dev,
            authority: &self.authority,
        }
    }

    fn store(&mut self, change: RoleGrantChange) -> Digest {
        let digest = change.terms.digest;
        self.grants.push((change.terms, change.grant));
        self.store_set(change.set);
        digest
    }

    fn store_set(&mut self, set: SignedRoleGrantSet) {
        self.sets.push(set.envelope);
        let admitted = self.admitted();
        assert_eq!(admitted.at(), set.at);
        self.floors = self.floors.raised(FloorOf::GrantSet, set.at).unwrap();
    }

    fn verifier(&self) -> RoleGrantVerifier {
        let RoleGrantScope { installation, dev, authority } = self.scope();
        RoleGrantVerifier { installation, dev, authority: authority.public() }
    }

    fn rows(&self) -> Vec<StoredRoleGrant<'_>> {
        self.grants.iter().map(row_of).collect()
    }

    fn admit(
        &self,
        floors: Option<&ReplicaFloors>,
        sets: &[Vec<u8>],
    ) -> Result<Option<AdmittedRoleGrants>, Reject> {
        self.verifier().admit(floors, sets, &self.rows())
    }

    /// As a replica reads it: from its floor on.
    fn admitted(&self) -> AdmittedRoleGrants {
        let from = self.floors.of(FloorOf::GrantSet).unwrap().sequence.max(1) as usize - 1;
        self.admit(Some(&self.floors), &self.sets[from..]).unwrap().unwrap()
    }

    fn add(&mut self, actor: u8, order: &RoleGrantOrder) -> Result<Digest, Reason> {
        let admitted = self.admitted();
        let actor = admitted.grants().of(&key(actor), NOW).unwrap();
        let change = add_role_grant(&self.scope(), admitted.grants(), actor, order, NOW)
            .map_err(|reject| reject.reason)?;
        Ok(self.store(change))
    }

    fn revoke(&mut self, actor: u8, digest: Digest) -> Result<Digest, Reason> {
        let admitted = self.admitted();
        let actor = admitted.grants().of(&key(actor), NOW).unwrap();
        let change = revoke_role_grant(&self.scope(), admitted.grants(), actor, digest, NOW)
            .map_err(|reject| reject.reason)?;
        Ok(self.store(change))
    }

    fn allow(&self, byte: u8, permission: Permission) -> Result<PlatformRole, Reason> {
        self.admitted()
            .allow(&key(byte), permission, NOW)
            .map(|grant| grant.role)
            .map_err(|reject| reject.reason)
    }
}

fn row_of((terms, envelope): &(RoleGrantTerms, Vec<u8>)) -> StoredRoleGrant<'_> {
    StoredRoleGrant {
        digest: terms.digest,
        subject_key: terms.subject.as_bytes(),
        platform_role: terms.role.as_str(),
        envelope,
    }
}

#[test]
fn the_first_owner_is_grant_one_of_set_one() {
    let world = World::new();
    let admitted = world.admitted();
    assert_eq!(admitted.at().sequence, 1);
    assert_eq!(admitted.grants().set().previous, None);
    let [owner] = admitted.grants().live() else { panic!("one grant") };
    assert_eq!((owner.taken_up, owner.role, owner.expires_at), (1, PlatformRole::Owner, None));
    assert_eq!(world.allow(1, Permission::GrantChange), Ok(PlatformRole::Owner));
    assert_eq!(world.allow(2, Permission::StatusRead), Err(Reason::GrantMissing));
    // Before the activation a fresh replica has nothing to admit.
    let none: &[Vec<u8>] = &[];
    assert!(world.verifier().admit(Some(&ReplicaFloors::fresh()), none, &[]).unwrap().is_none());
}

#[test]
fn who_may_grant_what() {
    let mut world = World::new();
    world.add(1, &order(2, "admin", PlatformRole::Admin)).unwrap();
    world.add(1, &order(3, "safe", PlatformRole::Recovery)).unwrap();
    for (actor, role, allowed) in [
        (2, PlatformRole::Owner, false),
        (2, PlatformRole::Admin, false),
        (2, PlatformRole::Recovery, false),
        (3, PlatformRole::Admin, false),
        (3, PlatformRole::Recovery, false),
        (3, PlatformRole::Owner, true),
        (1, PlatformRole::Owner, true),
        (1, PlatformRole::Admin, true),
        (1, PlatformRole::Recovery, true),
    ] {
        let number = world.grants.len() as u8 + 10;
        let outcome = world.add(actor, &order(number, &format!("new-{number}"), role));
        let expected = if allowed { None } else { Some(Reason::GrantMissing) };
        assert_eq!(outcome.err(), expected, "{actor} grants {role}");
    }
    // Nobody but an owner revokes.
    let admin = world.admitted().grants().of(&key(2), NOW).unwrap().digest;
    assert_eq!(world.revoke(3, admin), Err(Reason::GrantMissing));
    assert_eq!(world.revoke(2, admin), Err(Reason::GrantMissing));
    world.revoke(1, admin).unwrap();
    assert_eq!(world.allow(2, Permission::StatusRead), Err(Reason::GrantMissing));
}

#[test]
fn the_last_owner_without_an_end_stays() {
    let mut world = World::new();
    let first = world.admitted().grants().live()[0].digest;
    assert_eq!(world.revoke(1, first), Err(Reason::GrantLastOwner));
    let visiting = RoleGrantOrder { valid_for: Some(HOUR), ..order(2, "visiting", PlatformRole::Owner) };
    world.add(1, &visiting).unwrap();
    assert_eq!(world.revoke(2, first), Err(Reason::GrantLastOwner));
    let second = world.add(1, &order(3, "second", PlatformRole::Owner)).unwrap();
    world.revoke(3, first).unwrap();
    assert_eq!(world.allow(1, Permission::StatusRead), Err(Reason::GrantMissing));
    assert_eq!(world.revoke(3, second), Err(Reason::GrantLastOwner));
    assert_eq!(world.revoke(3, first), Err(Reason::ResourceNotFound));
}

#[test]
fn one_live_grant_per_key_and_name_and_sound_orders_only() {
    let mut world = World::new();
    let ann = world.add(1, &order(2, "ann", PlatformRole::Admin)).unwrap();
    assert_eq!(world.add(1, &order(2, "other", PlatformRole::Owner)), Err(Reason::ResourceExists));
    assert_eq!(world.add(1, &order(3, "ann", PlatformRole::Admin)), Err(Reason::ResourceExists));
    for name in ["", " ann", "a\nb", &"a".repeat(257)] {
        assert_eq!(
            world.add(1, &order(4, name, PlatformRole::Admin)),
            Err(Reason::RequestInvalid),
            "{name:?}"
        );
    }
    for life in [Duration::from_secs(59), Duration::from_secs(11 * 365 * 24 * 3600)] {
        let order = RoleGrantOrder { valid_for: Some(life), ..order(4, "bob", PlatformRole::Admin) };
        assert_eq!(world.add(1, &order), Err(Reason::RequestInvalid));
    }
    // After a revocation key and name are free again.
    world.revoke(1, ann).unwrap();
    world.add(1, &order(2, "ann", PlatformRole::Recovery)).unwrap();
    assert_eq!(world.allow(2, Permission::AuthorityRecover), Ok(PlatformRole::Recovery));
    assert_eq!(world.admitted().documents().len(), 4);
}

#[test]
fn a_grant_ends_and_a_set_ends() {
    let mut world = World::new();
    let visiting = RoleGrantOrder { valid_for: Some(HOUR), ..order(2, "visiting", PlatformRole::Admin) };
    world.add(1, &visiting).unwrap();
    let admitted = world.admitted();
    let at = |byte, now| {
        admitted.allow(&key(byte), Permission::NodeRead, now).map_err(|reject| reject.reason).err()
    };
    assert_eq!(at(2, NOW), None);
    assert_eq!(at(2, NOW.plus(HOUR)), Some(Reason::GrantMissing));
    assert_eq!(at(1, NOW.plus(23 * HOUR)), None);
    assert_eq!(at(1, NOW.plus(24 * HOUR)), Some(Reason::HeaderExpired));
    assert_eq!(admitted.operators(NOW).len(), 2);
    assert_eq!(admitted.operators(NOW.plus(HOUR)).len(), 1);
}

#[test]
fn a_renewal_copies_the_verified_set_whatever_rows_say() {
    let mut world = World::new();
    world.add(1, &order(2, "ann", PlatformRole::Admin)).unwrap();
    let before = world.admitted().grants().set().clone();
    // A genuine signature by the authority, but in no set: a row from another history.
    let admitted = world.admitted();
    let owner = admitted.grants().of(&key(1), NOW).unwrap();
    let mallory = order(66, "mallory", PlatformRole::Owner);
    let foreign = add_role_grant(&world.scope(), admitted.grants(), owner, &mallory, NOW).unwrap();
    world.grants.push((foreign.terms, foreign.grant));
    assert!(!renewal_is_due(&before, NOW.plus(11 * HOUR)));
    assert!(renewal_is_due(&before, NOW.plus(12 * HOUR)));
    let renewed = renew_role_grant_set(&world.scope(), &before, NOW.plus(12 * HOUR)).unwrap();
    world.store_set(renewed);
    let after = world.admitted();
    assert_eq!(after.grants().set().members, before.members);
    assert_eq!(after.grants().set().previous, Some(before.digest));
    assert_eq!(after.grants().set().expires_at, NOW.plus(36 * HOUR));
    assert_eq!(after.tampered().len(), 1);
    assert_eq!(world.allow(66, Permission::StatusRead), Err(Reason::GrantMissing));
}

#[test]
fn older_sets_gaps_and_other_histories_are_refused() {
    let mut world = World::new();
    for byte in 2..6 {
        world.add(1, &order(byte, &format!("operator-{byte}"), PlatformRole::Admin)).unwrap();
    }
    let refused = |floors: Option<&ReplicaFloors>, sets: &[Vec<u8>]| {
        world.admit(floors, sets).map(drop).map_err(|reject| reject.reason).err()
    };
    let at = |number: usize| {
        let set = world.verifier().open_set(&world.sets[number - 1]).unwrap();
        ReplicaFloors::default()
            .confirmed(FloorOf::GrantSet, Floor { sequence: set.sequence, digest: set.digest })
    };
    assert_eq!(refused(Some(&at(5)), &world.sets[4..]), None);
    assert_eq!(refused(Some(&at(3)), &world.sets[2..]), None);
    assert_eq!(refused(Some(&ReplicaFloors::fresh()), &world.sets), None);
    // No floors, or none of grants.
    assert_eq!(refused(None, &world.sets), Some(Reason::FloorMissing));
    assert_eq!(refused(Some(&ReplicaFloors::default()), &world.sets), Some(Reason::FloorMissing));
    // Put back, or emptied.
    assert_eq!(refused(Some(&at(5)), &world.sets[3..4]), Some(Reason::FloorRollback));
    assert_eq!(refused(Some(&at(5)), &[]), Some(Reason::FloorRollback));
    // The floor's own set is gone, or one between.
    assert_eq!(refused(Some(&at(2)), &world.sets[2..]), Some(Reason::ChainBroken));
    let gap = [world.sets[1].clone(), world.sets[3].clone(), world.sets[4].clone()];
    assert_eq!(refused(Some(&at(2)), &gap), Some(Reason::ChainBroken));
    assert_eq!(refused(Some(&ReplicaFloors::fresh()), &world.sets[1..]), Some(Reason::ChainBroken));
    // Another history of the same length, genuinely signed.
    let mut other = World::new();
    for byte in 12..16 {
        other.add(1, &order(byte, &format!("operator-{byte}"), PlatformRole::Admin)).unwrap();
    }
    assert_eq!(
        other.admit(Some(&at(5)), &other.sets[4..]).map(drop).unwrap_err().reason,
        Reason::FloorEquivocation
    );
    let spliced = [world.sets[3].clone(), other.sets[4].clone()];
    assert_eq!(refused(Some(&at(4)), &spliced), Some(Reason::ChainBroken));
}

#[test]
fn altered_copied_and_missing_rows_give_nobody_anything() {
    let mut world = World::new();
    world.add(1, &order(2, "ann", PlatformRole::Admin)).unwrap();
    let ann = world.grants[1].0.digest;
    let set = world.sets.last().unwrap();
    let verifier = world.verifier();

    // Columns that say more than the signature.
    let stolen = key(66);
    for (subject_key, role) in [(key(2), "platform_owner"), (stolen, "platform_admin")] {
        let mut rows = world.rows();
        rows[1].platform_role = role;
        rows[1].subject_key = subject_key.as_bytes();
        let admitted = verifier.open(set, &rows).unwrap();
        assert_eq!(admitted.tampered(), [ann]);
        let refused = admitted.allow(&key(2), Permission::NodeRead, NOW).unwrap_err();
        assert_eq!(refused.reason, Reason::RowTampered);
        assert!(admitted.allow(&stolen, Permission::NodeRead, NOW).is_err());
        assert!(admitted.allow(&key(1), Permission::NodeRead, NOW).is_ok(), "others go on");
        assert_eq!(admitted.operators(NOW).len(), 1);
    }
    // A revoked grant's row stays, known and worthless; its revocation cannot be taken away.
    let mut revoked = World::new();
    let grant = revoked.add(1, &order(2, "ann", PlatformRole::Admin)).unwrap();
    revoked.revoke(1, grant).unwrap();
    assert_eq!(revoked.admitted().tampered(), []);
    assert_eq!(revoked.allow(2, Permission::NodeRead), Err(Reason::GrantMissing));
    let without = &revoked.rows()[..2];
    let refused = revoked.verifier().open(revoked.sets.last().unwrap(), without).unwrap_err();
    assert_eq!(refused.reason, Reason::ChainBroken);
    // The operators table repeats the grant or is not believed.
    let admitted = world.admitted();
    let ann = admitted.grants().of(&key(2), NOW).unwrap();
    assert!(AdmittedRoleGrants::check_operator(ann, "ann", "platform_admin").is_ok());
    for (name, role) in [("ann", "platform_owner"), ("eve", "platform_admin"), ("ann", "god")] {
        let refused = AdmittedRoleGrants::check_operator(ann, name, role).unwrap_err();
        assert_eq!(refused.reason, Reason::RowTampered);
    }
}

#[test]
fn a_development_installations_set_says_so() {
    let mut world = World::new();
    world.dev = true;
    let change = first_role_grant(&world.scope(), "dev-owner", key(1), NOW).unwrap();
    let strict = RoleGrantVerifier { dev: false, ..world.verifier() };
    let refused = strict.open_set(&change.set.envelope).unwrap_err();
    assert_eq!(refused.reason, Reason::AuthorityDevRefused);
    assert!(world.verifier().open_set(&change.set.envelope).is_ok());
}
