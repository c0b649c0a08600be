//! The lab's program. Owns dispatch: under the name `systemctl` it is that, else the lab's command line.

mod cli;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    let outcome = if Path::new(&name).file_name().is_some_and(|name| name == "systemctl") {
        rap_lab::systemctl::run(&words.collect::<Vec<_>>())
    } else {
        cli::run()
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
