//! Which message about tables goes to a data plane next, on one connection.
//!
//! Owns the choice between change, whole table and parts, and how long a refused table waits. Refuses to own the
//! socket and the order of other requests.
//!
//! Why revocations always pass: they are told by commands of their own, taken from the newest table whatever became
//! of the tables before it. A table waits for the answer to the one before, and after a refusal for a pause; a
//! command waits for neither.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use rap_types::{Mono, Reason};
use rap_wire::v1::agent_message::Body;
use rap_wire::v1::{RevokeCommand, TableDelta, TablePart};

use super::delta::generations;
use super::forwarding::{ForwardingTable, MESSAGE_ROOM, PROTOCOL_OF_CHANGES};

/// Publishes tables on one connection. A new connection needs a new one.
#[derive(Debug)]
pub struct TablePublisher {
    protocol: u32,
    /// What shall be in force.
    newest: Option<Arc<ForwardingTable>>,
    /// What is in force by the data plane's word on this connection.
    in_force: Option<Arc<ForwardingTable>>,
    /// Highest version that needs no message any more.
    settled: u64,
    sending: Option<Sending>,
    /// Revoked generations that the data plane was told by commands.
    told: BTreeMap<Vec<u8>, u64>,
    refusals: u32,
    not_before: Mono,
}

/// A table whose last answer is not there yet.
#[derive(Debug)]
struct Sending {
    table: Arc<ForwardingTable>,
    kind: Kind,
    asked: bool,
}

#[derive(Debug)]
enum Kind {
    Change(Box<TableDelta>),
    Whole,
    Parts(VecDeque<TablePart>),
    /// The table in force with the revocations of one that is too large: protocol 1 has no commands for them.
    Restriction,
}

impl TablePublisher {
    /// For a data plane that speaks `protocol`.
    pub const fn new(protocol: u32) -> Self {
        Self {
            protocol,
            newest: None,
            in_force: None,
            settled: 0,
            sending: None,
            told: BTreeMap::new(),
            refusals: 0,
            not_before: Mono(0),
        }
    }

    /// There is a newer table.
    pub fn offer(&mut self, table: Arc<ForwardingTable>) {
        self.newest = Some(table);
    }

    /// The next command with revocations, to be sent at once. Ask until there is none.
    pub fn revoke(&mut self) -> Option<RevokeCommand> {
        let newest = self.newest.as_ref().filter(|_| self.protocol >= PROTOCOL_OF_CHANGES)?;
        let mut revoked = newest.revoked_since(&self.told);
        revoked.truncate(REVOKED_AT_ONCE);
        self.told.append(&mut generations(&revoked));
        (!revoked.is_empty()).then_some(RevokeCommand { revoked })
    }

    /// The next message about a table, or why there will be none. `None`: nothing now, see [`Self::poll_timeout`].
    pub fn poll(&mut self, now: Mono) -> Option<Result<Body, Reason>> {
        if self.sending.is_none() {
            let newest = self.newest.clone().filter(|newest| newest.version() > self.settled)?;
            if now < self.not_before {
                return None;
            }
            if let Err(reason) = newest.check(self.protocol) {
                self.too_large(&newest);
                return Some(Err(reason));
            }
            self.sending = Some(self.begin(newest));
        }
        let sending = self.sending.as_mut().filter(|sending| !sending.asked)?;
        sending.asked = true;
        sending.next().map(Ok)
    }

    /// When [`Self::poll`] has something to do at the latest; `None` if time alone changes nothing.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let waits = self.newest.as_ref().is_some_and(|newest| newest.version() > self.settled);
        (waits && self.sending.is_none()).then_some(self.not_before)
    }

    /// The data plane answered the message of the last [`Self::poll`]. `Ok` has the version that is in force; after
    /// `Err` the one before stays in force.
    pub fn answered(&mut self, answer: Result<(), Reason>, now: Mono) -> Option<Result<u64, Reason>> {
        let mut sending = self.sending.take()?;
        match (answer, &sending.kind) {
            (Ok(()), Kind::Parts(rest)) if !rest.is_empty() => {
                sending.asked = false;
                self.sending = Some(sending);
                None
            }
            (Ok(()), Kind::Restriction) => None,
            (Ok(()), Kind::Change(_) | Kind::Whole | Kind::Parts(_)) => {
                self.refusals = 0;
                self.settled = self.settled.max(sending.table.version());
                let version = sending.table.version();
                self.in_force = Some(sending.table);
                Some(Ok(version))
            }
            (Err(reason), kind) => {
                if matches!(kind, Kind::Change(_)) {
                    // The next one is whole.
                    self.in_force = None;
                    if reason == Reason::DataplaneTableBase {
                        return None;
                    }
                }
                self.pause(now);
                Some(Err(reason))
            }
        }
    }

    fn begin(&self, table: Arc<ForwardingTable>) -> Sending {
        let base = self.in_force.as_ref().filter(|_| self.protocol >= PROTOCOL_OF_CHANGES);
        let change = base.and_then(|base| table.change_of(base));
        let kind = match change.filter(|change| change.encoded_len() <= MESSAGE_ROOM) {
            Some(change) => Kind::Change(Box::new(change)),
            None if table.fits_one_message() => Kind::Whole,
            None => Kind::Parts(table.parts()),
        };
        Sending { table, kind, asked: false }
    }

    fn too_large(&mut self, newest: &Arc<ForwardingTable>) {
        self.settled = newest.version();
        if let Some(base) = self.in_force.as_ref().filter(|_| self.protocol < PROTOCOL_OF_CHANGES) {
            let table = Arc::new(base.restricted_by(newest));
            if table.check(self.protocol).is_ok() {
                self.sending = Some(Sending { table, kind: Kind::Restriction, asked: false });
            }
        }
    }

    fn pause(&mut self, now: Mono) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.refusals.min(6));
        self.refusals = self.refusals.saturating_add(1);
        self.not_before = now.plus(pause.min(LONGEST_PAUSE));
    }
}

impl Sending {
    fn next(&mut self) -> Option<Body> {
        match &mut self.kind {
            Kind::Change(change) => Some(Body::TableDelta(std::mem::take(change))),
            Kind::Whole | Kind::Restriction => Some(Body::Table(self.table.message())),
            Kind::Parts(rest) => rest.pop_front().map(Body::TablePart),
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// About half a message.
const REVOKED_AT_ONCE: usize = 16_384;

#[cfg(test)]
mod tests;
