//! The life of authority keys, every reachable state of it: no step leads to two signers, no key comes
//! back, and a node that walks the chain never accepts a key outside its own incarnations.

use std::collections::{BTreeMap, HashSet, VecDeque};

use rap_authority::{AuthorityLife, AuthorityStep};
use rap_contract::KeyState;
use rap_types::Reason;

const LINKS: u64 = 4;

fn steps(life: &AuthorityLife) -> Vec<AuthorityStep> {
    let mut steps = vec![AuthorityStep::Prepare, AuthorityStep::Rotate, AuthorityStep::Recover];
    for sequence in 0..=life.signer() + 1 {
        steps.push(AuthorityStep::Revoke { sequence });
        for (unconfirmed, force) in [(0, false), (3, false), (3, true)] {
            steps.push(AuthorityStep::Taint { sequence, unconfirmed, force });
        }
    }
    steps
}

fn states(life: &AuthorityLife) -> Vec<KeyState> {
    (1..=life.signer()).map(|sequence| life.state(sequence).unwrap()).collect()
}

/// What the table says of one step on one link, written down apart from the code.
fn expected(life: &AuthorityLife, step: AuthorityStep) -> Result<(), Reason> {
    use KeyState::{Active, Prepared, Revoked, Tainted};
    let newest = life.signer();
    let link = |sequence: u64| -> Result<KeyState, Reason> {
        match sequence {
            0 => Err(Reason::ResourceNotFound),
            sequence if sequence == newest => Err(Reason::AuthorityState),
            sequence => life.state(sequence).ok_or(Reason::ResourceNotFound),
        }
    };
    match step {
        AuthorityStep::Prepare if life.has_prepared() => Err(Reason::AuthorityState),
        AuthorityStep::Rotate if !life.has_prepared() => Err(Reason::AuthorityState),
        AuthorityStep::Prepare | AuthorityStep::Rotate | AuthorityStep::Recover => Ok(()),
        AuthorityStep::Taint { sequence, unconfirmed, force } => match link(sequence)? {
            Active if unconfirmed == 0 || force => Ok(()),
            Active => Err(Reason::AuthorityUnconfirmed),
            Prepared | Tainted | Revoked => Err(Reason::AuthorityState),
        },
        AuthorityStep::Revoke { sequence } => match link(sequence)? {
            Tainted => Ok(()),
            Prepared | Active | Revoked => Err(Reason::AuthorityState),
        },
    }
}

