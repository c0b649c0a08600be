//! Refusals over gRPC: google.rpc.Status with ErrorInfo, both ways.
//!
//! Owns the mapping. Refuses to own the codes (rap-types) and any decision to retry.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::ops::Deref;

use rap_runtime::exit::cause_of;
use rap_runtime::{Fault, output, tls};
use rap_types::{ERROR_DOMAIN, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Why a call was refused or did not get through. Reads as the fault that it carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct Refusal {
    /// Stable code and message; the message has no secrets, no control characters and at most 1024 characters.
    #[source]
    pub fault: Fault,
    /// The server's id of the call; absent if the call did not reach one of our servers.
    pub request_id: Option<String>,
}

impl Refusal {
    /// A refusal that does not know its call yet.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { fault: Fault::new(reason, message), request_id: None }
    }

    /// The same refusal of this call.
    fn of_request(self, request_id: impl ToString) -> Self {
        Self { request_id: Some(request_id.to_string()), ..self }
    }

    /// A call that failed below gRPC: no route, no TLS, wrong pin, deadline.
    pub fn from_transport(error: &(dyn Error + 'static)) -> Self {
        Self::new(transport_reason(error).unwrap_or(Reason::ServerUnreachable), clean(&innermost(error)))
    }
}

/// The status that carries a reason, a message and the id of the call.
pub fn refuse(reason: Reason, message: impl Into<String>, request_id: impl ToString) -> Status {
    Status::from(Refusal::new(reason, message).of_request(request_id))
}

impl Deref for Refusal {
    type Target = Fault;

    fn deref(&self) -> &Fault {
        &self.fault
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        refusal.fault
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let Refusal { fault: Fault { reason, message }, request_id } = refusal;
        let metadata: HashMap<_, _> = request_id.into_iter().map(|id| (REQUEST_ID.to_owned(), id)).collect();
        let details = ErrorDetails::with_error_info(reason.code(), ERROR_DOMAIN, metadata);
        Self::with_error_details(Code::from_i32(reason.row().rpc.code()), clean(&message), details)
    }
}

impl From<&Status> for Refusal {
    /// A status with our ErrorInfo keeps its reason. Any other is mapped by what it says about the
    /// transport, then by its gRPC code; an unknown reason of ours stays readable in the message.
    fn from(status: &Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let message = clean(status.message());
        let Some(info) = info else {
            let transport = status.source().and_then(transport_reason);
            return Self::new(transport.unwrap_or_else(|| foreign_reason(status)), message);
        };
        let request_id = info.metadata.get(REQUEST_ID).map(|id| clean(id));
        match Reason::from_code(&info.reason) {
            Some(reason) => Self { fault: Fault { reason, message }, request_id },
            None => {
                let message = format!("[{}] {message}", clean(&info.reason));
                Self { fault: Fault { reason: foreign_reason(status), message }, request_id }
            }
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::from(&status)
    }
}

/// Reason of an error below gRPC, found along its sources; `None` if it is not a transport error.
fn transport_reason(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = tls::reason_of(error) {
            return Some(reason);
        }
        if error.is::<tonic::TimeoutExpired>() {
            return Some(Reason::RequestTimeout);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            found = Some(io_reason(io));
        }
        if error.is::<tonic::transport::Error>() && found.is_none() {
            found = Some(Reason::ServerUnreachable);
        }
        next = cause_of(error);
    }
    found
}

fn io_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::TimedOut => Reason::RequestTimeout,
        _ => Reason::ServerUnreachable,
    }
}

/// Reason of a status that none of our servers wrote.
fn foreign_reason(status: &Status) -> Reason {
    match status.code() {
        Code::DeadlineExceeded => Reason::RequestTimeout,
        // tonic reports its own call deadline this way.
        Code::Cancelled => Reason::RequestTimeout,
        Code::Unavailable => Reason::ServerUnreachable,
        Code::ResourceExhausted => Reason::RateLimited,
        Code::OutOfRange => Reason::RequestTooLarge,
        Code::InvalidArgument | Code::FailedPrecondition => Reason::RequestInvalid,
        Code::NotFound => Reason::ResourceNotFound,
        Code::AlreadyExists => Reason::ResourceExists,
        Code::Aborted => Reason::RequestConflict,
        Code::PermissionDenied => Reason::GrantMissing,
        Code::Unauthenticated => Reason::SessionMissing,
        Code::Unimplemented => Reason::RequestUnimplemented,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Reason::ServerInternal,
    }
}

