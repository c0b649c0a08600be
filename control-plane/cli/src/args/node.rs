//! `rapctl node`: nodes and join requests.

use std::path::PathBuf;

use clap::builder::{StyledStr, UnknownArgumentValueParser};
use clap::{Args, Subcommand};

use super::{DryRun, role_words};

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List nodes, or requests that wait for approval.
    List {
        /// Show join requests that wait.
        #[arg(long)]
        pending: bool,
        /// Show nodes that are gone too (revoked, left).
        #[arg(long, conflicts_with = "pending")]
        all: bool,
    },
    /// Show one node.
    Show {
        /// Node name or id.
        node: String,
    },
    /// Approve join requests.
    Approve {
        #[command(flatten)]
        decide: Decide,
        /// A host whose key a gone node had gets that node's id and address again.
        #[arg(long)]
        keep_id: bool,
    },
    /// Throw a node out: links close, its certificate is refused, no other is issued; its key never returns (see --evict).
    Revoke(Revoke),
    /// Show the signed chain of revocations, verified here.
    Revocations,
    /// Deny join requests.
    Deny {
        #[command(flatten)]
        decide: Decide,
        /// Why, shown to the applicant.
        #[arg(long)]
        reason: String,
    },
    /// Change roles, tags or region of a node.
    Update {
        /// Node name or id.
        node: String,
        /// Replace all roles by this one; repeat it for each role that the node is to have.
        #[arg(long = "role", value_parser = role_words(), conflicts_with = "clear_roles")]
        roles: Option<Vec<String>>,
        /// Remove all roles: the node relays for nobody and knows only the nodes of its own scope.
        #[arg(long)]
        clear_roles: bool,
        /// Replace all tags, comma-separated.
        #[arg(long = "tags", value_delimiter = ',', conflicts_with = "clear_tags")]
        tags: Option<Vec<String>>,
        /// Remove all tags.
        #[arg(long)]
        clear_tags: bool,
        /// Replace the region.
        #[arg(long)]
        region: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        mistaken: Mistaken,
    },
    /// Take a node as it is, though its identity was in two places or it went back to an older state.
    Accept {
        /// Node name or id.
        node: String,
    },
    /// Write a node's snapshot with its whole chain to a file for `rapctl verify`.
    Export {
        /// Node name or id.
        node: String,
        /// File to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
}

/// Options that do not exist and that operators look for. Each is refused with the option that does it.
#[derive(Debug, Args)]
pub(crate) struct Mistaken {
    #[arg(long, hide = true, value_parser = other_option("--role", "all roles: repeat --role for each of them"))]
    add_role: Option<String>,
    #[arg(long, hide = true, value_parser = other_option("--role", "all roles: repeat --role for each that stays"))]
    remove_role: Option<String>,
    #[arg(long = "roles", hide = true, value_parser = other_option("--role", "all roles: repeat --role for each of them"))]
    plural: Option<String>,
    #[arg(long, hide = true, value_parser = other_option("--tags", "all tags: name every one, comma-separated"))]
    add_tag: Option<String>,
    #[arg(long, hide = true, value_parser = other_option("--tags", "all tags: name every one that stays"))]
    remove_tag: Option<String>,
}

/// Refuses every value and suggests `option`, which replaces what `what` says.
fn other_option(option: &'static str, what: &str) -> UnknownArgumentValueParser {
    let replaces = format!("{option} replaces {what}; `rapctl node show NODE` lists those of now");
    UnknownArgumentValueParser::suggest_arg(option).and_suggest(StyledStr::from(replaces))
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Node name or id; one that is gone already goes by its id.
    pub(crate) node: String,
    /// The key never returns to this cluster. This is the default; `--evict` lets the host ask again.
    #[arg(long, conflicts_with = "evict")]
    pub(crate) ban: bool,
    /// The host may ask to join again; an operator decides.
    #[arg(long)]
    pub(crate) evict: bool,
    /// Why, for the signed record and the audit log.
    #[arg(long)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Requests as printed by `node list --pending`: host name, id, or the beginning of one.
    #[arg(required_unless_present = "all_pending", conflicts_with = "all_pending")]
    pub(crate) requests: Vec<String>,
    /// Every request that waits; shows fingerprints and asks.
    #[arg(long)]
    pub(crate) all_pending: bool,
}
