//! The slow plane: identity, verification, supervision.
//!
//! A thin shell around `rap_node::Node`: configuration, state, connections, the local socket and the
//! command line. Refuses to own decisions and packets.

mod cli;
mod commands;
mod config;
mod control;
mod dataplane;
mod driver;
mod fault;
mod interfaces;
mod local;
mod membership;
mod running;
mod status;

use std::process::ExitCode;

use clap::Parser as _;
use rap_runtime::exit;

pub use cli::Cli;

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => exit::status(code),
        Err(fault) => {
            eprintln!("{}", exit::line(&fault));
            exit::status(exit::code_of(&fault))
        }
    }
}
