//! The phases of an application and the legal steps between them.

use std::time::Duration;

use rap_contract::{Reject, VerifiedBootstrap};
use rap_types::{JoinRequestId, JoinState, Mono, NodeId, Now, Reason, Wall};
use rap_wire::v1;

use super::{Applicant, ApplicantInput as Input, ApplicantOutput as Output, JoinedMembership, Wait};
use crate::PersistId;

/// What the next connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// To ask.
    Join,
    /// To hear what became of this request.
    Poll(JoinRequestId),
}

/// Where an application is. Prints its name alone.
pub enum Phase {
    /// Connecting, waiting for a challenge.
    Challenging(Errand),
    /// The nonce of the join to be sent is on its way to the disk.
    Noting {
        /// The write that is waited for.
        id: PersistId,
        /// Nonce of the connection.
        nonce: Vec<u8>,
        /// Exporter of the connection.
        exporter: [u8; 32],
    },
    /// The join was sent.
    Joining,
    /// The id of the request is on its way to the disk.
    Naming {
        /// The write that is waited for.
        id: PersistId,
        /// The request.
        request: JoinRequestId,
    },
    /// The poll was sent.
    Polling(JoinRequestId),
    /// Nothing to do before `until`.
    Resting {
        /// What comes then.
        errand: Errand,
        /// When.
        until: Mono,
    },
    /// The membership is on its way to the disk.
    Settling {
        /// The write that is waited for.
        id: PersistId,
        /// The request it came from.
        request: JoinRequestId,
        /// The node.
        node: NodeId,
    },
    /// The membership is on disk.
    Joined(NodeId),
    /// It ended without a membership.
    Refused(Reason),
}

impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

type Step = Result<Phase, (Phase, Reject)>;

impl Phase {
    /// The word for people and tests.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Challenging(_) => "challenging",
            Self::Noting { .. } => "noting",
            Self::Joining => "joining",
            Self::Naming { .. } => "naming",
            Self::Polling(_) => "polling",
            Self::Resting { .. } => "resting",
            Self::Settling { .. } => "settling",
            Self::Joined(_) => "joined",
            Self::Refused(_) => "refused",
        }
    }

    pub(super) fn handle(self, input: Input, now: Now, applicant: &mut Applicant) -> Step {
        if matches!(input, Input::TimedOut) && now.mono >= applicant.give_up && !self.is_final() {
            return Ok(Self::Refused(Reason::RequestTimeout));
        }
        match (self, input) {
            (Self::Challenging(errand), Input::Challenged { nonce, exporter, server_time }) => {
                Ok(challenged(errand, nonce, exporter, server_time, now, applicant))
            }
            (Self::Noting { id, nonce, exporter }, Input::Persisted(done)) if done == id => {
                Ok(send_join(&nonce, &exporter, applicant))
            }
            (Self::Joining, Input::JoinAnswered(answer)) => Ok(join_answered(&answer, applicant)),
            (Self::Naming { id, request }, Input::Persisted(done)) if done == id => {
                applicant.outputs.push_back(Output::Connect);
                Ok(Self::Challenging(Errand::Poll(request)))
            }
            (Self::Polling(request), Input::BootstrapAnswered(answer)) => {
                Ok(poll_answered(request, answer, now, applicant))
            }
            (Self::Settling { id, node, .. }, Input::Persisted(done)) if done == id => Ok(Self::Joined(node)),
            (Self::Resting { errand, until }, Input::TimedOut) if now.mono >= until => {
                applicant.outputs.push_back(Output::Connect);
                Ok(Self::Challenging(errand))
            }
            (Self::Challenging(errand), Input::CallFailed(reason)) => {
                Ok(call_failed(errand, reason, now, applicant))
            }
            // While its nonce was being written, the connection that was challenged went away.
            (Self::Joining | Self::Noting { .. }, Input::CallFailed(reason)) => {
                Ok(call_failed(Errand::Join, reason, now, applicant))
            }
            (Self::Polling(request), Input::CallFailed(reason)) => {
                Ok(call_failed(Errand::Poll(request), reason, now, applicant))
            }
            (
                Self::Noting { id, .. } | Self::Naming { id, .. } | Self::Settling { id, .. },
                Input::PersistFailed(failed, reason),
            ) if failed == id => Ok(Self::Refused(reason)),
            // A timer that came early changes nothing.
            (phase, Input::TimedOut) => Ok(phase),
            (phase, _) => Err((phase, Reject::new(Reason::RequestInvalid, "does not fit the phase"))),
        }
    }

    /// True when nothing more will happen.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Joined(_) | Self::Refused(_))
    }
}

