//! Invariants of the engine over random histories. The numbers are those of the design.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rap_routing::{Destination, Engine, Input, Lane, Probes, RelayFacts, Said};
use rap_types::{Mono, NodeId, OrganizationId, Reason};
use support::*;

const RELAYS: u8 = 9;
const DESTINATIONS: u16 = 3;
const CUSTOMER: OrganizationId = OrganizationId::from_bytes([7; 16]);

/// One step of a history: milliseconds that pass, and what happens then.
type Step = (u64, Input);

fn any_relay() -> impl Strategy<Value = NodeId> {
    (1..=RELAYS + 1).prop_map(relay)
}

fn any_facts() -> impl Strategy<Value = Vec<RelayFacts>> {
    let one = (any::<[bool; 5]>(), 0..3u8);
    proptest::collection::vec(one, usize::from(RELAYS)).prop_map(|all| {
        let relay = |(number, ([here, customer, draining, revoked, kept], region)): (u8, ([bool; 5], u8))| {
            let organization = customer.then_some(CUSTOMER);
            let region = region.to_string();
            (here || kept).then(|| RelayFacts {
                organization,
                region,
                draining,
                revoked: revoked && draining,
                kept,
                ..facts(number)
            })
        };
        (1..).zip(all).filter_map(relay).collect()
    })
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let homes = proptest::collection::vec(1..=RELAYS, 0..5);
    // The last one is a relay itself.
    (0..=DESTINATIONS, any::<bool>(), homes).prop_map(|(number, customer, homes)| {
        let organization = customer.then_some(CUSTOMER);
        let node = if number == DESTINATIONS { relay(1) } else { node(number) };
        Destination { node, organization, ..destination(number, &homes) }
    })
}

fn any_probes() -> impl Strategy<Value = Probes> {
    (0..300_000u32, 0..20u32, 0..3u32).prop_map(|(rtt_us, answered, lost)| Probes { rtt_us, answered, lost })
}

fn any_row() -> impl Strategy<Value = Vec<(NodeId, Said)>> {
    let loss = prop_oneof![4 => 0..50_000u32, 1 => Just(1_000_000)];
    let said = (1..200_000u32, loss).prop_map(|(rtt_us, loss_ppm)| Said { rtt_us, loss_ppm });
    proptest::collection::vec((any_relay(), said), 0..6)
}

