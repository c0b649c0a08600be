//! Simulated nodes in this process: each with an identity of its own, enrolled and connected for real, with
//! the shipped cores deciding. Only their disks are imagined: what is to be stored counts as stored.

mod board;
mod enroll;
mod member;
mod racer;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_contract::{Expectation, JoinTokenText};
use rap_runtime::TaskGroup;
use rap_trust::known_features;
use rap_types::Digest;
use tokio::sync::Semaphore;

pub use board::{Board, Seen};
use enroll::enroll;
use member::attend;
pub use racer::Racer;

/// Where and with what the nodes join.
#[derive(Debug, Clone)]
pub struct Target {
    /// The control plane.
    pub server: SocketAddr,
    /// A token with a use for every node.
    pub token: Arc<str>,
    /// SHA-256 of the control plane's TLS CA key, as the token pins it.
    pin: Digest,
}

impl Target {
    /// Reads the pin from the token.
    pub fn new(server: SocketAddr, token: &str) -> Result<Self> {
        let text = JoinTokenText::parse(token).map_err(refused)?;
        let expect = Expectation { features: known_features(true), ..Expectation::default() };
        let opened = text.open(&expect).map_err(refused)?;
        let pin = Digest::from_slice(&opened.server_trust_pin).ok().context("the token pins no server")?;
        Ok(Self { server, token: token.into(), pin })
    }
}

/// The connected nodes. Dropping it ends them.
#[derive(Debug)]
pub struct Swarm {
    /// Names by index.
    pub names: Vec<String>,
    /// What they have verified.
    pub board: Arc<Board>,
    target: Target,
    tasks: TaskGroup,
}

impl Swarm {
    /// Enrols `count` nodes, `at_once` joins in flight, and waits until each has verified a snapshot that names all
    /// the others.
    pub async fn start(target: Target, count: usize, at_once: usize) -> Result<Self> {
        let (board, tasks) = (Arc::new(Board::new()), TaskGroup::new());
        let mut swarm = Self { names: Vec::new(), board, target, tasks };
        swarm.join(count, at_once);
        swarm.know_each_other(GATHERING + PER_NODE * u32::try_from(count)?).await?;
        Ok(swarm)
    }

    /// Has `count` more nodes join, `at_once` of them in flight. Does not wait for them.
    pub fn join(&mut self, count: usize, at_once: usize) {
        let gate = Arc::new(Semaphore::new(at_once));
        let first = self.names.len();
        self.board.add(count);
        self.names.extend((first..first + count).map(name));
        for index in first..first + count {
            let (target, board, end) = (self.target.clone(), self.board.clone(), self.tasks.token());
            let gate = gate.clone();
            self.tasks.spawn("node", async move {
                let life = live(&target, index, &board, gate);
                tokio::select! {
                    () = end.cancelled() => {}
                    Err(error) = life => board.fail(index, &error),
                }
            });
        }
    }

    /// Waits until each node has verified a snapshot that names all the others.
    pub async fn know_each_other(&self, deadline: Duration) -> Result<()> {
        let others = self.names.len() - 1;
        self.board.wait(deadline, |_, seen| seen.peers == others).await
    }

    /// How long the joins took from node `first` on, from the first connection to the first verified snapshot,
    /// milliseconds.
    pub fn join_ms(&self, first: usize) -> Vec<f64> {
        self.board.look(|seen| seen[first..].iter().filter_map(|seen| seen.join_ms).collect())
    }

    /// Fails if a node refused a message.
    pub fn require_none_refused(&self) -> Result<()> {
        let refused = self.board.look(|seen| seen.iter().map(|seen| seen.refused).sum::<u64>());
        anyhow::ensure!(refused == 0, "{refused} messages were refused");
        Ok(())
    }

    /// Ends every node.
    pub async fn stop(&self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// One node from its first connection on. Returns only when it fails.
async fn live(target: &Target, index: usize, board: &Board, gate: Arc<Semaphore>) -> Result<Infallible> {
    let turn = gate.acquire_owned().await?;
    board.begin(index);
    let enrolled = enroll(target, source(index), &name(index)).await?;
    attend(enrolled, target, index, board, turn).await
}

fn name(index: usize) -> String {
    format!("sim-{index}")
}

/// Every node has an address of its own, so that limits per source see as many sources as there are nodes.
fn source(index: usize) -> IpAddr {
    let [_, high, middle, low] = u32::try_from(index + 1).unwrap_or(u32::MAX).to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low).into()
}

fn refused(reject: rap_contract::Reject) -> anyhow::Error {
    anyhow::anyhow!("{}: {}", reject.reason.code(), reject.what)
}

const GATHERING: Duration = Duration::from_secs(60);
const PER_NODE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ten_thousand_nodes_have_as_many_loopback_addresses() {
        let sources: BTreeSet<IpAddr> = (0..10_000).map(source).collect();
        assert_eq!(sources.len(), 10_000);
        assert!(sources.iter().all(IpAddr::is_loopback));
        assert!(!sources.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }
}
