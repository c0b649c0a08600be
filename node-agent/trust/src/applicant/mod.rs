//! The applicant: from a join token to a verified bootstrap contract on disk.
//!
//! Each call needs a challenge of its own connection first. Before a join is sent its nonce is on disk,
//! and before a request is polled its id is, so that a killed applicant asks nothing twice.
//!
//! Owns the order of the steps and the reason for every wait. Refuses to own connections and files.

mod application;
mod phase;

use std::collections::VecDeque;
use std::time::Duration;

use rap_contract::{Reject, VerifiedBootstrap};
use rap_types::{JoinRequestId, Mono, Now, Reason, Wall};
use rap_wire::v1;

pub use application::{Application, NodeFacts};
pub use phase::{Errand, Phase};

use crate::{PersistId, TrustedClock};

/// Most join nonces kept; an applicant killed more often starts over with its newest ones.
const NONCES_CAP: usize = 16;

/// What an applicant keeps on disk between runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingJoin {
    /// The request, once the control plane named it.
    pub request: Option<JoinRequestId>,
    /// Nonces under which a join was signed, oldest first.
    pub nonces: Vec<Vec<u8>>,
}

/// How long to wait between polls, and in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Between two polls.
    pub interval: Duration,
    /// From start to giving up; the request stays and can be resumed.
    pub timeout: Duration,
    /// From start to giving up, if no control plane was reached at all.
    pub unreached: Duration,
}

/// What happened. Not printable: exporters bind proofs.
#[derive(Clone)]
pub enum ApplicantInput {
    /// A connection is up and its challenge arrived.
    Challenged {
        /// Nonce of this connection.
        nonce: Vec<u8>,
        /// TLS exporter of this connection.
        exporter: [u8; 32],
        /// The server's clock.
        server_time: Wall,
    },
    /// The join was answered.
    JoinAnswered(v1::JoinAnswer),
    /// The poll was answered.
    BootstrapAnswered(v1::BootstrapAnswer),
    /// A call failed.
    CallFailed(Reason),
    /// The record is on disk.
    Persisted(PersistId),
    /// The record is not on disk.
    PersistFailed(PersistId, Reason),
    /// Time passed.
    TimedOut,
}

/// What is to be done, in order. Prints what it is, not what it carries: a join carries the token's secret.
#[derive(Clone)]
pub enum ApplicantOutput {
    /// Connect and ask for a challenge.
    Connect,
    /// Send this on the connection that gave the challenge.
    SendJoin(Box<v1::JoinRequest>),
    /// Send this on the connection that gave the challenge.
    SendPoll(Box<v1::BootstrapRequest>),
    /// Write this and answer.
    PersistPending(PersistId, PendingJoin),
    /// Write the membership and answer.
    PersistMembership(PersistId, Box<JoinedMembership>),
    /// Tell people why it waits.
    Waiting(Wait),
}

/// A membership that can be written: everything is verified.
#[derive(Debug, Clone)]
pub struct JoinedMembership {
    /// Contract, chain and pins.
    pub bootstrap: VerifiedBootstrap,
}

/// Why an applicant waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// An operator has to approve.
    Approval,
    /// The clocks differ by this many milliseconds (server minus own).
    ClockSkew(i64),
    /// A call failed and is tried again.
    Failure(Reason),
}

/// The state machine with its timers and outputs.
pub struct Applicant {
    application: Application,
    phase: Option<Phase>,
    pending: PendingJoin,
    patience: Patience,
    clock: TrustedClock,
    give_up: Mono,
    started: Mono,
    failures: u32,
    next_id: u64,
    outputs: VecDeque<ApplicantOutput>,
}

