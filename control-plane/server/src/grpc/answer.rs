//! From what went wrong inside to what a caller is told.
//!
//! Owns which details leave the process: the reason and a fixed text, never a row, a path or a secret.

use rap_authority::{PolicyError, UnsealError};
use rap_contract::Reject;
use rap_rpc::refuse;
use rap_store::{StoreError, Transient};
use rap_types::{IdParseError, Reason, RequestId, UnknownWord};
use tonic::Status;

use crate::certificates::CertificateError;
use crate::http::Metrics;

/// A refused or failed call.
#[derive(Debug)]
pub struct Failure {
    /// Stable code.
    pub reason: Reason,
    /// For the caller.
    pub message: String,
    transient: bool,
    hearsay: bool,
}

impl Failure {
    /// A refusal with a text for the caller.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), transient: false, hearsay: false }
    }

    /// A refusal whose code a node chose. It is passed on; it raises no alarm of ours.
    pub fn said(reason: Reason, message: impl Into<String>) -> Self {
        Self { hearsay: true, ..Self::new(reason, message) }
    }

    /// The gRPC status of this failure for one call. Faults of ours are logged here, once.
    pub fn status(self, metrics: &Metrics, request_id: RequestId) -> Status {
        metrics.rejected(self.reason);
        if self.hearsay {
            return refuse(self.reason, self.message, request_id);
        }
        if matches!(self.reason, Reason::RowTampered | Reason::StateNoSpace) {
            metrics.alarmed(self.reason);
            tracing::error!(alarm = true, reason = %self.reason, %request_id, "{}", self.message);
        } else if matches!(self.reason, Reason::ServerInternal | Reason::SecretUnseal) {
            tracing::error!(reason = %self.reason, %request_id, "{}", self.message);
        }
        refuse(self.reason, self.message, request_id)
    }
}

impl Transient for Failure {
    fn is_transient(&self) -> bool {
        self.transient
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.reason() == Reason::ServerInternal {
            tracing::error!(error = &error as &dyn std::error::Error, "database fault");
        }
        Self { transient: error.is_transient(), ..Self::new(error.reason(), error.to_string()) }
    }
}

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Self::new(reject.reason, reject.what)
    }
}

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<UnsealError> for Failure {
    fn from(error: UnsealError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<IdParseError> for Failure {
    fn from(error: IdParseError) -> Self {
        Self::new(Reason::RequestInvalid, error.to_string())
    }
}

impl From<UnknownWord> for Failure {
    fn from(error: UnknownWord) -> Self {
        Self::new(Reason::RequestInvalid, error.to_string())
    }
}
