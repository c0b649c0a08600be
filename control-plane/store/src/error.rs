//! Failures of the database, by what a caller can do about them.

use rap_types::Reason;
use sqlx::error::DatabaseError;

use crate::row_name::RowName;

/// What an operation of the store gives.
pub(crate) type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failed database operation. The text names constraints and error codes, never values.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer. Nothing was committed.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// The connection was lost after a commit was sent: it may or may not have happened.
    #[error("the connection to the database was lost while it committed")]
    OutcomeUnknown(#[source] sqlx::Error),
    /// Serialization failure, deadlock or lock timeout; the same transaction may succeed when run again.
    #[error("another transaction was in the way (SQLSTATE {0})")]
    Contended(String),
    /// A statement ran past its time.
    #[error("the database took too long")]
    TimedOut,
    /// A unique constraint: the thing, or its name, exists.
    #[error("already there ({constraint})")]
    Exists {
        /// Name of the constraint.
        constraint: String,
    },
    /// A foreign key, check or not-null constraint.
    #[error("the database refuses the row ({constraint})")]
    Violated {
        /// Name of the constraint, or the SQLSTATE when it has none.
        constraint: String,
    },
    /// The database's disk is full: the transaction was rolled back.
    #[error("the disk of the database is full")]
    Full(#[source] sqlx::Error),
    /// A row that must be there is not.
    #[error("no such row")]
    Absent,
    /// A row is not as this installation sealed it. It is not used, and not written over.
    #[error("row {key} of table {table} is not as it was written")]
    Tampered {
        /// Table.
        table: &'static str,
        /// Primary key.
        key: String,
    },
    /// A statement changed another number of rows than it must: something in the database keeps rows back, or adds some.
    #[error("a statement changed {rows} rows of table {table}")]
    Miscounted {
        /// Table.
        table: &'static str,
        /// How many rows it changed.
        rows: u64,
    },
    /// A column holds what the schema does not allow: somebody changed both.
    #[error("column {column} holds what was never written")]
    Unreadable {
        /// Name of the column, or its number.
        column: String,
        /// Why it does not read.
        #[source]
        source: sqlx::Error,
    },
    /// A number that the database's signed integers cannot carry.
    #[error("number out of range in column {0}")]
    Range(&'static str),
    /// A text or a time that the database cannot carry, as a caller gave it.
    #[error("a value that cannot be stored (SQLSTATE {0})")]
    Unstorable(String),
    /// A database URL does not parse, or has a parameter that is not known. The text repeats nothing of the URL.
    #[error("the database URL: {0}")]
    Url(String),
    /// The server knows no such user, or the password is wrong.
    #[error("the database refuses the user or the password (SQLSTATE {0})")]
    Credentials(String),
    /// The server has no database of this name.
    #[error("the server has no such database (SQLSTATE {0})")]
    NoDatabase(String),
    /// Statements of one connection reach different sessions of the server.
    #[error(
        "a pooler in transaction mode stands before the database: prepared statements and session settings get \
         lost; use its session mode (pgbouncer: pool_mode = session)"
    )]
    Pooled,
    /// Anything else: a fault of the program or of the schema.
    #[error("database fault")]
    Fault(#[source] sqlx::Error),
}

impl StoreError {
    pub(crate) fn tampered(row: RowName) -> Self {
        Self::Tampered { table: row.table, key: row.key }
    }

    /// The stable code of this failure.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unavailable(_) => Reason::StoreUnavailable,
            Self::OutcomeUnknown(_) => Reason::StoreOutcomeUnknown,
            Self::Contended(_) => Reason::RequestConflict,
            Self::TimedOut => Reason::RequestTimeout,
            Self::Exists { .. } => Reason::ResourceExists,
            Self::Full(_) => Reason::StateNoSpace,
            Self::Absent => Reason::ResourceNotFound,
            Self::Tampered { .. } | Self::Miscounted { .. } | Self::Unreadable { .. } => Reason::RowTampered,
            Self::Url(_) | Self::Pooled => Reason::ConfigInvalid,
            Self::Credentials(_) => Reason::StoreCredentials,
            Self::NoDatabase(_) => Reason::StoreMissing,
            Self::Range(_) | Self::Unstorable(_) => Reason::RequestInvalid,
            Self::Violated { .. } | Self::Fault(_) => Reason::ServerInternal,
        }
    }

    /// True when the whole transaction may simply be run again: it was certainly rolled back.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Contended(_))
    }

    /// True for a unique violation of `constraint`.
    pub fn is_exists(&self, constraint: &str) -> bool {
        matches!(self, Self::Exists { constraint: found } if found == constraint)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::RowNotFound => Self::Absent,
            E::ColumnDecode { ref index, .. } => {
                Self::Unreadable { column: index.to_string(), source: error }
            }
            E::Database(ref cause) => match of_database(cause.as_ref()) {
                Some(sorted) => sorted,
                None if cause.code().as_deref() == Some("53100") => Self::Full(error),
                None if is_shutdown(cause.as_ref()) => Self::Unavailable(error),
                None => Self::Fault(error),
            },
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unavailable(error)
            }
            _ => Self::Fault(error),
        }
    }
}

/// SQLSTATEs with a meaning of their own (PostgreSQL manual, appendix A).
fn of_database(error: &dyn DatabaseError) -> Option<StoreError> {
    let code = error.code().unwrap_or_default();
    let constraint = || error.constraint().unwrap_or(&code).to_owned();
    Some(match code.as_ref() {
        "40001" | "40P01" | "55P03" => StoreError::Contended(code.into_owned()),
        // A NUL in a text; an untranslatable one; a time beyond the calendar.
        "22021" | "22P05" | "22008" => StoreError::Unstorable(code.into_owned()),
        "57014" => StoreError::TimedOut,
        "28000" | "28P01" => StoreError::Credentials(code.into_owned()),
        "3D000" => StoreError::NoDatabase(code.into_owned()),
        // A statement of this name exists already, or no longer: another session answers than was asked before.
        "42P05" | "26000" => StoreError::Pooled,
        "23505" => StoreError::Exists { constraint: constraint() },
        "23502" | "23503" | "23514" => StoreError::Violated { constraint: constraint() },
        _ => return None,
    })
}

/// Shutdown, recovery, too many connections, a disk that fails, lost connection, idle in transaction for too long,
/// a server that takes no writes.
fn is_shutdown(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    code.starts_with("08")
        || code.starts_with("57P")
        || matches!(code.as_ref(), "53300" | "58030" | "25P03" | "25006")
}
