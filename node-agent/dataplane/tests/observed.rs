//! What goes up to the agent by itself: states and measurements of links, heads of peers.

mod support;

use rap_wire::v1::{LinkEvent, LinkLane, PeerHead};
use support::*;

/// Asks until what came unasked holds something wanted.
fn comes<T>(agent: &mut Agent, what: &str, find: impl Fn(&Agent) -> Option<T>) -> T {
    until(what, || {
        agent.stats();
        find(agent)
    })
}

fn measured(agent: &Agent, peer: &[u8]) -> Option<LinkEvent> {
    let of_peer = |event: &&LinkEvent| event.node_id == peer && event.measured.is_some();
    agent.events.iter().rev().find(of_peer).cloned()
}

#[test]
fn a_measurement_goes_up_as_an_event_and_to_the_next_agent() {
    let (pair, [mut agent, _other]) = Pair::linked();
    let peer = pair.id(1);
    assert_eq!(answered(&agent.ping(&peer, 3).link), 3);
    let event = comes(&mut agent, "a measurement", |agent| measured(agent, &peer));
    assert_eq!((event.state.as_str(), event.reason.as_str()), ("established", ""));
    assert_eq!(event.lane, LinkLane::A as i32);
    let first = event.measured.unwrap();
    assert!(first.rtt_median_us > 0 && first.samples > 0, "{first:?}");
    assert_eq!(first.loss_ppm, 0);

    drop(agent);
    let mut next = pair.planes[0].agent();
    let event = comes(&mut next, "the present measurement", |agent| measured(agent, &peer));
    assert!(event.measured.is_some_and(|measured| measured.rtt_median_us > 0));
    assert_eq!(event.lane, LinkLane::A as i32);
}

#[test]
fn a_head_that_the_table_does_not_have_goes_up_and_to_the_next_agent() {
    let pair = Pair::start();
    let mut agents = [pair.planes[0].agent(), pair.planes[1].agent()];
    let mut newer = pair.table(1, 1);
    newer.newest_head = b"newer".to_vec();
    agents[1].apply(newer);
    agents[0].apply(pair.table(0, 1));
    let told = PeerHead { node_id: pair.id(1), head: b"newer".to_vec() };
    let [mut agent, _other] = agents;
    comes(&mut agent, "the head", |agent| agent.heads.contains(&told).then_some(()));
    assert_eq!(agent.heads.len(), 1, "once");

    drop(agent);
    let mut next = pair.planes[0].agent();
    comes(&mut next, "the head again", |agent| agent.heads.contains(&told).then_some(()));

    // Once the table has it, it is no news.
    let mut table = pair.table(0, 2);
    table.newest_head = b"newer".to_vec();
    next.apply(table);
    drop(next);
    let mut last = pair.planes[0].agent();
    comes(&mut last, "the state", |agent| {
        agent.events.iter().any(|event| event.node_id == pair.id(1)).then_some(())
    });
    last.stats();
    assert_eq!(last.heads, []);
}
