//! Rows of relays: when this node says its own, which of others count, and what a new neighbour is told.
//!
//! Owns the times, and that a row is taken once. Verifies nothing: a row is opened before it comes here.
//!
//! # Why this is sound
//! - *A row travels once over each link*: it is passed on only when its sequence is higher than every one that was
//!   taken of its relay, and sequences are remembered for longer than a signature counts.
//! - *Memory is bounded*: one row per relay of the snapshots of the last minutes.
//! - *A relay that says too much is heard once a second*, and what it says beyond that is not passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rap_contract::{LEAF_CAP, RELAY_LINKS_MAX, RelayLink, RelayRow};
use rap_types::{Mono, NodeId, Now, Reason};
use rap_wire::v1;

/// A row as it travels. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowText {
    /// DER certificate of the relay.
    pub leaf: Vec<u8>,
    /// Signed bytes.
    pub row: Vec<u8>,
}

/// The rows that one node knows.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    own: Option<Own>,
    held: BTreeMap<NodeId, Held>,
}

#[derive(Debug, Clone)]
struct Own {
    links: Vec<RelayLink>,
    at: Mono,
    payload: Option<Bytes>,
}

#[derive(Debug, Clone)]
struct Held {
    sequence: u64,
    at: Mono,
    /// So many rows more are taken at once; one more each second.
    more: u64,
    links: Vec<RelayLink>,
    payload: Bytes,
}

impl RowText {
    /// Reads the payload of a frame.
    ///
    /// # Errors
    /// `relay.row_invalid`.
    pub fn read(payload: &[u8]) -> Result<Self, Reason> {
        if payload.len() > MESSAGE_MAX {
            return Err(Reason::RelayRowInvalid);
        }
        let v1::RelayRowMessage { leaf, row } =
            v1::RelayRowMessage::decode(payload).map_err(|_| Reason::RelayRowInvalid)?;
        if leaf.len() > LEAF_CAP { Err(Reason::RelayRowInvalid) } else { Ok(Self { leaf, row }) }
    }

    /// The payload of a frame.
    pub fn payload(self) -> Bytes {
        v1::RelayRowMessage { leaf: self.leaf, row: self.row }.encode_to_vec().into()
    }
}

impl Rows {
    /// What this relay says now, if it is to be said: every 30 s, after 10 s if a figure changed by a tenth, and after
    /// 1 s if a link came or went. `links` are all that can be said.
    pub fn say(&mut self, mut links: Vec<RelayLink>, now: Mono) -> Option<Vec<RelayLink>> {
        links.truncate(RELAY_LINKS_MAX);
        let wait = match &self.own {
            None => Duration::ZERO,
            Some(own) if turned(&own.links, &links) => TURNED,
            Some(own) if own.links.iter().zip(&links).any(|(before, now)| changed(before, now)) => CHANGED,
            Some(_) => EVERY,
        };
        if self.own.as_ref().is_some_and(|own| now < own.at.plus(wait)) {
            return None;
        }
        self.own = Some(Own { links: links.clone(), at: now, payload: None });
        Some(links)
    }

    /// The own row as it was signed.
    pub fn said(&mut self, payload: Bytes) {
        self.own.iter_mut().for_each(|own| own.payload = Some(payload.clone()));
    }

    /// This node carries for nobody any more.
    pub fn be_silent(&mut self) {
        self.own = None;
    }

