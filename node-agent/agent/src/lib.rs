//! The slow plane: identity, verification, supervision.
//!
//! A thin shell around `rap_node::Node`: configuration, state, connections, the local socket and the
//! command line. Refuses to own decisions and packets.
//!
//! # Tasks
//! One agent runs `local-api`, `metrics`, `watchdog` and, for each membership, `membership-end` and
//! `membership-retry`. Each membership runs these, in a task group of its own. A critical task that ends ends
//! the others of its membership, which then starts again. Every channel is bounded; a write of the driver
//! never waits. The local API writes `requests`; `persist` ends when the driver does.
//!
//! | task | life | reads | writes |
//! |---|---|---|---|
//! | driver | critical | `uplink_events` `dataplane_events` `certificates` `certificate_failure` `addresses` `resolved_names` `requests` `ping_ends` `written` | `tables` `commands` `certificate_ready` `cluster_ca` `doubts` `pause` `stale_head` `wanted_names` `writes` |
//! | persist | critical | `writes` | `written` |
//! | dataplane | critical | `tables` `commands` | `dataplane_events` |
//! | uplink | critical | `certificate_ready` `pause` `stale_head` | `uplink_events` |
//! | certificates | critical | `cluster_ca` `doubts` | `certificates` `certificate_failure` |
//! | addresses | dispensable | - | `addresses` |
//! | names | dispensable | `wanted_names` | `resolved_names` |
//! | diagnostic | on demand | - | `commands` `ping_ends` |
//! | ping | on demand | - | `commands` |
//! | leave | on demand | - | - |

// The standard macros panic when nobody reads, or the disk is full.
macro_rules! println {
    () => { ::rap_runtime::output::print(format_args!("\n")) };
    ($($text:tt)*) => { ::rap_runtime::output::print(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! print {
    ($($text:tt)*) => { ::rap_runtime::output::print(format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { ::rap_runtime::output::complain(format_args!($($text)*)) };
}

mod blocking;
mod bundle;
mod cli;
mod commands;
mod config;
mod control_plane;
mod dataplane;
mod host;
mod local;
mod membership;
mod observe;
mod requests;
mod run;
mod status;
mod supervise;

use std::process::ExitCode;

use rap_runtime::command_line::{self, Build};
use rap_runtime::{exit, output};

pub use cli::Cli;

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main(build: Build) -> ExitCode {
    let cli = match command_line::parse::<Cli>(build) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let json = cli.form.format().is_document();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => output::finish(code, json),
        Err(fault) => {
            eprintln!("{}", exit::complaint(&fault, json));
            exit::status(exit::code_of(&fault))
        }
    }
}
