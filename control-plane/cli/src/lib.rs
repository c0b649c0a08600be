//! `rapctl`: everything an operator types. Root and verify work offline; everything else speaks gRPC.
//!
//! Refuses to own decisions: it shows what the control plane says and checks what can be checked here.

mod args;
mod client;
mod commands;
mod contexts;
mod duration;
mod files;
mod key_store;
mod output;

use std::process::ExitCode;

use clap::Parser as _;
use rap_runtime::exit;

pub use args::Cli;

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => exit::status(code),
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            eprintln!("{}", exit::line(error));
            if let Some(reason) = exit::reason_of(error) {
                eprintln!("  see: rapctl explain {reason}");
            }
            exit::status(exit::code_of(error))
        }
    }
}
