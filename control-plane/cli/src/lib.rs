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

use clap::Parser as _;
use rap_runtime::exit;

pub use args::Cli;

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let json = cli.global.output == args::Format::Json;
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

/// A command line that is none, or a call for help. Clap knows the texts and the exit status.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && asks_for_json(std::env::args_os()) {
        output::complain(&exit::usage_document(&error.to_string()));
    } else {
        // Its reader may be gone.
        let _unread = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

/// Whether `-o json` is written on a command line that does not parse.
fn asks_for_json(arguments: impl Iterator<Item = std::ffi::OsString>) -> bool {
    let mut value_follows = false;
    for argument in arguments {
        if (value_follows && argument == "json") || argument == "-ojson" || argument == "--output=json" {
            return true;
        }
        value_follows = argument == "-o" || argument == "--output";
    }
    false
}
