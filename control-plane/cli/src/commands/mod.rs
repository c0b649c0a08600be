//! One file per noun.

mod adoption;
mod audit;
mod authority;
mod break_glass;
mod cluster;
mod cluster_view;
mod context;
mod explain;
mod grant;
mod key;
mod login;
mod mesh;
mod node;
mod node_removal;
mod node_view;
mod path;
mod ping;
mod plan_diff;
mod policy;
mod root;
mod rotate_ca;
mod status;
mod token;
mod verify;

use clap::CommandFactory as _;
use rap_types::ExitCode;

use crate::args::{Cli, Command};
use crate::output::print;

/// Runs one command; the exit code is that of the answer.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Root(command) => root::run(global, command)?,
        Command::Login(command) => login::login(global, command).await?,
        Command::Logout => login::logout(global).await?,
        Command::Context(command) => context::run(global, command)?,
        Command::Status => status::run(global).await?,
        Command::Key(command) => key::run(global, command)?,
        Command::Grant(command) => grant::run(global, command).await?,
        Command::Cluster(command) => cluster::run(global, command).await?,
        Command::Authority(command) => authority::run(global, command).await?,
        Command::Token(command) => token::run(global, command).await?,
        Command::Node(command) => node::run(global, command).await?,
        Command::Audit(command) => audit::run(global, command).await?,
        Command::BreakGlass(command) => break_glass::run(global, command).await?,
        Command::Path(command) => path::run(global, command).await?,
        Command::Ping(command) => return ping::run(global, command).await,
        Command::Mesh(command) => return mesh::run(global, command).await,
        Command::Verify(command) => verify::run(global, &command)?,
        Command::Explain(command) => explain::run(global, &command)?,
        Command::Completions { shell } => {
            // Into memory first: the generator panics when it cannot write.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rapctl", &mut text);
            print(&String::from_utf8_lossy(&text))?;
        }
        Command::Man => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(ExitCode::Ok)
}