#[test]
fn every_step_from_every_reachable_state_is_as_the_table_says() {
    let mut seen = HashSet::from([AuthorityLife::created()]);
    let mut queue = VecDeque::from([AuthorityLife::created()]);
    let mut taken = 0;
    while let Some(life) = queue.pop_front() {
        for step in steps(&life) {
            let outcome = life.after(step);
            assert_eq!(outcome.as_ref().map(drop).map_err(|reject| reject.reason), expected(&life, step));
            let Ok(next) = outcome else { continue };
            taken += 1;
            let (before, after) = (states(&life), states(&next));
            assert_eq!(after.last(), Some(&KeyState::Active), "there is always one signer");
            for (before, after) in before.iter().zip(&after) {
                assert!(after >= before, "no key becomes younger: {before:?} {after:?}");
            }
            assert_eq!(AuthorityLife::of(after, next.has_prepared()), Ok(next.clone()));
            if next.signer() <= LINKS && seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    // 3^(n-1) states of earlier links for n = 1..4, with and without a prepared key.
    assert_eq!(seen.len(), 2 * (1 + 3 + 9 + 27));
    assert!(taken > 300, "{taken}");
}

#[test]
fn tokens_count_until_their_key_is_revoked() {
    let mut life = AuthorityLife::created();
    let reason =
        |life: &AuthorityLife, sequence| life.admits_tokens_of(sequence).map_err(|reject| reject.reason);
    for step in [AuthorityStep::Prepare, AuthorityStep::Rotate] {
        life = life.after(step).unwrap();
        assert_eq!(reason(&life, 1), Ok(()));
    }
    life = life.after(AuthorityStep::Taint { sequence: 1, unconfirmed: 0, force: false }).unwrap();
    assert_eq!((reason(&life, 1), reason(&life, 2)), (Ok(()), Ok(())));
    life = life.after(AuthorityStep::Revoke { sequence: 1 }).unwrap();
    assert_eq!(reason(&life, 1), Err(Reason::TokenAuthorityRevoked));
    assert_eq!((reason(&life, 3), reason(&life, 0)), (Err(Reason::KeyUnknown), Err(Reason::KeyUnknown)));
    assert_eq!(reason(&life.after(AuthorityStep::Recover).unwrap(), 2), Err(Reason::TokenAuthorityRevoked));
}

#[test]
fn stored_states_that_no_step_leads_to_are_tampered() {
    use KeyState::{Active, Prepared, Revoked, Tainted};
    for links in [vec![], vec![Tainted], vec![Active, Revoked], vec![Prepared, Active], vec![Prepared]] {
        assert_eq!(AuthorityLife::of(links, false).unwrap_err().reason, Reason::RowTampered);
    }
}

/// A control plane that rotates, recovers and signs, and a node that may sleep: every interleaving.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    life: AuthorityLife,
    /// Links that the node has on disk, and what it accepted last: (link whose key signed, incarnation).
    pinned: u64,
    accepted: Option<(u64, u64)>,
    /// Heads that exist: (link, incarnation). A thief signs with any key that is not the newest.
    heads: Vec<(u64, u64)>,
}

impl World {
    /// In this model link n starts incarnation n.
    fn moves(&self) -> Vec<Self> {
        let mut moves: Vec<Self> = steps(&self.life)
            .into_iter()
            .filter_map(|step| self.life.after(step).ok())
            .filter(|life| life.signer() <= 3)
            .map(|life| Self { life, ..self.clone() })
            .collect();
        let newest = self.life.signer();
        let mut sign = |head: (u64, u64)| {
            if !self.heads.contains(&head) {
                let mut heads = [self.heads.clone(), vec![head]].concat();
                heads.sort_unstable();
                moves.push(Self { heads, ..self.clone() });
            }
        };
        sign((newest, newest));
        // Whoever stole an earlier key signs for any incarnation with it.
        for stolen in 1..newest {
            for incarnation in 1..=3 {
                sign((stolen, incarnation));
            }
        }
        // The node hears of the records it lacks, all or some of them.
        for pinned in self.pinned + 1..=newest {
            moves.push(Self { pinned, accepted: None, ..self.clone() });
        }
        // It is offered any head that exists, in any order: the acceptor's rules.
        for (link, incarnation) in &self.heads {
            let floor = self.accepted.map_or(self.pinned, |(_, incarnation)| incarnation);
            if *link == self.pinned && *incarnation >= floor {
                moves.push(Self { accepted: Some((*link, *incarnation)), ..self.clone() });
            }
        }
        moves
    }
}

#[test]
fn no_interleaving_lets_a_node_take_two_keys_for_one_incarnation_or_a_key_without_a_record() {
    let start = World { life: AuthorityLife::created(), pinned: 1, accepted: None, heads: Vec::new() };
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    // Per incarnation in which the newest key signs, which key a node that is up to date took.
    let mut taken: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    while let Some(world) = queue.pop_front() {
        if let Some((link, incarnation)) = world.accepted {
            assert_eq!(link, world.pinned, "only the pinned key's heads are in use");
            assert!(incarnation >= world.pinned, "nothing older than the record");
            assert!(link <= world.life.signer(), "a prepared key has no record");
            if world.pinned == world.life.signer() {
                assert_ne!(world.life.state(link), Some(KeyState::Revoked));
                let first = *taken.entry((world.life.signer(), incarnation)).or_insert(link);
                assert_eq!(first, link, "one incarnation, one key");
            }
        }
        for next in world.moves() {
            if next.heads.len() <= 3 && seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    assert!(seen.len() > 1_000, "{}", seen.len());
}