fn challenged(
    errand: Errand,
    nonce: Vec<u8>,
    exporter: [u8; 32],
    server_time: Wall,
    now: Now,
    applicant: &mut Applicant,
) -> Phase {
    applicant.give_up = applicant.started.plus(applicant.patience.timeout);
    let skew = server_time.0.saturating_sub(applicant.clock.wall(now).0);
    if server_time.0 != 0 && skew.unsigned_abs() > SKEW_SHOWN.as_millis() as u64 {
        applicant.outputs.push_back(Output::Waiting(Wait::ClockSkew(skew)));
    }
    match errand {
        Errand::Join => {
            let id = applicant.note_nonce(&nonce);
            Phase::Noting { id, nonce, exporter }
        }
        Errand::Poll(request) => {
            let poll = applicant.application.poll(request, &nonce, &exporter);
            applicant.outputs.push_back(Output::SendPoll(Box::new(poll)));
            Phase::Polling(request)
        }
    }
}

fn send_join(nonce: &[u8], exporter: &[u8; 32], applicant: &mut Applicant) -> Phase {
    let Some(join) = applicant.application.join(nonce, exporter) else {
        return Phase::Refused(Reason::SecretMissing);
    };
    applicant.outputs.push_back(Output::SendJoin(Box::new(join)));
    Phase::Joining
}

fn join_answered(answer: &v1::JoinAnswer, applicant: &mut Applicant) -> Phase {
    let (Ok(request), Ok(state)) =
        (JoinRequestId::from_slice(&answer.request_id), answer.state.parse::<JoinState>())
    else {
        return Phase::Refused(Reason::RequestInvalid);
    };
    if state == JoinState::Denied {
        return Phase::Refused(Reason::EnrollmentDenied);
    }
    applicant.failures = 0;
    applicant.pending.request = Some(request);
    Phase::Naming { id: applicant.persist_pending(), request }
}

fn poll_answered(
    request: JoinRequestId,
    answer: v1::BootstrapAnswer,
    now: Now,
    applicant: &mut Applicant,
) -> Phase {
    match answer.state.parse::<JoinState>() {
        Ok(JoinState::Pending) => applicant.rest(Errand::Poll(request), Wait::Approval, now),
        Ok(JoinState::Denied) => Phase::Refused(Reason::EnrollmentDenied),
        Ok(JoinState::Approved) => {
            let wall = applicant.clock.wall(now);
            let nonces = std::mem::take(&mut applicant.pending.nonces);
            let opened = applicant.application.open_contract(&answer.contract, request, &nonces, wall);
            applicant.pending.nonces = nonces;
            match opened {
                Ok(bootstrap) => settle(request, bootstrap, applicant),
                Err(reject) => call_failed(Errand::Poll(request), reject.reason, now, applicant),
            }
        }
        Err(_) => Phase::Refused(Reason::RequestInvalid),
    }
}

fn settle(request: JoinRequestId, bootstrap: VerifiedBootstrap, applicant: &mut Applicant) -> Phase {
    let (id, node) = (applicant.persist_id(), bootstrap.node);
    let membership = Box::new(JoinedMembership { bootstrap });
    applicant.outputs.push_back(Output::PersistMembership(id, membership));
    Phase::Settling { id, request, node }
}

/// A failure that time can heal rests; any other ends the application.
fn call_failed(errand: Errand, reason: Reason, now: Now, applicant: &mut Applicant) -> Phase {
    if reason.retryable() || RETRIED.contains(&reason) {
        return applicant.rest(errand, Wait::Failure(reason), now);
    }
    Phase::Refused(reason)
}

/// Not retryable as the same call, but a new connection brings a new nonce.
const RETRIED: [Reason; 1] = [Reason::EnrollmentNonce];

/// Differences above this are shown; contracts are refused beyond the tolerance of 60 s.
const SKEW_SHOWN: Duration = Duration::from_secs(60);
