//! The recovery ladder: what is tried, in which order, when no link stands.
//!
//! Active peers are dialled again alone for 2 s; then warm ones too, three at a time and 250 ms apart; from 5 s on cold
//! ones as well. The rung of configuration nodes at 10 s has none to ask. The last snapshot stays in use meanwhile, as
//! far as its policy allows.
//!
//! Owns the times. Refuses to choose among peers.

use std::collections::BTreeSet;
use std::time::Duration;

use rap_types::{Mono, NodeId};

use crate::random::Random;

rap_types::word_enum! {
    /// How far recovery got.
    Rung {
        /// A link stands, or none is wanted.
        Connected = "connected",
        /// Wanted peers are dialled again.
        Active = "active",
        /// Warm peers are dialled as well.
        Warm = "warm",
        /// Cold peers are dialled as well.
        Cold = "cold",
        /// Everybody was tried; the last snapshot is what there is.
        LastSnapshot = "last_snapshot",
    }
}

/// The climb since all links were lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ladder {
    lost: Option<Mono>,
    tried: BTreeSet<NodeId>,
    /// When the next one may be tried.
    next: Mono,
    /// Rounds in which nobody was left to try.
    rounds: u32,
}

impl Ladder {
    /// Whether no link stands although one is wanted.
    pub(crate) fn settle(&mut self, lost: bool, now: Mono) {
        match (lost, self.lost) {
            (true, None) => *self = Self { lost: Some(now), ..Self::default() },
            (false, Some(_)) => *self = Self::default(),
            (true, Some(_)) | (false, None) => {}
        }
    }

    pub(crate) const fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    pub(crate) fn rung(&self, now: Mono) -> Rung {
        let Some(lost) = self.lost else { return Rung::Connected };
        let lasts = now.since(lost);
        match lasts {
            _ if lasts < WARM => Rung::Active,
            _ if lasts < COLD => Rung::Warm,
            _ if lasts < CONFIG_STORAGE => Rung::Cold,
            _ => Rung::LastSnapshot,
        }
    }

    /// Who of these is tried now; `running` are being tried. At most one a call.
    pub(crate) fn try_next(
        &mut self,
        candidates: impl IntoIterator<Item = NodeId>,
        running: usize,
        now: Mono,
        random: &mut Random,
    ) -> Option<NodeId> {
        let racing = !matches!(self.rung(now), Rung::Connected | Rung::Active);
        if !racing || running >= AT_ONCE || now < self.next {
            return None;
        }
        let Some(node) = candidates.into_iter().find(|node| !self.tried.contains(node)) else {
            if running == 0 {
                let pause = (FIRST_PAUSE * (1 << self.rounds.min(6))).min(LONGEST_PAUSE);
                self.next = now.plus(random.around(pause));
                self.rounds += 1;
                self.tried.clear();
            }
            return None;
        };
        self.tried.insert(node);
        self.next = now.plus(STAGGER);
        Some(node)
    }

    /// When the ladder has something to do next.
    pub(crate) fn due(&self, running: usize, now: Mono) -> Option<Mono> {
        let lost = self.lost?;
        let rungs = [WARM, COLD, CONFIG_STORAGE].map(|after| lost.plus(after));
        let rungs = rungs.into_iter().filter(|at| *at > now);
        let next = Some(self.next).filter(|at| *at > now && running < AT_ONCE);
        rungs.chain(next).min()
    }
}

const WARM: Duration = crate::peer::RETRY;
const COLD: Duration = Duration::from_secs(5);
const CONFIG_STORAGE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 3;
const STAGGER: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
