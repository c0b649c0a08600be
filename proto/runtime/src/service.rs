//! What a service manager is told: ready, stopping, a line of status, and that work goes on.
//!
//! Owns the rule that the watchdog is fed by progress: every part must have turned lately, or nothing is sent and the
//! manager starts the process again. Refuses to own what progress is: parts say so themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rap_types::Mono;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// The process does its work from now on.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The process ends.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Nobody listens when no service manager started the process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "service manager not told");
    }
}

/// The parts of a process that must go on. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Watchdog(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    next: u64,
    parts: BTreeMap<u64, Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    within: Duration,
    turned: Mono,
    said: String,
}

/// One part's word. Dropping it takes the part out: what has ended need not go on.
#[derive(Debug)]
pub struct Beat {
    id: u64,
    clock: Clock,
    watchdog: Watchdog,
}

impl Watchdog {
    /// Adds a part that turns at least once in [`STALL`], from now on.
    pub fn part(&self, name: impl Into<String>) -> Beat {
        let clock = Clock::new();
        let mut parts = self.lock();
        let id = parts.next;
        parts.next += 1;
        let part = Part { name: name.into(), within: STALL, turned: clock.now().mono, said: String::new() };
        parts.parts.insert(id, part);
        Beat { id, clock, watchdog: self.clone() }
    }

    /// Names of the parts that have not turned in time.
    pub fn stalled(&self, now: Mono) -> Vec<String> {
        let parts = self.lock();
        let late = parts.parts.values().filter(|part| now.since(part.turned) > part.within);
        late.map(|part| part.name.clone()).collect()
    }

    /// What the parts say, in one line.
    pub fn said(&self) -> String {
        let parts = self.lock();
        let said = parts.parts.values().filter(|part| !part.said.is_empty());
        said.map(|part| format!("{}: {}", part.name, part.said)).collect::<Vec<_>>().join("; ")
    }

    /// Tells the service manager until cancelled. Without one there is nothing to do.
    pub async fn run(self, cancel: CancellationToken) {
        let within = sd_notify::watchdog_enabled();
        let pause = within.map_or(LOOK, |within| LOOK.min(within / 3));
        let (clock, mut last) = (Clock::new(), String::new());
        loop {
            let stalled = self.stalled(clock.now().mono);
            let status = match stalled.as_slice() {
                [] => self.said(),
                stalled => format!("no progress: {}", stalled.join(", ")),
            };
            if status != last {
                if !stalled.is_empty() {
                    tracing::error!(?stalled, "no progress; the service manager's watchdog is not fed");
                }
                notify(&[NotifyState::Status(&status)]);
                last = status;
            }
            if within.is_some() && stalled.is_empty() {
                notify(&[NotifyState::Watchdog]);
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beat {
    /// The part went on.
    pub fn turned(&self) {
        let now = self.clock.now().mono;
        if let Some(part) = self.watchdog.lock().parts.get_mut(&self.id) {
            part.turned = now;
        }
    }

    /// What the status line says of this part from now on. One line, no secrets.
    pub fn say(&self, text: impl Into<String>) {
        let text = text.into().replace(['\n', '\r'], " ");
        if let Some(part) = self.watchdog.lock().parts.get_mut(&self.id) {
            part.said = text;
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.watchdog.lock().parts.remove(&self.id);
    }
}

/// A part that has not turned for this long holds the watchdog back.
pub const STALL: Duration = Duration::from_secs(20);
/// A loop that waits for events turns at least this often.
pub const TURN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn later(by: Duration) -> Mono {
        Clock::new().now().mono.plus(by)
    }

    #[test]
    fn one_part_that_stands_still_holds_the_watchdog_back() {
        let watchdog = Watchdog::default();
        let (driver, accept) = (watchdog.part("driver"), watchdog.part("accept"));
        assert_eq!(watchdog.stalled(later(STALL / 2)), Vec::<String>::new());
        assert_eq!(watchdog.stalled(later(STALL * 2)), ["driver", "accept"]);
        // Time passed and only one of them went on.
        watchdog.lock().parts.get_mut(&driver.id).unwrap().turned = later(STALL * 2);
        assert_eq!(watchdog.stalled(later(STALL * 2)), ["accept"]);
        drop(accept);
        assert_eq!(watchdog.stalled(later(STALL * 2)), Vec::<String>::new(), "what ended need not go on");
    }

    #[test]
    fn a_turn_is_progress_and_words_are_one_line() {
        let watchdog = Watchdog::default();
        let part = watchdog.part("default");
        watchdog.lock().parts.get_mut(&part.id).unwrap().turned = Mono(0);
        assert_eq!(watchdog.stalled(later(Duration::ZERO)), ["default"]);
        part.turned();
        assert_eq!(watchdog.stalled(later(Duration::ZERO)), Vec::<String>::new());
        part.say("version 7\nfresh");
        assert_eq!(watchdog.said(), "default: version 7 fresh");
    }
}
