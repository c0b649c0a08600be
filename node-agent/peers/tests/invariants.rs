//! What holds after any inputs. Each property names what it stands for.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use rap_peers::{Input, Known, Measured, Own, Peers, Role, sizes};
use rap_types::{Mono, NodeId};
use support::{known, node, own};

#[derive(Debug, Clone)]
enum Step {
    Up(u16),
    Down(u16),
    Measured(u16, u32),
    Wait(u32),
    Known(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..60u16).prop_map(Step::Up),
        (1..60u16).prop_map(Step::Down),
        (1..60u16, 1..500_000u32).prop_map(|(peer, rtt)| Step::Measured(peer, rtt)),
        (1..90_000u32).prop_map(Step::Wait),
        (1..60u16).prop_map(Step::Known),
    ]
}

fn owns() -> impl Strategy<Value = Own> {
    let role = prop_oneof![Just(Role::Plain), Just(Role::Relay), Just(Role::Thin)];
    (role, any::<bool>(), 0..3usize).prop_map(|(role, relayed, homes)| Own { relayed, homes, ..own(role) })
}

fn all(count: u16) -> Vec<Known> {
    let one = |n: u16| Known {
        relay: n.is_multiple_of(4),
        home: (n.is_multiple_of(4)).then_some(usize::from(n) / 4),
        dialable: !n.is_multiple_of(5),
        domain: if n.is_multiple_of(3) { "a" } else { "" }.into(),
        ..known(n)
    };
    (1..=count).map(one).collect()
}

/// Runs the steps; `look` is called after each decision.
fn run(own: Own, steps: &[Step], mut look: impl FnMut(&Peers, &BTreeSet<NodeId>, Mono)) -> Vec<Vec<NodeId>> {
    let (mut peers, mut now, mut count) = (Peers::new(1), Mono(1_000_000_000), 30);
    let (mut up, mut trace) = (BTreeSet::new(), Vec::new());
    peers.handle(Input::Plane(true), now);
    peers.handle(Input::Known(own, all(count)), now);
    for step in steps {
        match *step {
            Step::Up(peer) => {
                peers.handle(Input::Up(node(peer)), now);
                up.extend((peer <= count).then_some(node(peer)));
            }
            Step::Down(peer) => {
                peers.handle(Input::Down(node(peer)), now);
                up.remove(&node(peer));
            }
            Step::Measured(peer, rtt_us) => {
                peers.handle(Input::Measured(node(peer), Measured { rtt_us, loss_ppm: 0 }), now);
            }
            Step::Wait(ms) => now = now.plus(Duration::from_millis(ms.into())),
            Step::Known(others) => {
                count = others;
                peers.handle(Input::Known(own, all(count)), now);
                up.retain(|peer| *peer <= node(count));
            }
        }
        peers.decide(now);
        look(&peers, &up, now);
        trace.push((1..60).map(node).filter(|node| peers.wants(*node)).collect());
    }
    trace
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Tier sizes bound what a node wants: the set, spare homes, and the attempts that run at the same time.
    #[test]
    fn what_is_wanted_is_bounded(own in owns(), steps in prop::collection::vec(step(), 1..80)) {
        run(own, &steps, |peers, _, _| {
            let wanted = (1..60).filter(|number| peers.wants(node(*number))).count();
            let most = sizes(own.role).active_max.max(own.homes + 2) + 3 + 3 + 1 + 1;
            assert!(wanted <= most, "{wanted} of {most}");
        });
    }

    /// Page 14 and invariant 16 of page 07, for peers: equal inputs give equal decisions.
    #[test]
    fn decisions_are_pure(own in owns(), steps in prop::collection::vec(step(), 1..80)) {
        prop_assert_eq!(run(own, &steps, |_, _, _| {}), run(own, &steps, |_, _, _| {}));
    }

    /// Every wait ends: what is due lies ahead, and a second decision at the same time changes nothing.
    #[test]
    fn a_decision_is_complete(own in owns(), steps in prop::collection::vec(step(), 1..80)) {
        run(own, &steps, |peers, _, now| {
            let mut again = peers.clone();
            assert!(!again.decide(now), "a second call changes nothing");
            assert!(peers.due(now).is_some_and(|due| due > now));
        });
    }

    /// Make-before-break: with a link of a member up, a decision never leaves the node without a wanted link that stands.
    #[test]
    fn no_decision_lets_the_last_wanted_link_go(own in owns(), steps in prop::collection::vec(step(), 1..80)) {
        let mut before: BTreeSet<NodeId> = BTreeSet::new();
        run(own, &steps, |peers, up, _| {
            let standing: BTreeSet<NodeId> = up.iter().copied().filter(|peer| peers.wants(*peer)).collect();
            let left = before.intersection(up).count();
            assert!(left == 0 || !standing.is_empty(), "{before:?} {up:?}");
            before = standing;
        });
    }
}
