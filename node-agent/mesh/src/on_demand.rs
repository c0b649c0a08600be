//! Lanes B and C of one link, as data that waits for them sees them.
//!
//! Owns who opens a lane and when. Opens none itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rap_link::{Direction, Lane, redial_delay};
use rap_types::Mono;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::inbox::Inbox;

/// One lane beside lane A, as long as that connection of lane A stands.
#[derive(Debug)]
pub(crate) struct OnDemand {
    pub(crate) lane: Lane,
    /// What waits for the lane, and what it carries.
    pub(crate) inbox: Arc<Inbox>,
    /// Cancelled at the end of lane A.
    pub(crate) ended: CancellationToken,
    pub(crate) busy: Arc<Busy>,
    /// True while the lane stands or somebody opens it.
    claimed: AtomicBool,
    pub(crate) up: watch::Sender<bool>,
    not_before: AtomicU64,
    failures: AtomicU32,
    /// The same lane of the session before, until this one is opened.
    before: Mutex<Option<Arc<OnDemand>>>,
}

/// The lanes beside a connection of lane A.
#[derive(Debug, Clone)]
pub(crate) struct Lanes([Arc<OnDemand>; 2]);

/// When data last passed on lane B or C. Lane A, which watches the peer meanwhile, is woken when it begins.
#[derive(Debug)]
pub(crate) struct Busy {
    at: AtomicU64,
    lane_a: Arc<Inbox>,
}

impl Busy {
    pub(crate) fn mark(&self, now: Mono) {
        let before = self.at.swap(now.0, Ordering::Relaxed);
        if now.since(Mono(before)) > BEGINS {
            self.lane_a.nudge();
        }
    }

    pub(crate) fn latest(&self) -> Mono {
        Mono(self.at.load(Ordering::Relaxed))
    }
}

impl Lanes {
    /// `mesh`: its end.
    pub(crate) fn new(mesh: &CancellationToken, lane_a: Arc<Inbox>) -> Self {
        let ended = mesh.child_token();
        let busy = Arc::new(Busy { at: AtomicU64::new(0), lane_a });
        Self([Lane::B, Lane::C].map(|lane| Arc::new(OnDemand::new(lane, ended.clone(), busy.clone()))))
    }

    pub(crate) fn busy(&self) -> Arc<Busy> {
        self.0[0].busy.clone()
    }

    pub(crate) fn get(&self, lane: Lane) -> Option<&Arc<OnDemand>> {
        self.0.iter().find(|on_demand| on_demand.lane == lane)
    }

    /// Takes over from the session before: a lane that stands carries data until the new one is opened, and what waits
    /// for one that does not stand waits here.
    pub(crate) fn follow(&self, before: &Self) {
        for (after, before) in self.0.iter().zip(&before.0) {
            if before.is_up() {
                *after.before() = Some(before.clone());
            } else {
                for frame in before.inbox.take() {
                    // This inbox is empty and has the same bounds.
                    let _taken = after.inbox.push(frame);
                }
            }
        }
    }

    /// Ends both lanes: the connection of lane A ended.
    pub(crate) fn end(&self) {
        self.0.iter().for_each(|on_demand| on_demand.ended.cancel());
    }
}

impl OnDemand {
    fn new(lane: Lane, ended: CancellationToken, busy: Arc<Busy>) -> Self {
        Self {
            lane,
            inbox: Arc::default(),
            ended,
            busy,
            claimed: AtomicBool::new(false),
            up: watch::Sender::new(false),
            not_before: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            before: Mutex::default(),
        }
    }

    /// The lane of the session before, while it stands and this one does not.
    pub(crate) fn standing_before(&self) -> Option<Arc<Self>> {
        self.before().clone().filter(|before| before.is_up())
    }

    /// True if the lane is to be opened without new data: for what waits, and `dials` says that this side opens it, for
    /// what the lane before carries.
    pub(crate) fn is_due(&self, dials: bool) -> bool {
        !self.inbox.is_empty() || (dials && self.standing_before().is_some())
    }

    /// A connection is the lane.
    pub(crate) fn opened(&self) {
        self.claimed.store(true, Ordering::Release);
        self.failures.store(0, Ordering::Relaxed);
        *self.before() = None;
        self.up.send_replace(true);
    }

    /// The connection of the lane ended. Returns how many frames waited for it.
    pub(crate) fn closed(&self) -> u64 {
        self.up.send_replace(false);
        self.claimed.store(false, Ordering::Release);
        self.inbox.take().len() as u64
    }

    pub(crate) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    fn before(&self) -> MutexGuard<'_, Option<Arc<Self>>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for one caller while the lane is closed, and not soon after a failure.
    pub(crate) fn claim(&self, now: Mono) -> bool {
        now.0 >= self.not_before.load(Ordering::Acquire) && !self.claimed.swap(true, Ordering::AcqRel)
    }

    /// True soon after a failure.
    pub(crate) fn rests(&self, now: Mono) -> bool {
        now.0 < self.not_before.load(Ordering::Acquire) && !self.claimed.load(Ordering::Acquire)
    }

    /// Returns how many frames waited.
    pub(crate) fn failed(&self, now: Mono) -> u64 {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let until = now.plus(redial_delay(failures, rand::random()));
        self.not_before.store(until.0, Ordering::Release);
        self.closed()
    }
}

/// Where data for a peer goes.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// Lane A carries every class: a side knows no lanes.
    Stands(Arc<Inbox>),
    /// A lane of its own.
    OnDemand(Arc<OnDemand>),
    /// There is no link, or the peer knows no paths.
    None,
}

/// What a lane is dialled with: that of lane A.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) direction: Direction,
    pub(crate) session_id: [u8; 16],
    pub(crate) remote: Option<SocketAddr>,
}

/// Data after so long begins a time of data.
const BEGINS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use rap_link::Frame;
    use rap_types::ChannelClass;

    use super::*;

    #[test]
    fn many_who_want_a_lane_open_it_once_and_after_a_failure_it_rests() {
        let lanes = Lanes::new(&CancellationToken::new(), Arc::default());
        let lane = lanes.get(Lane::C).unwrap();
        let opens = |now| (0..1000).filter(|_| lane.claim(now)).count();
        let now = Mono(1_000_000_000);
        assert_eq!(opens(now), 1);
        lane.opened();
        assert_eq!(opens(now), 0, "it stands");
        assert_eq!(lane.closed(), 0);
        assert_eq!(opens(now), 1, "it ended, and is opened again at once");

        assert_eq!(lane.inbox.push(Frame::labelled(ChannelClass::Vpn, 1, 1, vec![1])), Ok(()));
        assert_eq!(lane.failed(now), 1, "what waited is dropped");
        assert!(lane.rests(now) && opens(now) == 0);
        let mut waits = Vec::new();
        let mut now = now;
        for _ in 0..12 {
            let before = now;
            while lane.rests(now) {
                now = now.plus(Duration::from_millis(100));
            }
            waits.push(now.since(before));
            assert_eq!(opens(now), 1);
            lane.failed(now);
        }
        assert!(waits.first() < Some(&Duration::from_millis(400)), "{waits:?}");
        assert!(waits.last() > Some(&Duration::from_secs(14)), "{waits:?}");
        assert!(waits.last() <= Some(&Duration::from_millis(30_100)), "{waits:?}");
        assert_eq!(lanes.get(Lane::A).map(|lane| lane.lane), None);
    }
}
