//! A control plane of one cluster with one node. It signs what no sound control plane would sign.
//!
//! `rap-mock FOLDER` writes a join token and the certificates of three peers to FOLDER. It certifies the node that joins. It
//! publishes the first version to it, and the next version each time a file `next` appears in FOLDER. It ends with SIGTERM or
//! when FOLDER is gone.
//!
//! | version | says |
//! |---|---|
//! | 1 | three peers that make sense |
//! | 2 | the first peer has an overlay address outside of the cluster's pool; the second peer is revoked |
//! | 3 | the node's own overlay address is outside of every pool; the third peer is revoked |
//!
//! Owns the order of versions. The answers and the signatures are those of the agent's own tests.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rap_types::HeadOrder;
use rap_wire::v1;
use v1::chunk::Body;

use fake::control::Control;
use fake::publish::{adopt_keys, publish_contents, token, update};
use peers::Peer;
use support::{Contents, World};

#[allow(dead_code, clippy::unwrap_used, reason = "shared with tests, which use all of it")]
mod fake;
mod peers;
#[allow(clippy::unwrap_used, reason = "shared with tests")]
#[path = "../../../node-agent/trust/tests/support/mod.rs"]
mod support;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: rap-mock FOLDER")?;
    let folder = Path::new(&folder);
    let (running, mut heard) = Control::start(World::default()).await;
    let control = &running.control;
    control.state.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.approved = true;
    let peers: Vec<Peer> = (1..=3).map(|index| Peer::made(control, index)).collect();
    for peer in &peers {
        put(&folder.join(format!("{}.json", peer.record.name)), peer.kept.to_string().as_bytes())?;
    }
    put(&folder.join("join.token"), token(control).text().as_bytes())?;
    // What the node says is not needed: without a reader its stream would stand.
    let listener = async { while heard.recv().await.is_some() {} };
    tokio::select! {
        done = publish_in_turn(control, &peers, folder) => done,
        () = listener => Ok(()),
    }
}

async fn publish_in_turn(control: &Control, peers: &[Peer], folder: &Path) -> Result<()> {
    let mut pause = tokio::time::interval(POLL);
    while control.state.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.joins.is_empty() {
        pause.tick().await;
    }
    adopt_keys(control);
    for version in 1..=3 {
        let contents = contents(control, peers, version)?;
        let published = publish_contents(control, HeadOrder::new(1, version, 0), contents, FRESH_FOR);
        control.say(update(&published));
        println!("version {version}");
        while std::fs::remove_file(folder.join("next")).is_err() {
            if !folder.is_dir() {
                return Ok(());
            }
            pause.tick().await;
        }
    }
    Ok(())
}

/// What the node is told. See the table of the module.
fn contents(control: &Control, peers: &[Peer], version: u64) -> Result<Contents> {
    let mut world = control.world.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let cluster_ca = world.cluster_ca.clone();
    if version == 3 {
        world.pool.0 = "8.8.8";
    }
    let mut contents = world.contents(0);
    if version == 3 {
        let policy = v1::PolicyChunk { overlay_ipv4_pool: POOL.into(), ..world.policy() };
        contents.put(rap_contract::POLICY_SLOT, Some(Body::Policy(policy)));
    }
    for peer in peers {
        contents.add_peer(peer.record.clone());
    }
    if version > 1 {
        contents.add_peer(v1::PeerRecord { overlay_ipv4: "8.8.8.8".into(), ..peers[0].record.clone() });
        let gone: &[u8] = if version == 2 { &[2] } else { &[2, 3] };
        contents.revoke(&cluster_ca, gone);
    }
    Ok(contents)
}

/// Writes a file that is whole as soon as it is there.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).with_context(|| part.display().to_string())?;
    std::fs::rename(&part, path).with_context(|| path.display().to_string())
}

const FRESH_FOR: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);
/// IPv4 pool of the cluster.
const POOL: &str = "100.96.0.0/16";