impl Applicant {
    /// Starts, or resumes what `pending` says was asked before.
    ///
    /// # Errors
    /// `secret.missing` if nothing was asked yet and the token's secret is not there.
    pub fn start(
        application: Application,
        pending: PendingJoin,
        patience: Patience,
        now: Now,
    ) -> Result<Self, Reject> {
        let errand = match pending.request {
            Some(request) => Errand::Poll(request),
            None if application.can_ask() => Errand::Join,
            None => return Err(Reject::new(Reason::SecretMissing, "the join token is needed again")),
        };
        Ok(Self {
            // The token is signed: it is at least as late as when it was made.
            clock: TrustedClock::new(application.token().header().issued_at, now),
            application,
            phase: Some(Phase::Challenging(errand)),
            pending,
            patience,
            give_up: now.mono.plus(patience.timeout.min(patience.unreached)),
            started: now.mono,
            failures: 0,
            next_id: 1,
            outputs: VecDeque::from([ApplicantOutput::Connect]),
        })
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        self.phase.as_ref().unwrap_or(&Phase::Refused(Reason::RequestInvalid))
    }

    /// What is asked and for which token.
    pub const fn application(&self) -> &Application {
        &self.application
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ApplicantOutput> {
        self.outputs.pop_front()
    }

    /// When [`ApplicantInput::TimedOut`] is due.
    pub fn poll_timeout(&self) -> Option<Mono> {
        match self.phase() {
            Phase::Resting { until, .. } => Some((*until).min(self.give_up)),
            Phase::Joined(_) | Phase::Refused(_) => None,
            Phase::Challenging(_)
            | Phase::Noting { .. }
            | Phase::Joining
            | Phase::Naming { .. }
            | Phase::Polling(_)
            | Phase::Settling { .. } => Some(self.give_up),
        }
    }

    /// Takes one input in; outputs follow by [`Self::poll_output`].
    ///
    /// # Errors
    /// `request.invalid` if the input does not belong to the phase; the phase stays.
    pub fn handle(&mut self, input: ApplicantInput, now: Now) -> Result<(), Reject> {
        let Some(phase) = self.phase.take() else { return Ok(()) };
        let (phase, result) = match phase.handle(input, now, self) {
            Ok(next) => (next, Ok(())),
            Err((same, reject)) => (same, Err(reject)),
        };
        self.phase = Some(phase);
        result
    }

    fn persist_id(&mut self) -> PersistId {
        let id = PersistId(self.next_id);
        self.next_id += 1;
        id
    }

    fn note_nonce(&mut self, nonce: &[u8]) -> PersistId {
        self.pending.nonces.push(nonce.to_vec());
        if self.pending.nonces.len() > NONCES_CAP {
            self.pending.nonces.remove(0);
        }
        self.persist_pending()
    }

    fn persist_pending(&mut self) -> PersistId {
        let id = self.persist_id();
        self.outputs.push_back(ApplicantOutput::PersistPending(id, self.pending.clone()));
        id
    }

    /// Rests before the next attempt: the poll interval while waiting for people, growing from 250 ms
    /// to that interval while calls fail.
    fn rest(&mut self, errand: Errand, why: Wait, now: Now) -> Phase {
        let pause = match why {
            Wait::Approval => {
                self.failures = 0;
                self.patience.interval
            }
            Wait::ClockSkew(_) | Wait::Failure(_) => {
                self.failures = self.failures.saturating_add(1);
                (FIRST_RETRY * (1 << (self.failures - 1).min(10)))
                    .min(self.patience.interval.max(FIRST_RETRY))
            }
        };
        self.outputs.push_back(ApplicantOutput::Waiting(why));
        Phase::Resting { errand, until: now.mono.plus(pause).min(self.give_up) }
    }
}

rap_types::debug_as!(
    Applicant,
    |applicant| "Applicant({:?}, {:?})",
    applicant.application,
    applicant.phase()
);

impl std::fmt::Debug for ApplicantOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => f.write_str("Connect"),
            Self::SendJoin(_) => f.write_str("SendJoin"),
            Self::SendPoll(_) => f.write_str("SendPoll"),
            Self::PersistPending(id, _) => write!(f, "PersistPending({})", id.0),
            Self::PersistMembership(id, _) => write!(f, "PersistMembership({})", id.0),
            Self::Waiting(why) => write!(f, "Waiting({why:?})"),
        }
    }
}

const FIRST_RETRY: Duration = Duration::from_millis(250);