    /// Takes a row that was verified. It is then passed on.
    ///
    /// # Errors
    /// `relay.not_allowed` from a node that is no relay, `clock.skew`, `relay.row_stale`, `path.rate` for a relay that says
    /// more than one row per second.
    pub fn take(
        &mut self,
        row: RelayRow,
        payload: Bytes,
        relays: &BTreeSet<NodeId>,
        now: Now,
    ) -> Result<(), Reason> {
        if !relays.contains(&row.relay) {
            return Err(Reason::RelayNotAllowed);
        }
        if row.issued_at.since(now.wall).max(now.wall.since(row.issued_at)) > SKEW {
            return Err(Reason::ClockSkew);
        }
        // Also of a relay that is none any more: it may be one again.
        self.held.retain(|_, held| now.mono < held.at.plus(REMEMBERED));
        let mut more = AT_ONCE;
        if let Some(held) = self.held.get(&row.relay) {
            if held.sequence >= row.sequence {
                return Err(Reason::RelayRowStale);
            }
            more = held.more.saturating_add(now.mono.since(held.at).as_secs()).min(AT_ONCE);
        }
        let more = more.checked_sub(1).ok_or(Reason::PathRate)?;
        let links = row.links.into_iter().filter(|link| relays.contains(&link.node)).collect();
        self.held.insert(row.relay, Held { sequence: row.sequence, at: now.mono, more, links, payload });
        Ok(())
    }

    /// The rows that count, by relay.
    pub fn counting(&self, now: Mono) -> impl Iterator<Item = (NodeId, &[RelayLink])> {
        self.fresh(now).map(|(relay, held)| (*relay, held.links.as_slice()))
    }

    /// What a new neighbour is told: every row that counts, and the own one.
    pub fn for_new(&self, now: Mono) -> Vec<Bytes> {
        let own = self.own.iter().filter_map(|own| own.payload.clone());
        self.fresh(now).map(|(_, held)| held.payload.clone()).chain(own).collect()
    }

    fn fresh(&self, now: Mono) -> impl Iterator<Item = (&NodeId, &Held)> {
        self.held.iter().filter(move |(_, held)| now < held.at.plus(COUNTS))
    }
}

/// Whether a link is down that was not, or the other way, or one is spoken of that was not.
fn turned(before: &[RelayLink], now: &[RelayLink]) -> bool {
    let state = |link: &RelayLink| (link.node, link.is_down());
    !before.iter().map(state).eq(now.iter().map(state))
}

fn changed(before: &RelayLink, now: &RelayLink) -> bool {
    let by_a_tenth = |before: u32, now: u32, least: u32| before.abs_diff(now) > (before / 10).max(least);
    by_a_tenth(before.rtt_us, now.rtt_us, NOISE_US) || by_a_tenth(before.loss_ppm, now.loss_ppm, NOISE_PPM)
}

/// A leaf and a signed row, with what Protobuf adds.
const MESSAGE_MAX: usize = 7 * 1024;
const EVERY: Duration = Duration::from_secs(30);
const CHANGED: Duration = Duration::from_secs(10);
const TURNED: Duration = Duration::from_secs(1);
/// How long a row counts from its arrival.
const COUNTS: Duration = Duration::from_secs(60);
/// Rows of one relay at once. A relay says one per second at most.
const AT_ONCE: u64 = 4;
/// How far the clock of a relay may be from the own one.
const SKEW: Duration = Duration::from_secs(600);
/// A signature counts for [`SKEW`] and no longer, so no row comes back.
const REMEMBERED: Duration = Duration::from_secs(1260);
const NOISE_US: u32 = 200;
const NOISE_PPM: u32 = 1_000;

#[cfg(test)]
mod tests {
    use rap_types::Wall;

    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    fn up(number: u8, rtt_us: u32) -> RelayLink {
        RelayLink { node: node(number), rtt_us, loss_ppm: 0 }
    }

    fn row(number: u8, sequence: u64) -> RelayRow {
        RelayRow { relay: node(number), sequence, links: vec![up(3, 900), up(9, 900)], issued_at: Wall(0) }
    }

