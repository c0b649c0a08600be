//! What relays say of the links between them.
//!
//! Owns which word counts: the worse one of both ends, so that a relay cannot make a link look better than the other end
//! says. A word counts for a minute. A link of which nobody speaks counts as one that nobody measured.

use std::time::Duration;

use rap_types::Mono;

use crate::between::Edges;
use crate::input::Said;
use crate::lane::Lane;
use crate::relay_set::RelaySet;
use crate::terms::{self, Terms};

/// Words by who says it, then by the other end of the link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words(Vec<Row>);

type Row = Vec<Option<(Said, Mono)>>;

impl Words {
    /// Takes all that a relay says now.
    pub(crate) fn take(&mut self, from: u8, row: impl Iterator<Item = (u8, Said)>, now: Mono) {
        self.0.get_mut(usize::from(from)).into_iter().for_each(Row::clear);
        row.for_each(|(of, said)| self.add(from, of, said, now));
    }

    /// Takes one word of a relay.
    pub(crate) fn add(&mut self, from: u8, of: u8, said: Said, now: Mono) {
        if from == of {
            return;
        }
        if self.0.len() <= usize::from(from) {
            self.0.resize_with(usize::from(from) + 1, Row::new);
        }
        let words = &mut self.0[usize::from(from)];
        if words.len() <= usize::from(of) {
            words.resize(usize::from(of) + 1, None);
        }
        words[usize::from(of)] = Some((said, now));
    }

    /// Forgets what was said by and of these relays.
    pub(crate) fn forget(&mut self, relays: RelaySet) {
        for (from, words) in (0..).zip(&mut self.0) {
            for (of, word) in (0..).zip(words) {
                word.take_if(|_| relays.has(from) || relays.has(of));
            }
        }
    }

    /// What counts for a link. `None`: nobody says anything.
    pub(crate) fn of(&self, one: u8, other: u8, now: Mono) -> Option<Said> {
        let both = self.word(one, other, now).into_iter().chain(self.word(other, one, now));
        both.reduce(|a, b| Said { rtt_us: a.rtt_us.max(b.rtt_us), loss_ppm: a.loss_ppm.max(b.loss_ppm) })
    }

    /// The ends of a link that say something of it.
    pub(crate) fn speakers(&self, one: u8, other: u8, now: Mono) -> impl Iterator<Item = u8> {
        let both = [(one, other), (other, one)].into_iter();
        both.filter(move |(from, of)| self.word(*from, *of, now).is_some()).map(|(from, _)| from)
    }

    fn word(&self, from: u8, of: u8, now: Mono) -> Option<Said> {
        let (said, at) = (*self.0.get(usize::from(from))?.get(usize::from(of))?)?;
        (now.since(at) < LIFE).then_some(said)
    }

    /// The costs of a lane between `count` relays. `unknown`: those of a link of which nobody speaks, within a region and
    /// between two.
    pub(crate) fn edges(
        &self,
        lane: Lane,
        count: usize,
        unknown: [u32; 2],
        other_region: impl Fn(u8, u8) -> bool,
        now: Mono,
    ) -> Edges {
        let mut edges = Edges::new(count);
        for other in (0..=u8::MAX).take(count) {
            for one in 0..other {
                let other_region = other_region(one, other);
                match self.of(one, other, now) {
                    Some(said) if said.is_down() => {}
                    Some(said) => edges.set(one, other, said_terms(lane, said, other_region).total()),
                    None => edges.set(one, other, unknown[usize::from(other_region)]),
                }
            }
        }
        edges
    }
}

/// The terms of a link by what was said of it.
pub(crate) fn said_terms(lane: Lane, said: Said, other_region: bool) -> Terms {
    let loss = (f64::from(said.loss_ppm) / 1e6).min(MOST_LOST);
    terms::link(lane, f64::from(said.rtt_us), 0.0, loss, 1.0, other_region)
}

const LIFE: Duration = Duration::from_secs(60);
const MOST_LOST: f64 = 0.999;
