//! gRPC statuses by name, with what each means over HTTP and for the exit code of a program.

use crate::exit::ExitCode;

/// gRPC status of a reason (names as in google.rpc.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcStatus {
    /// 3
    InvalidArgument,
    /// 4
    DeadlineExceeded,
    /// 5
    NotFound,
    /// 6
    AlreadyExists,
    /// 7
    PermissionDenied,
    /// 8
    ResourceExhausted,
    /// 9
    FailedPrecondition,
    /// 10
    Aborted,
    /// 12
    Unimplemented,
    /// 13
    Internal,
    /// 14
    Unavailable,
    /// 15
    DataLoss,
    /// 16
    Unauthenticated,
}

impl RpcStatus {
    /// Number in google.rpc.Code.
    pub const fn code(self) -> i32 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }

    /// HTTP status of the same answer (RFC 9457 documents carry it).
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::DeadlineExceeded => 504,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::FailedPrecondition => 412,
            Self::Internal | Self::DataLoss => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::Unauthenticated => 401,
        }
    }

    /// Exit code of a program that ends because of it.
    pub const fn exit(self) -> ExitCode {
        match self {
            Self::InvalidArgument => ExitCode::Usage,
            Self::DeadlineExceeded => ExitCode::Timeout,
            Self::NotFound => ExitCode::NotFound,
            Self::AlreadyExists | Self::Aborted | Self::FailedPrecondition => ExitCode::Conflict,
            Self::PermissionDenied | Self::Unauthenticated => ExitCode::Denied,
            Self::ResourceExhausted | Self::Unavailable => ExitCode::Unreachable,
            Self::Unimplemented | Self::Internal => ExitCode::Generic,
            Self::DataLoss => ExitCode::VerificationFailed,
        }
    }
}