    #[test]
    fn an_own_row_is_said_soon_when_a_link_turns_later_when_figures_change_and_always_in_time() {
        let mut rows = Rows::default();
        let near = vec![up(2, 1_000), RelayLink::down(node(3))];
        assert_eq!(rows.say(near.clone(), at(100)), Some(near.clone()), "the first one at once");
        for (second, links, said) in [
            (129, near.clone(), false),
            (130, near.clone(), true),
            (139, vec![up(2, 5_000), RelayLink::down(node(3))], false),
            (140, vec![up(2, 5_000), RelayLink::down(node(3))], true),
            (155, vec![up(2, 5_400), RelayLink::down(node(3))], false),
            (156, vec![up(2, 5_000), up(3, 800)], true),
            (157, vec![RelayLink::down(node(2)), up(3, 800)], true),
            (158, vec![RelayLink::down(node(2))], true),
        ] {
            assert_eq!(rows.say(links.clone(), at(second)).is_some(), said, "{second}: {links:?}");
        }
        rows.be_silent();
        assert!(rows.say(near, at(158)).is_some(), "a relay again");
        let many: Vec<_> = (0..100).map(|number| up(number, 1)).collect();
        assert_eq!(rows.say(many, at(200)).map(|links| links.len()), Some(RELAY_LINKS_MAX));
    }

    #[test]
    fn a_row_is_taken_once_of_known_relays_and_counts_for_a_minute() {
        let relays: BTreeSet<_> = [1, 2, 3].map(node).into();
        let mut rows = Rows::default();
        let now = |s: u64| Now { mono: at(s), wall: Wall(0).plus(Duration::from_secs(s)) };
        let text = |number: u8| Bytes::from(vec![number]);
        assert_eq!(rows.take(row(4, 1), text(4), &relays, now(1)), Err(Reason::RelayNotAllowed));
        assert_eq!(rows.take(row(1, 7), text(7), &relays, now(1)), Ok(()));
        for sequence in [7, 6, 0] {
            assert_eq!(rows.take(row(1, sequence), text(0), &relays, now(2)), Err(Reason::RelayRowStale));
        }
        let counting = |rows: &Rows, s| {
            rows.counting(at(s)).map(|(relay, links)| (relay, links.len())).collect::<Vec<_>>()
        };
        assert_eq!(counting(&rows, 2), [(node(1), 1)], "a link with somebody who is no relay is left out");
        assert_eq!(rows.for_new(at(2)), [text(7)]);
        assert_eq!(rows.take(row(1, 8), text(8), &relays, now(30)), Ok(()));
        assert_eq!((rows.for_new(at(89)), rows.for_new(at(90))), (vec![text(8)], vec![]));
        assert_eq!(counting(&rows, 90), []);
        assert_eq!(
            rows.take(row(1, 8), text(8), &relays, now(599)),
            Err(Reason::RelayRowStale),
            "and not again"
        );
        assert_eq!(rows.take(row(2, 1), text(1), &relays, now(601)), Err(Reason::ClockSkew));
        rows.say(vec![], at(601));
        assert_eq!(rows.for_new(at(601)), Vec::<Bytes>::new(), "the own one is not signed yet");
        rows.said(text(99));
        assert_eq!(rows.for_new(at(601)), [text(99)]);
        let without: BTreeSet<_> = [2, 3].map(node).into();
        assert_eq!(rows.take(row(2, 1), text(1), &without, now(599)), Ok(()));
        assert_eq!(
            rows.take(row(1, 8), text(8), &relays, now(599)),
            Err(Reason::RelayRowStale),
            "a relay again"
        );
        for sequence in 2..5 {
            assert_eq!(rows.take(row(2, sequence), text(1), &relays, now(599)), Ok(()));
        }
        assert_eq!(rows.take(row(2, 5), text(1), &relays, now(599)), Err(Reason::PathRate));
        assert_eq!(rows.take(row(2, 5), text(1), &relays, now(600)), Ok(()), "one more each second");
    }

    #[test]
    fn a_message_that_is_too_long_or_no_message_is_refused() {
        let text = RowText { leaf: vec![1; LEAF_CAP], row: vec![2; 4096] };
        assert_eq!(RowText::read(&text.clone().payload()), Ok(text));
        let long = RowText { leaf: vec![1; LEAF_CAP + 1], row: vec![] };
        assert_eq!(RowText::read(&long.payload()), Err(Reason::RelayRowInvalid));
        assert_eq!(RowText::read(&[0xff; 9]), Err(Reason::RelayRowInvalid));
        assert_eq!(RowText::read(&[0; MESSAGE_MAX + 1]), Err(Reason::RelayRowInvalid));
    }
}
