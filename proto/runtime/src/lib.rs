//! Process conventions every program of the product keeps.
//!
//! Owns what a core must not touch: clocks, tasks, files, secrets, logs, metrics, the service manager,
//! exit codes and the TLS configurations. Refuses to own gRPC and HTTP (rap-rpc), and decisions: which peers exist, what a
//! configuration says and when to reconnect belong to the crates that use it.

pub mod clock;
#[cfg(feature = "command_line")]
pub mod command_line;
pub mod descriptors;
pub mod exit;
pub mod files;
pub mod handshake_budget;
pub mod last_fault;
pub mod metrics;
pub mod output;
#[cfg(feature = "command_line")]
pub mod path_text;
pub mod probe_series;
#[cfg(feature = "reference")]
pub mod reference;
pub mod secrets;
pub mod seldom;
pub mod service;
pub mod settings_layers;
pub mod source_budget;
pub mod tasks;
pub mod telemetry;
pub mod tls;

pub use clock::{Clock, boot_id};
pub use exit::Fault;
pub use secrets::Secret;
pub use service::Watchdog;
pub use tasks::{TaskGroup, shutdown_signal};
