//! The command line, nouns first.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rap_types::PlatformRole;

use crate::duration::parse_duration;
use crate::output::Format;

/// Operate a RAP Fabric Core installation.
///
/// Exit codes: 0 ok, 1 generic, 2 usage, 3 not found, 4 denied, 5 conflict, 6 unreachable,
/// 7 verification failed, 8 degraded, 10 timeout.
#[derive(Debug, Parser)]
#[command(name = "rapctl", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to print the answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Print no hints and no progress.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Use no colours. (The environment variable NO_COLOR works too.)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Answer yes to every question.
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Context to use instead of the current one.
    #[arg(long, global = true, env = "RAPCTL_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Contexts file [default: $XDG_CONFIG_HOME/rap/contexts.toml].
    #[arg(long, global = true, env = "RAPCTL_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Give up on the control plane after this long.
    #[arg(long, global = true, default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
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
    /// Ping from one node to another over the overlay and over their link.
    Ping(Ping),
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

#[derive(Debug, Subcommand)]
pub(crate) enum Root {
    /// Make a Product Root key: NAME.key (encrypted) and NAME.pub.
    Init {
        /// Path without extension.
        #[arg(long, value_name = "NAME")]
        out: PathBuf,
        #[command(flatten)]
        protect: Protect,
    },
    /// Sign an activation request: writes the manifest and the first owner's key beside it.
    SignActivation {
        /// The act-*.req file of `rap-control-plane init`.
        request: PathBuf,
        /// First owner, as a name or e-mail address.
        #[arg(long)]
        owner: String,
        /// Product Root key file.
        #[arg(long, value_name = "FILE", default_value = "product-root.key")]
        key: PathBuf,
        /// How long the manifest may be consumed.
        #[arg(long, default_value = "7d", value_parser = parse_duration)]
        ttl: Duration,
        #[command(flatten)]
        protect: Protect,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BreakGlass {
    /// Sign a grant offline, with the Product Root's or an exported cluster authority's key.
    Sign {
        /// Key file; give all that signed the activation if the Product Root has several.
        #[arg(long = "key-file", value_name = "FILE", required = true)]
        keys: Vec<PathBuf>,
        /// Installation id (`rapctl verify`, `rap-node-agent status --json`).
        #[arg(long, value_name = "ID")]
        installation: String,
        /// Cluster id.
        #[arg(long, value_name = "ID")]
        cluster: String,
        /// For a development installation.
        #[arg(long)]
        dev: bool,
        #[command(flatten)]
        grant: GrantTerms,
        #[command(flatten)]
        protect: Protect,
    },
    /// Have the control plane sign a grant with the cluster authority's key.
    Issue {
        /// Cluster name or id.
        #[arg(long)]
        cluster: String,
        #[command(flatten)]
        grant: GrantTerms,
    },
    /// Grants that nodes have used.
    Uses {
        /// Cluster name or id.
        #[arg(long)]
        cluster: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GrantTerms {
    /// Node id it is for (default: every node of the cluster).
    #[arg(long, value_name = "ID")]
    pub(crate) node: Option<String>,
    /// Why; shown on the nodes and in the audit log.
    #[arg(long)]
    pub(crate) reason: String,
    /// How long the grant lives, at most 24h.
    #[arg(long, default_value = "4h", value_parser = parse_duration)]
    pub(crate) ttl: Duration,
    /// Degraded mode lasts for this long from now.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "peer")]
    pub(crate) extend: Option<Duration>,
    /// Admit the peer in this JSON file.
    #[arg(long, value_name = "FILE", required_unless_present = "extend")]
    pub(crate) peer: Option<PathBuf>,
    /// Write the grant to a new file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Protect {
    /// File with the passphrase of private key files (default: ask on the terminal).
    #[arg(long, value_name = "FILE", env = "RAPCTL_PASSPHRASE_FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Write private keys unencrypted (for keys on protected media).
    #[arg(long)]
    pub(crate) no_passphrase: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Control URL, https://HOST:PORT; default: the context's.
    pub(crate) url: Option<String>,
    /// Consume this activation manifest and become the first owner.
    #[arg(long, value_name = "FILE")]
    pub(crate) activate: Option<PathBuf>,
    /// Product Root public key to check the manifest against.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: Option<PathBuf>,
    /// Key file to log in with (default: the owner key beside the manifest, or the context's).
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) protect: Protect,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make an operator's key: NAME.key (encrypted) and NAME.pub, which an owner grants a role to.
    Create {
        /// Path without extension.
        #[arg(long, value_name = "NAME")]
        out: PathBuf,
        #[command(flatten)]
        protect: Protect,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Grant {
    /// List who may operate the platform, and who might once.
    List,
    /// Show one grant.
    Show {
        /// Operator's name, digest of the grant, or fingerprint of the key.
        grant: String,
    },
    /// Let an operator's key operate the platform.
    Add {
        /// Operator, as a name or e-mail address.
        name: String,
        /// Public key file of `rapctl key create`.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// platform_owner, platform_admin or recovery.
        #[arg(long)]
        role: PlatformRole,
        /// How long; without it the grant has no end.
        #[arg(long, value_parser = parse_duration)]
        ttl: Option<Duration>,
    },
    /// Take a grant back: its sessions end, and it holds at every replica when this returned.
    Revoke {
        /// Operator's name, digest of the grant, or fingerprint of the key.
        grant: String,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Show the newest signed set of grants, by which replicas compare their floors.
    Set {
        /// Write the signed set to this file.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// List contexts.
    List,
    /// Make a context current.
    Use {
        /// Context name.
        name: String,
    },
    /// Print a context without its session, for another operator.
    Export,
    /// Add a context printed by `context export`.
    Import {
        /// File, or - for standard input.
        file: PathBuf,
    },
    /// Forget a context.
    Delete {
        /// Context name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Create a cluster with its own authority.
    Create {
        /// Name, unique in the installation.
        name: String,
        /// IPv4 overlay pool; cannot be changed later.
        #[arg(long, default_value = "100.96.0.0/16")]
        ipv4_pool: String,
        /// How long a head keeps nodes informed.
        #[arg(long, value_parser = parse_duration)]
        fresh_for: Option<Duration>,
        /// How often an idle head is signed again.
        #[arg(long, value_parser = parse_duration)]
        refresh_every: Option<Duration>,
        /// How long nodes work on without contact.
        #[arg(long, value_parser = parse_duration)]
        degraded_for: Option<Duration>,
        /// Lifetime of node certificates.
        #[arg(long, value_parser = parse_duration)]
        leaf_lifetime: Option<Duration>,
        /// Use this authority key file instead of a key that the control plane makes.
        #[arg(long, value_name = "FILE")]
        import_key: Option<PathBuf>,
        #[command(flatten)]
        protect: Protect,
    },
    /// List clusters.
    List,
    /// Show a cluster and its authority fingerprint.
    Show {
        /// Name or id.
        cluster: String,
    },
    /// Show how long memberships and keys last; with options, change it.
    Policy {
        /// Name or id.
        cluster: String,
        /// Absence after which ephemeral nodes are removed.
        #[arg(long, value_parser = parse_duration)]
        ephemeral_after: Option<Duration>,
        /// Age at which nodes replace their WireGuard key; 0s = never.
        #[arg(long, value_parser = parse_duration)]
        wireguard_key_max_age: Option<Duration>,
        /// Age at which nodes replace their identity key; 0s = never.
        #[arg(long, value_parser = parse_duration)]
        identity_key_max_age: Option<Duration>,
        /// Whether an approved key that a gone node had gets that node's id again.
        #[arg(long)]
        keep_ids: Option<bool>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Authority {
    /// Make a cluster authority key on this machine, to import it later.
    Key {
        /// File to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// For `rap-control-plane init --import-installation-key` instead of a cluster.
        #[arg(long)]
        installation: bool,
        #[command(flatten)]
        protect: Protect,
    },
    /// List a cluster's authority keys and their states.
    List {
        /// Cluster.
        #[arg(long)]
        cluster: String,
    },
    /// Make or import the key of the next rotation, without using it yet.
    Prepare(NextKey),
    /// Replace the key: the prepared one, or a new one, speaks for the cluster from now on.
    Rotate(NextKey),
    /// Show which nodes keep which authority record.
    Confirmations {
        /// Cluster.
        #[arg(long)]
        cluster: String,
    },
    /// Retire a replaced key, once every node seen within a day keeps the newer record.
    Taint {
        #[command(flatten)]
        which: WhichKey,
        /// Do not wait for nodes that have not confirmed.
        #[arg(long)]
        force: bool,
    },
    /// Erase a tainted key: join tokens that it signed end.
    Revoke(WhichKey),
    /// Replace a lost or stolen key by the word of the installation authority; revokes every earlier key.
    Recover(NextKey),
}

#[derive(Debug, Args)]
pub(crate) struct NextKey {
    /// Cluster.
    #[arg(long)]
    pub(crate) cluster: String,
    /// Use this key file instead of a key that the control plane makes.
    #[arg(long, value_name = "FILE")]
    pub(crate) import_key: Option<PathBuf>,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) protect: Protect,
}

#[derive(Debug, Args)]
pub(crate) struct WhichKey {
    /// Cluster.
    #[arg(long)]
    pub(crate) cluster: String,
    /// Place of its record [default: the oldest to which the step applies].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) record: u64,
    /// Why, for the audit log.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Create a join token.
    Create {
        /// Cluster to join.
        #[arg(long)]
        cluster: String,
        /// Role of the nodes it admits; repeat for more.
        #[arg(long = "role", default_value = "core")]
        roles: Vec<String>,
        /// How many nodes may join.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        uses: u32,
        /// How long it is valid.
        #[arg(long, default_value = "1h", value_parser = parse_duration)]
        ttl: Duration,
        /// Let the token itself approve.
        #[arg(long)]
        auto_approve: bool,
        /// Label of the nodes it admits; repeat for more.
        #[arg(long = "tags", value_delimiter = ',')]
        tags: Vec<String>,
        /// The nodes it admits are removed after an absence (see `cluster policy`).
        #[arg(long)]
        ephemeral: bool,
        /// Write the token to this file (0600) instead of standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List tokens.
    List {
        /// Cluster.
        #[arg(long)]
        cluster: String,
    },
    /// Revoke a token: no new request appears after this returned.
    Revoke {
        /// Token id.
        token: String,
        /// Also evict every node it admitted, and deny those that wait.
        #[arg(long)]
        with_nodes: bool,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List nodes, or requests that wait for approval.
    List {
        /// Cluster.
        #[arg(long)]
        cluster: String,
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
        /// Cluster.
        #[arg(long)]
        cluster: String,
    },
    /// Approve join requests.
    Approve {
        #[command(flatten)]
        decide: Decide,
        /// A host whose key a gone node had gets that node's id and address again.
        #[arg(long)]
        keep_id: bool,
    },
    /// Throw a node out: links close, its certificate is refused, no other is issued.
    Revoke(Revoke),
    /// Show the signed chain of revocations, verified here.
    Revocations {
        /// Cluster.
        #[arg(long)]
        cluster: String,
    },
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
        /// Cluster.
        #[arg(long)]
        cluster: String,
        /// Replace the roles; repeat for more.
        #[arg(long = "role")]
        roles: Option<Vec<String>>,
        /// Replace the tags.
        #[arg(long = "tags", value_delimiter = ',', conflicts_with = "clear_tags")]
        tags: Option<Vec<String>>,
        /// Remove all tags.
        #[arg(long)]
        clear_tags: bool,
        /// Replace the region.
        #[arg(long)]
        region: Option<String>,
    },
    /// Write a node's snapshot with its whole chain to a file for `rapctl verify`.
    Export {
        /// Node name or id.
        node: String,
        /// Cluster.
        #[arg(long)]
        cluster: String,
        /// File to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Node name or id; one that is gone already goes by its id.
    pub(crate) node: String,
    /// Cluster.
    #[arg(long)]
    pub(crate) cluster: String,
    /// The key never returns (default).
    #[arg(long, conflicts_with = "evict")]
    pub(crate) ban: bool,
    /// The host may ask to join again; an operator decides.
    #[arg(long)]
    pub(crate) evict: bool,
    /// Why, for the signed record and the audit log.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// Request ids as printed by `node list --pending`.
    #[arg(required_unless_present = "all_pending", conflicts_with = "all_pending")]
    pub(crate) requests: Vec<String>,
    /// Every request that waits; shows fingerprints and asks.
    #[arg(long)]
    pub(crate) all_pending: bool,
    /// Cluster.
    #[arg(long)]
    pub(crate) cluster: String,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// Node that pings, name or id.
    pub(crate) from: String,
    /// Node that answers, name or id.
    pub(crate) to: String,
    /// Cluster (default: the only one).
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// How many.
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) count: u32,
    /// Time between two.
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    pub(crate) interval: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries, the newest last.
    List(AuditList),
    /// Check the newest checkpoint, that it continues the last one seen, and the newest entries under it.
    Verify(AuditVerify),
    /// Write entries, checkpoints and the chain from the Product Root to a file.
    Export(AuditExport),
    /// Begin a new generation after the log stopped because history was lost (owners only).
    Restart {
        /// Why; every auditor will read it.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AuditList {
    /// Only entries of this cluster, name or id.
    #[arg(long)]
    pub(crate) cluster: Option<String>,
    /// Only entries by this actor, for example operator:ann@example.com.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only this action, for example node.approve.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only entries of this last time, for example 24h.
    #[arg(long, value_parser = parse_duration)]
    pub(crate) since: Option<Duration>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// Check this export with no network; needs --root-key.
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub(crate) file: Option<PathBuf>,
    /// Product Root public key file: where trust begins.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_key: Option<PathBuf>,
    /// Accept a development installation's signatures in a file.
    #[arg(long)]
    pub(crate) dev: bool,
    /// How many of the newest entries are proved.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct AuditExport {
    /// File to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Export of `rap-node-agent snapshot export` or `rapctl node export`.
    pub(crate) export: PathBuf,
    /// Product Root public key file.
    #[arg(long, value_name = "FILE")]
    pub(crate) root: PathBuf,
    /// Accept a development installation's signatures.
    #[arg(long)]
    pub(crate) dev: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Reason code, for example token.expired; none lists all.
    pub(crate) code: Option<String>,
}