/// The text of the last source, which is the one that names the fault.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = cause_of(last) {
        last = inner;
    }
    last.to_string()
}

/// A peer's text ends on a terminal and in headers.
fn clean(text: &str) -> String {
    output::bounded(text, MAX_MESSAGE)
}

const REQUEST_ID: &str = "request_id";
const MAX_MESSAGE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use rap_runtime::exit;
    use rap_types::ExitCode;

    #[test]
    fn every_reason_survives_the_wire_with_its_message_and_request_id() {
        for reason in Reason::ALL.iter().copied() {
            let status = refuse(reason, "what happened", "0190");
            assert_eq!(status.code() as i32, reason.row().rpc.code());
            let response = status.into_http::<()>();
            let read = Status::from_header_map(response.headers()).unwrap();
            let expected = Refusal::new(reason, "what happened").of_request("0190");
            assert_eq!(Refusal::from(&read), expected);
        }
    }

    #[test]
    fn a_refusal_by_the_server_keeps_its_exit_code_and_is_said_once() {
        let refusal = Refusal::from(Status::from(Refusal::new(Reason::SnapshotRollback, "is older")));
        assert_eq!(exit::code_of(&refusal), ExitCode::VerificationFailed);
        assert_eq!(exit::line(&refusal), "error[snapshot.rollback]: is older");
    }

    #[test]
    fn error_info_of_another_domain_is_not_ours() {
        let details = ErrorDetails::with_error_info("token.expired", "example.com", HashMap::new());
        let status = Status::with_error_details(Code::NotFound, "x", details);
        assert_eq!(Refusal::from(&status).reason, Reason::ResourceNotFound);
    }

    #[test]
    fn a_reason_of_a_newer_server_stays_readable() {
        let details = ErrorDetails::with_error_info("future.code", ERROR_DOMAIN, HashMap::new());
        let status = Status::with_error_details(Code::PermissionDenied, "no", details);
        let refusal = Refusal::from(&status);
        assert_eq!((refusal.reason, refusal.message.as_str()), (Reason::GrantMissing, "[future.code] no"));
    }

    #[test]
    fn a_peers_message_cannot_drive_the_terminal_nor_flood_it() {
        let refusal = Refusal::from(&Status::unavailable(format!("\x1b[2J\n{}", "x".repeat(5000))));
        assert!(refusal.message.starts_with("\u{fffd}[2J\u{fffd}x"));
        assert_eq!(refusal.message.chars().count(), 1024);
        assert_eq!(refusal.reason, Reason::ServerUnreachable);
    }

    #[test]
    fn transport_faults_are_unreachable_or_timeout_or_the_tls_reason() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(Refusal::from_transport(&refused).reason, Reason::ServerUnreachable);
        let slow = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(Refusal::from_transport(&slow).reason, Reason::RequestTimeout);
        let pin = io::Error::other(rustls::Error::from(tls::PeerReject::PinMismatch));
        assert_eq!(Refusal::from_transport(&pin).reason, Reason::PinMismatch);
        let wrapped =
            Status::from_error(Box::new(io::Error::other(rustls::Error::from(tls::PeerReject::PinMismatch))));
        assert_eq!(Refusal::from(&wrapped).reason, Reason::PinMismatch);
        assert_eq!(Refusal::from(&Status::deadline_exceeded("")).reason, Reason::RequestTimeout);
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = tonic::transport::Endpoint::from_shared(url).unwrap().connect().await.unwrap_err();
        assert_eq!(Refusal::from_transport(&error).reason, Reason::ServerUnreachable);
    }
}
