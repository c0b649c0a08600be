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

use rap_rpc::RequestKey;
use rap_runtime::command_line::{self, Build};
use rap_runtime::{Clock, exit};
use rap_types::Reason;

pub use args::Cli;

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main(build: Build) -> ExitCode {
    let mut cli = match command_line::parse::<Cli>(build) {
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
    let (clock, timeout) = (Clock::new(), cli.global.timeout);
    let started = clock.now().mono;
    let key = *cli.global.request_key.get_or_insert_with(|| RequestKey(rand::random()));
    match runtime.block_on(commands::run(cli)) {
        Ok(code) => exit::status(code),
        Err(error) if error.is::<output::Unread>() => ExitCode::SUCCESS,
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            if json {
                output::complain(&exit::document(error));
            } else {
                output::complain(&exit::line(error));
                // The control plane's own deadlines are shorter than the usual one of this side.
                let is_late = exit::reason_of(error) == Some(Reason::RequestTimeout)
                    && clock.now().mono.since(started) * 10 >= timeout * 9;
                if is_late {
                    let longer = (timeout * 2).as_secs().max(30);
                    output::complain(&format!("  wait longer with: --timeout {longer}s"));
                }
                if exit::reason_of(error).is_some_and(|reason| OPEN.contains(&reason)) {
                    output::complain(&format!(
                        "  a change is not made twice if it is run again with: --request-key {key}"
                    ));
                }
                if let Some(reason) = exit::reason_of(error) {
                    output::complain(&format!("  see: rapctl explain {reason}"));
                }
            }
            exit::status(exit::code_of(error))
        }
    }
}

/// After these the change may be done. With the same key it is not done twice.
const OPEN: &[Reason] = &[Reason::StoreOutcomeUnknown, Reason::RequestTimeout];