fn any_input() -> impl Strategy<Value = Input> {
    let path = || proptest::collection::vec(any_relay(), 1..4);
    let to = || (0..DESTINATIONS).prop_map(node);
    prop_oneof![
        1 => any_facts().prop_map(|facts| Input::Relays(own(), facts)),
        3 => any_destination().prop_map(Input::Destination),
        1 => to().prop_map(Input::Gone),
        4 => any_relay().prop_map(Input::LinkUp),
        3 => any_relay().prop_map(Input::LinkDown),
        6 => (any_relay(), any_probes()).prop_map(|(relay, probes)| Input::LinkMeasured(relay, probes)),
        4 => (any_relay(), any_row()).prop_map(|(relay, row)| Input::RelayRow(relay, row)),
        2 => (any_relay(), any_relay()).prop_map(|(from, to)| Input::NotReached(from, to)),
        3 => (to(), path(), any_probes()).prop_map(|(to, path, probes)| Input::PathMeasured(to, path, probes)),
        2 => (to(), path()).prop_map(|(to, path)| Input::PathFailed(to, path, Reason::PathTimeout)),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<Step>> {
    let begin = (any_facts(), proptest::collection::vec(any_destination(), 1..5));
    let rest = proptest::collection::vec((0..5_000u64, any_input()), 1..60);
    (begin, rest).prop_map(|((facts, destinations), rest)| {
        let mut steps = vec![(0, Input::Relays(own(), facts))];
        steps.extend(destinations.into_iter().map(|destination| (0, Input::Destination(destination))));
        steps.extend(rest);
        steps
    })
}

/// What the snapshot says, as a test sees it.
#[derive(Default)]
struct Snapshot {
    relays: BTreeMap<NodeId, RelayFacts>,
    destinations: BTreeMap<NodeId, Destination>,
}

impl Snapshot {
    fn follow(&mut self, input: &Input) {
        match input {
            Input::Relays(_, facts) => {
                self.relays = facts.iter().map(|facts| (facts.node, facts.clone())).collect()
            }
            Input::Destination(facts) => drop(self.destinations.insert(facts.node, facts.clone())),
            Input::Gone(node) => drop(self.destinations.remove(node)),
            _ => {}
        }
    }

    fn admits(&self, destination: &Destination, path: &[NodeId]) -> bool {
        let admits = |relay: &NodeId| {
            self.relays.get(relay).is_some_and(|facts| {
                let carries = facts.organization.is_none()
                    || facts.organization == own().organization
                        && facts.organization == destination.organization;
                carries && !facts.revoked && facts.node != destination.node
            })
        };
        path.iter().all(admits) && path.last().is_none_or(|last| destination.homes.contains(last))
    }
}

fn run(steps: &[Step], mut each: impl FnMut(&mut Engine, &Input, Mono)) -> Engine {
    let mut engine = Engine::new(7);
    let mut now = 0;
    for (passed, input) in steps {
        now += passed;
        engine.handle(input.clone(), millis(now));
        engine.decide(millis(now));
        each(&mut engine, input, millis(now));
    }
    engine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Invariants 1, 7 and 14: whatever was measured, a path leads through nodes of the snapshot that may carry it,
    /// through each once and through at most three, and to a node of the snapshot.
    #[test]
    fn no_history_brings_a_relay_into_a_path_that_may_not_be_there(steps in any_history()) {
        let mut snapshot = Snapshot::default();
        let mut result = Ok(());
        let mut check = |engine: &mut Engine, input: &Input, _| {
            snapshot.follow(input);
            for number in 0..DESTINATIONS {
                if engine.decision(node(number)).is_some() != snapshot.destinations.contains_key(&node(number)) {
                    result = Err(TestCaseError::fail("another destination than those of the snapshot"));
                }
            }
            for destination in snapshot.destinations.values() {
                let decision = engine.decision(destination.node).expect("known");
                for path in [&decision.primary, &decision.backup] {
                    let once: BTreeSet<_> = path.iter().collect();
                    if once.len() != path.len() || path.len() > 3 || !snapshot.admits(destination, path) {
                        result = Err(TestCaseError::fail(format!("{path:?} to {destination:?}")));
                    }
                }
                if decision.primary.is_empty() && !decision.backup.is_empty() || decision.backup == decision.primary && !decision.backup.is_empty() {
                    result = Err(TestCaseError::fail("a backup of nothing, or of itself"));
                }
            }
        };
        run(&steps, &mut check);
        result?;
    }

    /// Invariant 8: the generation of a destination rises with each change, and never falls.
    #[test]
    fn a_generation_rises_with_each_change_and_with_nothing_else(steps in any_history()) {
        let mut before: BTreeMap<NodeId, rap_routing::Decision> = BTreeMap::new();
        let mut result = Ok(());
        let mut highest = 0;
        run(&steps, |engine, _, _| {
            for number in 0..DESTINATIONS {
                let Some(decision) = engine.decision(node(number)) else {
                    before.remove(&node(number));
                    continue;
                };
                if let Some(known) = before.insert(node(number), decision.clone()) {
                    let same = (&known.primary, &known.backup) == (&decision.primary, &decision.backup);
                    if same != (known.generation == decision.generation) || known.generation > decision.generation {
                        result = Err(TestCaseError::fail(format!("{known:?} then {decision:?}")));
                    }
                }
                highest = highest.max(decision.generation);
            }
        });
        result?;
    }

    /// Invariant 16: what was written down and read again gives the same decisions, byte for byte.
    #[test]
    fn a_recorded_history_replays_to_the_same_bytes(steps in any_history()) {
        let record = serde_json::to_string(&steps).unwrap();
        let read: Vec<Step> = serde_json::from_str(&record).unwrap();
        prop_assert_eq!(&read, &steps);
        let bytes = |steps: &[Step]| {
            let mut all = Vec::new();
            run(steps, |engine, _, now| {
                let decisions = (0..DESTINATIONS).map(|number| engine.decision(node(number)));
                all.push(serde_json::to_string(&decisions.collect::<Vec<_>>()).unwrap());
                all.push(serde_json::to_string(&engine.explain(node(0), Lane::A, &[relay(2)], now)).unwrap());
            });
            all
        };
        prop_assert_eq!(bytes(&read), bytes(&steps));
    }

    /// Invariant 6: if a path apart from the chosen one works, the backup is one.
    #[test]
    fn the_backup_is_apart_from_the_primary_if_any_path_is(steps in any_history()) {
        let mut result = Ok(());
        run(&steps, |engine, _, now| {
            for number in 0..DESTINATIONS {
                let Some(explained) = engine.explain(node(number), Lane::C, &[], now) else { continue };
                let primary = &explained.decision.primary;
                let apart = |path: &[NodeId]| !path.is_empty() && path.iter().all(|relay| !primary.contains(relay));
                let works = |candidate: &&rap_routing::Candidate| candidate.cost.is_some() && apart(&candidate.relays);
                if explained.candidates.iter().any(|candidate| works(&candidate)) && !apart(&explained.decision.backup) {
                    result = Err(TestCaseError::fail(format!("{explained:#?}")));
                }
            }
        });
        result?;
    }

    /// Invariant 2: a path that was not chosen and gets worse does not make another one of the chosen one.
    #[test]
    fn what_was_not_chosen_may_get_worse(rtts in proptest::collection::vec(1_000..200_000u32, 4), worse in 0..4usize) {
        let mut engine = Engine::new(1);
        relays(&mut engine, (1..=4).map(facts), at(0));
        engine.handle(Input::Destination(destination(1, &[1, 2, 3, 4])), at(0));
        for (number, rtt) in (1..).zip(&rtts) {
            measured(&mut engine, number, *rtt, at(1));
        }
        engine.decide(at(2));
        let before = paths(&engine, 1).0;
        let worse = u8::try_from(worse + 1).unwrap();
        prop_assume!(before != [worse]);
        measured(&mut engine, worse, 900_000, at(3));
        engine.decide(at(5));
        prop_assert_eq!(paths(&engine, 1).0, before);
    }

    /// Invariant 3: nothing that gets worse costs less, in any lane.
    #[test]
    fn what_gets_worse_costs_more(rtt in 1_000..500_000u32, more in 0..500_000u32, answered in 0..50u32, lost in 0..20u32) {
        let cost = |rtt_us, answered, lost, downs: u64, lane| {
            let mut engine = Engine::new(1);
            relays(&mut engine, [facts(1), facts(2)], at(0));
            engine.handle(Input::Destination(destination(1, &[1])), at(0));
            for second in 0..downs {
                engine.handle(Input::LinkUp(relay(1)), at(second * 2));
                engine.handle(Input::LinkDown(relay(1)), at(second * 2 + 1));
            }
            engine.handle(Input::LinkUp(relay(1)), at(10));
            for second in 10..15 {
                engine.handle(Input::LinkMeasured(relay(1), Probes { rtt_us, answered, lost }), at(second));
            }
            engine.explain(node(1), lane, &[], at(15)).unwrap().candidates[0].cost.unwrap()
        };
        for lane in [Lane::A, Lane::B, Lane::C] {
            let base = cost(rtt, answered + 1, lost, 1, lane);
            prop_assert!(cost(rtt + more, answered + 1, lost, 1, lane) >= base);
            prop_assert!(cost(rtt, answered, lost + 1, 1, lane) >= base);
            prop_assert!(cost(rtt, answered + 1, lost, 2, lane) >= base);
        }
    }
}
