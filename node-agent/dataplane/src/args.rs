//! The command line and its environment. Secrets have no place here: they come over the socket.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use rap_runtime::command_line::Form;
use rap_runtime::telemetry::LogFormat;

/// Move the packets of one membership, as its agent says.
///
/// The agent connects to DIR/NAME/dataplane.sock and sends a forwarding table. The data plane outlives
/// the agent and closes by itself what the table's deadlines end. Needs CAP_NET_ADMIN for the overlay
/// interface; works without one, then only links and pings are carried.
#[derive(Debug, Parser)]
#[command(
    name = "rap-dataplane",
    max_term_width = 100,
    after_help = "Example: rap-dataplane check --membership default\nManual: docs/operate/services.md"
)]
pub struct Cli {
    /// The form of errors.
    #[command(flatten)]
    pub form: Form,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM, SIGINT or the agent's stop.
    Run(Settings),
    /// Remove what outlives the data plane on the host: unreachable routes and packet filter. For a membership that left.
    Clear(Clear),
    /// Say whether `run` with the same settings would work here, and change nothing.
    Check(Settings),
}

/// `clear`.
#[derive(Debug, Clone, Args)]
pub struct Clear {
    /// Membership that is cleared.
    #[arg(long, env = "RAP_DATAPLANE_MEMBERSHIP", value_name = "NAME", value_parser = membership)]
    pub membership: String,
    /// Folder of run-time files.
    #[arg(long, env = "RAP_DATAPLANE_RUN_DIR", value_name = "DIR", default_value = "/run/rap")]
    pub run_dir: PathBuf,
}

/// Settings of one data plane.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Membership that is served.
    #[arg(long, env = "RAP_DATAPLANE_MEMBERSHIP", value_name = "NAME", value_parser = membership)]
    pub membership: String,
    /// Folder of run-time files; NAME/dataplane.sock and NAME/dataplane.lock are made in it.
    #[arg(long, env = "RAP_DATAPLANE_RUN_DIR", value_name = "DIR", default_value = "/run/rap")]
    pub run_dir: PathBuf,
    /// Folder of NAME.env, which says what addresses the membership may use. Written by `join`; the agent's unit cannot.
    #[arg(long, env = "RAP_DATAPLANE_BOUNDS_DIR", value_name = "DIR", default_value = "/etc/rap/dataplane")]
    pub bounds_dir: PathBuf,
    /// Where links are accepted (TCP).
    #[arg(long, env = "RAP_DATAPLANE_LINK_LISTEN", value_name = "ADDR:PORT", default_value = "[::]:7443")]
    pub link_listen: SocketAddr,
    /// Where WireGuard datagrams come and go (UDP).
    #[arg(
        long,
        env = "RAP_DATAPLANE_WIREGUARD_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "[::]:51820"
    )]
    pub wireguard_listen: SocketAddr,
    /// Name of the overlay interface.
    #[arg(
        long,
        env = "RAP_DATAPLANE_INTERFACE",
        value_name = "NAME",
        default_value = "rap0",
        value_parser = interface
    )]
    pub interface: String,
    /// Make no overlay interface even if that is possible.
    #[arg(long, env = "RAP_DATAPLANE_NO_TUN", value_parser = BoolishValueParser::new())]
    pub no_tun: bool,
    /// Most data of other nodes that waits here to be sent on, in MiB.
    #[arg(
        long,
        env = "RAP_DATAPLANE_QUEUED_MAX",
        value_name = "MIB",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=4096)
    )]
    pub queued_max: u16,
    /// Format of log lines on standard error: text or json. RAP_LOG sets the filter.
    #[arg(long, env = "RAP_DATAPLANE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// End if no table was applied this many seconds after the start. Without it: wait for ever.
    #[arg(long, env = "RAP_DATAPLANE_TABLE_TIMEOUT", value_name = "SECONDS")]
    pub table_timeout: Option<u32>,
}

/// The name becomes the name of a folder.
fn membership(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let fits = (1..=63).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-');
    if fits { Ok(text.to_owned()) } else { Err("1 to 63 of a-z, 0-9, - and _, not - first".to_owned()) }
}

/// What the kernel takes as a name, without surprises in shells.
fn interface(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = (1..=15).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-');
    if fits { Ok(text.to_owned()) } else { Err("1 to 15 letters, digits, - and _, not - first".to_owned()) }
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
        assert_eq!(rap_runtime::reference::check(page.as_ref(), Cli::command()), Ok(()));
    }

    #[test]
    fn the_total_that_waits_is_bounded_and_never_nothing() {
        let of = |given: &[&str]| {
            let words = ["rap-dataplane", "run", "--membership", "m"].iter().chain(given);
            Cli::try_parse_from(words).map(|cli| match cli.command {
                Command::Run(settings) => settings.queued_max,
                Command::Clear(_) | Command::Check(_) => 0,
            })
        };
        assert_eq!(of(&[]).ok(), Some(16));
        assert_eq!(of(&["--queued-max", "64"]).ok(), Some(64));
        for wrong in ["0", "4097", "-1", "x", ""] {
            assert!(of(&["--queued-max", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "../x", "-a", "A", &"x".repeat(64)] {
            assert!(membership(name).is_err(), "{name:?}");
        }
        assert_eq!(membership("prod-1_a").as_deref(), Ok("prod-1_a"));
        for name in ["", "a/b", "a b", "%d", "sixteen-letters-", "-x"] {
            assert!(interface(name).is_err(), "{name:?}");
        }
        assert_eq!(interface("rap0").as_deref(), Ok("rap0"));
    }
}
