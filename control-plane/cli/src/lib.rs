//! `rapctl`: everything an operator types. Root and verify work offline; everything else speaks gRPC.
//!
//! Refuses to own decisions: it shows what the control plane says and checks what can be checked here.

mod args;
mod audit_log;
mod client;
mod commands;
mod contexts;
mod duration;
mod files;
mod key_store;
mod output;

use std::process::ExitCode;

use rap_runtime::command_line::{self, Build};
use rap_runtime::exit;

pub use args::Cli;

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main(build: Build) -> ExitCode {
    let cli = match command_line::parse::<Cli>(build) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let json = cli.global.format().is_document();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => exit::status(code),
        Err(error) if error.is::<output::Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            if json {
                output::complain(&exit::document(error));
            } else {
                output::complain(&exit::line(error));
                if let Some(reason) = exit::reason_of(error) {
                    output::complain(&format!("  see: rapctl explain {reason}"));
                }
            }
            exit::status(exit::code_of(error))
        }
    }
}
