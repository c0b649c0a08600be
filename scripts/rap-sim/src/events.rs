//! What can happen in a run, and how often it did.

use std::collections::BTreeMap;
use std::fmt;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    NodeAdded,
    SharedChange,
    PrivateChange,
    NodeRevoked,
    HeadRefreshed,
    FullUpdate,
    DeltaUpdate,
    HeadSent,
    Dropped,
    Duplicated,
    Reordered,
    StreamLost,
    Restarted,
    RestartedBeforeDisk,
    DiskFailed,
    Activated,
    Restricted,
    Acknowledged,
    Refused,
    AckTimeout,
}

impl Event {
    const ALL: [Self; 20] = [
        Self::NodeAdded,
        Self::SharedChange,
        Self::PrivateChange,
        Self::NodeRevoked,
        Self::HeadRefreshed,
        Self::FullUpdate,
        Self::DeltaUpdate,
        Self::HeadSent,
        Self::Dropped,
        Self::Duplicated,
        Self::Reordered,
        Self::StreamLost,
        Self::Restarted,
        Self::RestartedBeforeDisk,
        Self::DiskFailed,
        Self::Activated,
        Self::Restricted,
        Self::Acknowledged,
        Self::Refused,
        Self::AckTimeout,
    ];
}

/// How often each kind occurred.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<Event, u64>);

impl Counts {
    /// It occurred.
    pub fn add(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }

    /// Kinds that did not occur.
    pub fn never(&self) -> Vec<String> {
        let never = Event::ALL.iter().filter(|event| !self.0.contains_key(event));
        never.map(|event| format!("{event:?}")).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in Event::ALL {
            writeln!(f, "{:>10}  {event:?}", self.0.get(&event).copied().unwrap_or(0))?;
        }
        Ok(())
    }
}
