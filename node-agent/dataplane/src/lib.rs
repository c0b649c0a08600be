//! The fast plane: links, WireGuard, forwarding table.
//!
//! Owns the process: its folder and lock, the socket its agent speaks over, the table in force and the
//! devices that obey it. Refuses to own decisions: what may be done, with whom and until when is in
//! the table; after its deadlines nothing of it is left, with or without an agent.

mod agent_socket;
mod args;
mod bounds;
mod capability;
mod check;
mod claim;
mod clear;
mod device_slot;
mod path_book;
mod ping;
mod plane;
mod run;
mod stats;
mod table;

use std::io::Write as _;
use std::process::ExitCode;

use rap_runtime::command_line::{self, Build};
use rap_runtime::{exit, last_fault};
use tokio::runtime::Builder;

use args::{Cli, Command};

/// Parses the command line, runs it, prints the error if any, and returns the exit status.
pub fn main(build: Build) -> ExitCode {
    let cli = match command_line::parse::<Cli>(build) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let json = cli.form.format().is_document();
    let result = match cli.command {
        Command::Check(settings) => check::check(&settings),
        Command::Clear(settings) => clear::clear(&settings),
        Command::Run(settings) => {
            let folder = settings.run_dir.join(&settings.membership);
            let ended = run::start(settings, Builder::new_multi_thread().worker_threads(WORKERS));
            // For the agent, which may not be there to see how this process ends.
            ended.inspect_err(|fault| drop(last_fault::write(&folder, fault)))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Standard error may be a pipe that nobody reads any more.
            let _unread = writeln!(std::io::stderr(), "{}", exit::complaint(&fault, json));
            exit::status(exit::code_of(&fault))
        }
    }
}

/// One may wait for the kernel while the other moves packets.
const WORKERS: usize = 2;
