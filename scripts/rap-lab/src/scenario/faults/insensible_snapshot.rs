//! A signed snapshot of which a part makes no sense: that part is not used and is shown, and a revocation in the same snapshot
//! takes effect.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::presented_leaf::PresentedLeaf;
use super::scene::Scene;
use super::shown::{half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{Node, SETTLE};
use crate::wait::wait_until;

/// A node whose control plane is a mock on its own host.
struct Odd {
    node: Node,
    folder: PathBuf,
    peers: Vec<PresentedLeaf>,
    own: PresentedLeaf,
}

/// Three versions of one cluster; see `rap-mock`.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let node = Node::configure_strict(scene.lab, "odd")?;
    let folder = node.host().folder("home").join("mock");
    fs::create_dir_all(&folder)?;
    let this = std::env::current_exe().context("own program")?;
    scene.lab.install("rap-mock", &this.with_file_name("rap-mock"))?;
    let seen = node.host().sees("home").join("mock").display().to_string();
    let mock = node.host().spawn("odd-mock", &Invocation::new("rap-mock").argument(&seen))?;
    let found = played(&node, folder);
    node.agent(scene.lab)?.stop()?;
    mock.stop()?;
    found
}

fn played(node: &Node, folder: PathBuf) -> Result<Finding> {
    let token = folder.join("join.token");
    let token = wait_until(SETTLE, "the mock writes a token", || Ok(fs::read(&token).ok()))?;
    node.join(&token).context("odd joins")?;
    node.run()?;
    let version = |wanted: u64| {
        node.wait_status(&format!("has version {wanted}"), SETTLE, |_, status| {
            status["active"]["sequence"] == wanted
                && status["dataplane"]["table_version"].is_u64()
                && status["dataplane"]["table_applied"] == status["dataplane"]["table_version"]
        })
        .map(|(status, _)| status)
    };
    let first = version(1)?;
    let peers = (1..=3).map(|index| PresentedLeaf::in_file(&folder.join(format!("peer-{index}.json"))));
    let odd = Odd {
        peers: peers.collect::<Result<_>>()?,
        own: PresentedLeaf::of(node)?,
        node: node.clone(),
        folder,
    };
    let before = odd.answers()?;
    let control = half(
        before == [true, true, true] && unused(&first) == json!([]) && knows_first(&first),
        json!({ "certificates_let_in": before, "unused": unused(&first) }),
    );
    odd.next()?;
    let second = version(2)?;
    let revoked = odd.answers()?;
    let address = |status: &Value| status["overlay"].clone();
    odd.next()?;
    let third = version(3)?;
    let last = odd.answers()?;
    let text = unused(&second).to_string();
    let effect = half(
        // The first peer is not used, the second is revoked, and the third is as before. A certificate counts until it is
        // revoked: that of the first one opens a connection, and no link.
        revoked == [true, false, true]
            && !knows_first(&second)
            && text.contains("snapshot.peer_invalid")
            && last == [true, false, false]
            && unused(&third).to_string().contains("assignment")
            && address(&third) == address(&first),
        json!({
            "certificates_let_in": [revoked, last],
            "unused": [unused(&second), unused(&third)],
            "overlay": [address(&first), address(&third)],
            "first_peer_is_used": knows_first(&second),
            "state": third["state"],
        }),
    );
    Ok(shown(
        effect,
        control,
        "a senseless record and a senseless own address are shown and not used; the revocations beside them take effect",
    ))
}

impl Odd {
    /// Lets the mock publish what comes next.
    fn next(&self) -> Result<()> {
        let path = self.folder.join("next");
        fs::write(&path, "").with_context(|| path.display().to_string())
    }

    /// Of which of the peers the node takes the certificate.
    fn answers(&self) -> Result<[bool; 3]> {
        let mut let_in = [false; 3];
        ensure!(self.peers.len() == let_in.len(), "three peers");
        for (peer, answer) in self.peers.iter().zip(&mut let_in) {
            *answer = peer.shown_to(&self.node, &self.node, &self.own)?.is_none();
        }
        Ok(let_in)
    }
}

fn unused(status: &Value) -> Value {
    match &status["unused_slots"] {
        Value::Null => json!([]),
        slots => slots.clone(),
    }
}

/// Whether the record of the first peer is used.
fn knows_first(status: &Value) -> bool {
    status["peers"].to_string().contains("\"peer-1\"")
}
