//! The error that every part of the control plane returns.
//!
//! Owns the conversions from errors of the pure crates and of the database. Refuses to own the gRPC status
//! (`grpc/answer`).

use rap_authority::{PolicyError, UnsealError};
use rap_contract::Reject;
use rap_store::{StoreError, Transient};
use rap_types::{IdParseError, Reason, UnknownWord};

/// A refused or failed call.
#[derive(Debug)]
pub struct Failure {
    /// Stable code.
    pub reason: Reason,
    /// For the caller.
    pub message: String,
    transient: bool,
    pub(crate) hearsay: bool,
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

pub(crate) fn unknown_cluster() -> Failure {
    Failure::new(Reason::ResourceNotFound, "no such cluster")
}

/// One answer for every enrollment that is not the caller's: unknown, or another key's.
pub(crate) fn refused() -> Failure {
    Failure::new(Reason::EnrollmentRefused, "no such enrollment for this key")
}
