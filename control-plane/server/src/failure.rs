//! The error that every part of the control plane returns.
//!
//! Owns the conversions from errors of the pure crates and of the database. Refuses to own the gRPC status
//! (`grpc/answer`).

use rap_authority::{PolicyError, UnsealError};
use rap_contract::Reject;
use rap_runtime::files::FileError;
use rap_runtime::secrets::SecretError;
use rap_store::postgres::PostgresError;
use rap_store::{MigrationError, RoleError, StoreError, Transient};
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

    /// Makes refusals with this code of errors: `.map_err(Failure::of(Reason::StateIo))`.
    pub fn of<E: std::fmt::Display>(reason: Reason) -> impl FnOnce(E) -> Self {
        move |error| Self::new(reason, error.to_string())
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

/// An error with a code: what it says for itself.
macro_rules! coded {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.reason(), error.to_string())
            }
        }
    )+};
}
coded!(FileError, PolicyError, SecretError, UnsealError);

/// An error with a code: what it and its sources say. They carry no values.
macro_rules! with_sources {
    ($($error:ty),+) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.reason(), chain(&error))
            }
        }
    )+};
}
with_sources!(MigrationError, PostgresError, RoleError);

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

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn unknown_cluster() -> Failure {
    Failure::new(Reason::ResourceNotFound, "no such cluster")
}

/// One answer for every enrollment that is not the caller's: unknown, or another key's.
pub(crate) fn refused() -> Failure {
    Failure::new(Reason::EnrollmentRefused, "no such enrollment for this key")
}
