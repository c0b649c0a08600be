//! The command line. Owns names and help; refuses to own what commands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rap_runtime::command_line::Form;
use rap_runtime::path_text::{assumed_down, class};
use rap_types::ChannelClass;

use crate::config::Raw;

const EXAMPLES: &str = "Examples:
  rap-node-agent join --token-file node.token
  rap-node-agent status
  rap-node-agent ping db-01
  rap-node-agent snapshot verify --root product-root.pub
  rap-node-agent bundle --out support.tar --anonymize";

/// Identity, verification and supervision on a host of the fabric.
#[derive(Debug, Parser)]
#[command(name = "rap-node-agent", disable_help_subcommand = true, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Configuration file [default: /etc/rap/agent.toml]
    #[arg(long, global = true, env = "RAP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The form of answers.
    #[command(flatten)]
    pub form: Form,
    /// Options.
    #[command(flatten)]
    pub raw: Raw,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a cluster with a token; resumes a join that was interrupted
    Join(Join),
    /// Run the agent
    Run,
    /// Show how the running agent fares (exit 0 healthy, 8 degraded, 6 not running)
    Status,
    /// List the memberships of this host
    Memberships,
    /// The keys of a membership
    #[command(subcommand)]
    Key(Key),
    /// Leave the cluster: the control plane is told, everything of the membership ends and is removed
    Leave(Leave),
    /// Apply a break-glass grant, or see which hold
    #[command(subcommand)]
    BreakGlass(BreakGlass),
    /// Make the running agent start a membership
    Load,
    /// Make the running agent end a membership and its data plane, until it is loaded or the agent starts again
    Unload,
    /// Look at the verified snapshot
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Check configuration, data directory and stored state
    Check,
    /// Show the configuration
    Config(Show),
    /// List the peers of the running agent: by which way traffic to each goes, and through whom
    Peers,
    /// List the paths of the running agent: by which relays each peer is reached, since when and why
    Paths,
    /// One path
    #[command(subcommand)]
    Path(Path),
    /// Ping a peer over the overlay and over the link
    Ping(Ping),
    /// Write what helps a person who is to help: status, snapshot, floors, log, metrics, host; no secrets
    Bundle(Bundle),
}

/// `join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The token, or `-` for standard input. Others can see arguments: prefer --token-file
    #[arg(conflicts_with = "token_file", hide_possible_values = true)]
    pub token: Option<String>,
    /// File with the token
    #[arg(long, env = "RAP_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Come back as the node that this host was: asks with the identity key that is here, and a new token
    #[arg(long)]
    pub rejoin: bool,
}

/// `key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Replace the identity key, the WireGuard key, or both (without an option)
    Rotate(Rotate),
}

/// `key rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The WireGuard key
    #[arg(long)]
    pub wireguard: bool,
    /// The identity key: the next key generation, another leaf certificate
    #[arg(long)]
    pub identity: bool,
}

/// `leave`.
#[derive(Debug, Args)]
pub struct Leave {
    /// Leave this host even if no control plane can be told; an operator has to revoke the node then
    #[arg(long)]
    pub force: bool,
}

/// `break-glass`.
#[derive(Debug, Subcommand)]
pub enum BreakGlass {
    /// Verify a grant with the pins of the membership and apply it
    Apply {
        /// File with the grant
        file: PathBuf,
    },
    /// End a grant on this host; its use stays in the audit log
    Drop {
        /// Digest of the grant, or its first digits, at least 8
        digest: String,
    },
    /// Grants that were applied here
    List,
}

/// `snapshot`.
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// What the snapshot says
    Show,
    /// Verify it again from the signed head down to every chunk
    Verify(Verify),
    /// Write it to a file that `rapctl verify` checks with no network
    Export(Export),
}

/// `snapshot verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Product Root public key file: verify the whole chain from it
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// `snapshot export`.
#[derive(Debug, Args)]
pub struct Export {
    /// File to write
    pub file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// `config`.
#[derive(Debug, Args)]
pub struct Show {
    /// The values that hold, with their origins
    #[arg(long, required = true)]
    pub effective: bool,
}

/// `bundle`.
#[derive(Debug, Args)]
pub struct Bundle {
    /// Tar file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace ids, names, addresses, endpoints and keys by pseudonyms that hold within the bundle
    #[arg(long)]
    pub anonymize: bool,
}

/// `path`.
#[derive(Debug, Subcommand)]
pub enum Path {
    /// Why traffic to a peer takes the relays that it takes, and what every other path would cost
    Explain(Explain),
}

/// `path explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Name or id of the peer
    pub peer: String,
    /// Class of the traffic
    #[arg(long, default_value = "vpn", value_parser = class)]
    pub class: ChannelClass,
    /// Decide as if a relay were down, and change nothing: relay=NAME,down
    #[arg(long = "what-if", value_name = "relay=NAME,down", value_parser = assumed_down)]
    pub assumed_down: Vec<String>,
}

/// `ping`.
#[derive(Debug, Args)]
pub struct Ping {
    /// Name or id of the peer
    pub peer: String,
    /// Probes to send
    #[arg(long, short = 'c', default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub count: u32,
    /// Milliseconds between probes
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub interval: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

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

    #[test]
    fn a_flag_without_value_is_true_and_may_be_switched_off() {
        let parse = |args: &[&str]| {
            let args = ["rap-node-agent", "run"].iter().chain(args);
            Cli::try_parse_from(args).unwrap().raw
        };
        assert_eq!(parse(&["--dev", "--no-tun"]).dev, Some(true));
        assert_eq!(parse(&["--dev=false"]).dev, Some(false));
        assert_eq!(parse(&[]).no_tun, None);
        let many = parse(&["--advertise", "a:1", "--advertise", "b:2,c:3"]);
        assert_eq!(many.advertise.unwrap(), ["a:1", "b:2", "c:3"]);
    }
}
