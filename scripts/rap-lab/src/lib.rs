//! Hosts on one machine: real programs in network namespaces, or on loopback addresses where there is no root.
//!
//! A lab owns what it makes (processes, namespaces, files under one folder) and removes exactly that. It is a tool of this
//! repository and is never shipped.

pub mod check;
pub mod command;
pub mod cut;
mod documents;
pub mod fabric;
pub mod folder;
pub mod guard;
pub mod host;
pub mod lab;
pub mod ledger;
pub mod mode;
pub mod network;
pub mod part;
pub mod process;
pub mod programs;
pub mod quickstart;
pub mod run_id;
pub mod scenario;
mod site;
pub mod slow;
pub mod supervise;
pub mod sweep;
pub mod systemctl;
mod topology;
pub mod unit;
pub mod view;
pub mod wait;

pub use check::{Check, Report};
pub use command::{Answer, Invocation};
pub use host::Host;
pub use lab::Lab;
pub use mode::Mode;
pub use part::Part;
pub use run_id::RunId;
pub use slow::Slowness;
pub use wait::wait_until;
