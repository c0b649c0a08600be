//! The control plane: decides, signs, distributes.

use std::process::ExitCode;

use clap::Parser as _;
use rap_control_plane::cli::{Cli, run};

#[tokio::main]
async fn main() -> ExitCode {
    run(Cli::parse()).await
}
