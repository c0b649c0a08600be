//! The command line, nouns first: one file per noun, named as its file in `commands`. Owns words, defaults and help;
//! what a command does is in `commands`.

mod audit;
mod authority;
mod break_glass;
mod cluster;
mod context;
mod dry_run;
mod explain;
mod grant;
mod key;
mod login;
mod mesh;
mod node;
mod path;
mod ping;
mod protect;
mod root;
mod token;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use rap_rpc::RequestKey;
use rap_runtime::command_line::{Form, Format};
use rap_types::Role;

use crate::duration::parse_some_duration;

pub(crate) use audit::{Audit, AuditExport, AuditList, AuditVerify};
pub(crate) use authority::{Authority, NextKey, WhichKey};
pub(crate) use break_glass::{BreakGlass, BreakGlassTerms};
pub(crate) use cluster::{Cluster, ClusterCreate, ClusterPolicy};
pub(crate) use context::Context;
pub(crate) use dry_run::DryRun;
pub(crate) use explain::Explain;
pub(crate) use grant::Grant;
pub(crate) use key::Key;
pub(crate) use login::Login;
pub(crate) use mesh::Mesh;
pub(crate) use node::{Decide, Node, Revoke};
pub(crate) use path::Path;
pub(crate) use ping::Ping;
pub(crate) use protect::Protect;
pub(crate) use root::Root;
pub(crate) use token::Token;
pub(crate) use verify::Verify;

/// The roles of nodes, for the help and for what was mistyped.
fn role_words() -> PossibleValuesParser {
    PossibleValuesParser::new(Role::ALL.iter().map(|role| role.as_str()))
}

const EXAMPLES: &str = "Examples:
  rapctl login https://cp.example.com:8443 --activate activation.manifest --root-key product-root.pub
  rapctl cluster create production
  rapctl token create --uses 3 --ttl 1h --out nodes.token
  rapctl node approve --all-pending
  rapctl node list -o wide
  rapctl ping web-01 db-01
  rapctl explain node.revoked
Each command has its own --help; all of them stand in docs/operate/reference-cli.md.";

/// Operate a RAP Fabric Core installation.
///
/// Exit codes: 0 ok, 1 generic, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unreachable,
/// 7 verification failed, 8 degraded, 10 timeout.
#[derive(Debug, Parser)]
#[command(name = "rapctl", max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Print no hints and no progress.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Answer yes to every question.
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Context to use instead of the current one.
    #[arg(long, global = true, env = "RAPCTL_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Cluster that the command is about, name or id [default: the context's, or the only one].
    #[arg(long, global = true, env = "RAPCTL_CLUSTER", value_name = "CLUSTER")]
    pub(crate) cluster: Option<String>,
    /// Contexts file [default: $XDG_CONFIG_HOME/rap/contexts.toml].
    #[arg(long, global = true, env = "RAPCTL_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Key of a call that was made before, 32 hexadecimal digits: what was done is not done twice [default: a new one].
    #[arg(long, global = true, value_name = "KEY")]
    pub(crate) request_key: Option<RequestKey>,
    /// Give up on the control plane after this long.
    #[arg(long, global = true, default_value = "30s", value_parser = parse_some_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    form: Form,
}

impl Global {
    /// How to print the answer.
    pub(crate) fn format(&self) -> Format {
        self.form.format()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Product Root keys (offline machine).
    #[command(subcommand)]
    Root(Root),
    /// Log in to a control plane.
    Login(Login),
    /// End the session.
    Logout,
    /// Contexts: which control plane commands go to.
    #[command(subcommand)]
    Context(Context),
    /// Overview of installation, clusters and nodes.
    ///
    /// VERSION is the newest version of a cluster's configuration, CONVERGED the newest one that every connected node
    /// holds. They differ for moments after a change; if they stay different, `rapctl node list` shows who lags behind.
    Status,
    /// Keys of operators (on the operator's own machine).
    #[command(subcommand)]
    Key(Key),
    /// Grants: who may operate the platform.
    #[command(subcommand)]
    Grant(Grant),
    /// Clusters.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Authority keys of clusters: rotation and recovery.
    #[command(subcommand)]
    Authority(Authority),
    /// Join tokens.
    #[command(subcommand)]
    Token(Token),
    /// Nodes and join requests.
    #[command(subcommand)]
    Node(Node),
    /// The audit log: what was done, by whom, and the proof of it.
    #[command(subcommand)]
    Audit(Audit),
    /// Break-glass grants: short exceptions that nodes verify with no network.
    #[command(subcommand)]
    BreakGlass(BreakGlass),
    /// The path from one node to another.
    #[command(subcommand)]
    Path(Path),
    /// Ping from one node to another over the overlay and over their link.
    Ping(Ping),
    /// Show which links between nodes are down, from what the nodes report (exit 8 if one is).
    Mesh(Mesh),
    /// Check an exported snapshot with no network.
    Verify(Verify),
    /// Explain a reason code.
    Explain(Explain),
    /// Print a shell completion script.
    Completions {
        /// Shell to print for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_page_of_commands_is_what_the_command_line_says() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operate/reference-cli.md");
        assert_eq!(
            rap_runtime::reference::check(page.as_ref(), rap_runtime::command_line::command::<Cli>()),
            Ok(())
        );
    }
}
