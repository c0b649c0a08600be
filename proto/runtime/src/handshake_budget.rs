//! Which handshakes may be under way at once: in all, and from one source.
//!
//! Owns the places and whose handshake ends when there is none left. A quarter of the places is for sources that proved
//! a certificate lately and a quarter for sources that were not seen lately, so that no number of idle connections keeps
//! either out. Refuses to own what happens to a refused connection.
//!
//! Why a flood cannot hold the reserves: a source is new once in [`REMEMBERED`], so its second connection competes for
//! the shared places alone; and a newcomer takes a place from the network with the most handshakes under way, never from
//! one that has as few as its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rap_types::Mono;
use tokio_util::sync::CancellationToken;

use crate::source_budget::source_of;

/// The places; clones are the same budget.
#[derive(Debug, Clone)]
pub struct HandshakeBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: usize,
    per_source: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Open>,
    seen: Remembered,
    proved: Remembered,
}

/// A handshake under way.
#[derive(Debug)]
struct Open {
    source: IpAddr,
    network: IpAddr,
    place: Place,
    end: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// For sources that proved a certificate lately.
    Proved,
    /// For sources that were not seen lately.
    New,
    /// For every source.
    Shared,
}

/// The place of one handshake; dropping it gives it back.
#[derive(Debug)]
pub struct Handshake {
    budget: HandshakeBudget,
    id: u64,
    source: IpAddr,
}

impl HandshakeBudget {
    /// A budget of `total` handshakes, of which one source may have `per_source`.
    pub fn new(total: u32, per_source: u32) -> Self {
        let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let (total, per_source) = (size(total), size(per_source));
        Self(Arc::new(Budget { total, per_source, state: Mutex::default() }))
    }

    /// A place for a handshake with `address`. If the place goes to another source before the handshake is over, `end`
    /// is cancelled. `None` if the source has its part, or its network has as many handshakes under way as any other.
    pub fn take(&self, address: IpAddr, now: Mono, end: CancellationToken) -> Option<Handshake> {
        let (source, network) = (source_of(address), network_of(address));
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.open.values().filter(|open| open.source == source).count() >= self.0.per_source {
            return None;
        }
        let reserved = if state.proved.has(source, now) {
            Some(Place::Proved)
        } else if state.seen.has(source, now) {
            None
        } else {
            Some(Place::New)
        };
        state.seen.note(source, now);
        let usable = [reserved, Some(Place::Shared)].into_iter().flatten();
        let place = usable.clone().find(|place| state.used(*place) < self.room(*place));
        let place = place.or_else(|| state.make_room(reserved, network))?;
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Open { source, network, place, end });
        Some(Handshake { budget: self.clone(), id, source })
    }

    fn room(&self, place: Place) -> usize {
        match place {
            Place::Proved | Place::New => self.0.total / 4,
            Place::Shared => self.0.total - self.0.total / 4 * 2,
        }
    }
}

impl State {
    fn used(&self, place: Place) -> usize {
        self.open.values().filter(|open| open.place == place).count()
    }

    /// Ends the oldest handshake of the network with the most, if that has more than `network`; gives its place.
    fn make_room(&mut self, reserved: Option<Place>, network: IpAddr) -> Option<Place> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for open in self.open.values() {
            *counts.entry(open.network).or_default() += 1;
        }
        let own = counts.get(&network).copied().unwrap_or(0);
        let count = |open: &Open| counts.get(&open.network).copied().unwrap_or(0);
        let usable =
            self.open.iter().filter(|(_, open)| open.place == Place::Shared || Some(open.place) == reserved);
        let (id, most) = usable.map(|(id, open)| (*id, count(open))).rev().max_by_key(|(_, count)| *count)?;
        if most <= own {
            return None;
        }
        let ended = self.open.remove(&id)?;
        ended.end.cancel();
        Some(ended.place)
    }
}

impl Handshake {
    /// The source proved a certificate: the handshake is over, and the source has a reserve for [`REMEMBERED`].
    pub fn proved(self, now: Mono) {
        let mut state = self.budget.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.proved.note(self.source, now);
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut state = self.budget.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.remove(&self.id);
    }
}

/// When sources were noted last; of more than [`SOURCES`] the oldest go.
#[derive(Debug, Default)]
struct Remembered(BTreeMap<IpAddr, Mono>);

impl Remembered {
    fn has(&self, source: IpAddr, now: Mono) -> bool {
        self.0.get(&source).is_some_and(|at| now.since(*at) < REMEMBERED)
    }

    fn note(&mut self, source: IpAddr, now: Mono) {
        if self.0.len() >= SOURCES && !self.0.contains_key(&source) {
            self.0.retain(|_, at| now.since(*at) < REMEMBERED);
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| self.0.len() >= SOURCES) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(source, now);
    }
}

