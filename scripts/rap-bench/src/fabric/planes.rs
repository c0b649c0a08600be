//! Shipped data planes as processes, each with a small agent that speaks to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rap_wire::v1::{ForwardingTable, LinkIdentity, TableLink, TableRelay};
use tempfile::TempDir;

use super::support::Authority;
use crate::measure::Stopwatch;
pub(super) use agent::{Agent, answered};
pub(super) use cluster::{Node, crowd};

/// The agent and the tables of the data plane's own tests.
#[path = "../../../../node-agent/dataplane/tests/support/agent.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod agent;
#[path = "../../../../node-agent/dataplane/tests/support/cluster.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod cluster;

/// A data plane. Dropping it ends it.
pub(super) struct Plane {
    child: Child,
    pub(super) agent: Agent,
    _folder: TempDir,
}

impl Plane {
    /// Starts a data plane of `node` with its first table. Without `--no-tun` in `command` it makes the interface.
    pub(super) fn start(mut command: Command, node: &Node, table: ForwardingTable) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        command.args([
            "run",
            "--membership=bench",
            &format!("--run-dir={}", folder.path().display()),
            &format!("--bounds-dir={}", folder.path().display()),
            &format!("--link-listen={}:{LINK}", node.underlay),
            &format!("--wireguard-listen={}:51820", node.underlay),
        ]);
        let child = command.env("RAP_LOG", "error").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = child.with_context(|| format!("start {}", command.get_program().display()))?;
        let socket = folder.path().join("bench/dataplane.sock");
        let watch = Stopwatch::start();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("a data plane ended: {status}");
            }
            if watch.elapsed() > PATIENCE {
                child.kill()?;
                bail!("a data plane does not listen");
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let mut agent = Agent::control(&socket, "bench", 2);
        agent.apply(table);
        Ok(Self { child, agent, _folder: folder })
    }

    /// A relay that carries for `ends`.
    pub(super) fn relay(programs: &Path, authority: &Authority, node: &Node, ends: &[Node]) -> Result<Self> {
        let mut command = Command::new(programs.join("rap-dataplane"));
        command.env("RAP_DATAPLANE_NO_TUN", "true");
        Self::start(command, node, relay_table(authority, node, ends))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It fails only if the process has ended.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The table of a relay.
pub(super) fn relay_table(authority: &Authority, node: &Node, ends: &[Node]) -> ForwardingTable {
    let mut table = table(authority, node, ends);
    table.relay = Some(TableRelay { any_organization: true, ..Default::default() });
    for peer in &mut table.peers {
        peer.link = TableLink::Accept.into();
        peer.link_endpoints.clear();
        peer.wireguard_endpoints.clear();
    }
    table
}

/// The first table of a node.
pub(super) fn table(authority: &Authority, node: &Node, peers: &[Node]) -> ForwardingTable {
    let (chain, key) = authority.leaf(node.id(), 1, Duration::from_secs(3600));
    let der = |at: usize| chain.get(at).map(|der| der.to_vec()).unwrap_or_default();
    let identity = LinkIdentity {
        certificate: der(0),
        private_key: key.secret_der().to_vec(),
        cluster_ca: der(1),
        ..LinkIdentity::default()
    };
    let table = node.table(&cluster::Authority::new(), 1, peers);
    ForwardingTable { identity: Some(identity), ..table }
}

/// A node at an address.
pub(super) fn node(number: u8, underlay: Ipv4Addr) -> Node {
    Node { number, underlay: underlay.into() }
}

/// Where a node takes links.
pub(super) fn link_of(node: &Node) -> SocketAddr {
    SocketAddr::new(node.underlay, LINK)
}

/// Asks until the answer is yes.
///
/// # Errors
/// It never was.
pub(super) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if watch.elapsed() > PATIENCE {
            bail!("never: {what}");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const LINK: u16 = 7443;
