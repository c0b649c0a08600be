//! A private PostgreSQL from the system's binaries.
//!
//! Owns the server's directory, processes and socket: first start, start, restart after a death,
//! stop. Refuses to own databases' contents: the pools and the migrations see only connect options.
//! Reached by a unix socket in a private directory, with peer authentication; there is no TCP port
//! and no password.

mod account;
mod binaries;
mod config;
mod embedded;
mod error;
mod guard;
mod initialise;
mod pidfile;
mod postmaster;
mod socket;
mod supervise;

pub use embedded::{EmbeddedPostgres, EmbeddedSettings};
pub use error::PostgresError;
pub use supervise::PostgresState;