/// The network that a source is in: the /24 of an IPv4 address, and what [`source_of`] makes of an IPv6 address.
fn network_of(address: IpAddr) -> IpAddr {
    match source_of(address) {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & 0xffff_ff00).into(),
        network => network,
    }
}

/// How long a source is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(600);

/// Most sources that are remembered.
const SOURCES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(0);

    fn address(network: u8, host: u8) -> IpAddr {
        IpAddr::from([10, 0, network, host])
    }

    fn take(budget: &HandshakeBudget, address: IpAddr, now: Mono) -> Option<Handshake> {
        budget.take(address, now, CancellationToken::new())
    }

    /// As many idle handshakes as the budget gives to these sources.
    fn flood(budget: &HandshakeBudget, networks: std::ops::Range<u8>, each: usize) -> Vec<Handshake> {
        networks
            .flat_map(|network| (0..each).filter_map(move |_| take(budget, address(network, 1), START)))
            .collect()
    }

    #[test]
    fn one_source_has_its_part_and_places_come_back() {
        let budget = HandshakeBudget::new(8, 2);
        let held =
            [take(&budget, address(1, 1), START).unwrap(), take(&budget, address(1, 1), START).unwrap()];
        assert!(take(&budget, address(1, 1), START).is_none());
        assert!(take(&budget, "::ffff:10.0.1.1".parse().unwrap(), START).is_none(), "the same source");
        assert!(take(&budget, "::ffff:10.0.1.2".parse().unwrap(), START).is_some(), "another one");
        drop(held);
        assert!(take(&budget, address(1, 1), START).is_some());
        let one = take(&budget, "2001:db8::1".parse().unwrap(), START).unwrap();
        let two = take(&budget, "2001:db8:0:ff::1".parse().unwrap(), START).unwrap();
        assert!(take(&budget, "2001:db8:0:1::1".parse().unwrap(), START).is_none(), "one /56 is one source");
        assert!(take(&budget, "2001:db8:0:100::1".parse().unwrap(), START).is_some());
        drop((one, two));
    }

    #[test]
    fn idle_handshakes_of_a_few_sources_keep_neither_known_nor_new_sources_out() {
        let budget = HandshakeBudget::new(64, 16);
        let known = address(200, 1);
        take(&budget, known, START).unwrap().proved(START);
        let _held = flood(&budget, 0..8, 16);
        assert_eq!(
            budget.0.state.lock().unwrap().open.len(),
            32 + 8,
            "the shared places, and one as a new source each"
        );
        let of_known: Vec<_> = (0..16).filter_map(|_| take(&budget, known, START)).collect();
        assert_eq!(of_known.len(), 16, "the reserve of a source that proved a certificate");
        let of_new: Vec<_> = (0..8).filter_map(|host| take(&budget, address(201, host), START)).collect();
        assert_eq!(of_new.len(), 8, "the reserve of sources that were not seen");
        assert!(take(&budget, address(202, 1), START).is_some(), "the place of another network");
        let later = START.plus(REMEMBERED);
        assert!(!budget.0.state.lock().unwrap().proved.has(source_of(known), later));
    }

    #[test]
    fn under_pressure_the_network_with_the_most_handshakes_loses_one() {
        let budget = HandshakeBudget::new(8, 8);
        // Hosts of one network are many sources and one network.
        let (mut ends, mut held) = (Vec::new(), Vec::new());
        for host in 0..6 {
            ends.push(CancellationToken::new());
            held.extend(budget.take(address(1, host), START, ends[usize::from(host)].clone()));
        }
        assert_eq!(held.len(), 6, "all places but the reserve of known sources");
        assert!(take(&budget, address(1, 77), START).is_none(), "nobody else's place for the same network");
        let newcomer = take(&budget, address(2, 1), START).expect("a place of the network with the most");
        assert_eq!(ends.iter().filter(|end| end.is_cancelled()).count(), 1);
        let again = take(&budget, address(2, 1), START).expect("still fewer than the other network");
        // What lost its place gives back nothing when it ends.
        drop(held);
        assert_eq!(budget.0.state.lock().unwrap().open.len(), 2);
        drop((newcomer, again));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let budget = HandshakeBudget::new(8, 8);
        for number in 0..5_000_u32 {
            let now = Mono(u64::from(number));
            take(&budget, IpAddr::from((0x0a00_0000 + number).to_be_bytes()), now).unwrap().proved(now);
        }
        let state = budget.0.state.lock().unwrap();
        assert_eq!((state.seen.0.len(), state.proved.0.len(), state.open.len()), (SOURCES, SOURCES, 0));
    }
}
