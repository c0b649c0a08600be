//! An agent starts on a full disk: what is stored is used, and what is missing is fetched once there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use super::scene::{Scene, extra, leave, membership};
use super::shown::{Half, half, shown};
use super::stored_files::warned;
use crate::check::Finding;
use crate::fabric::{Node, SETTLE};

/// A node with a small disk starts without its control plane and without room, once with its stored snapshot and once without one.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let host = scene.lab.host(NAME)?;
    // The disk is mounted for this thread and what it starts, and goes with them.
    std::thread::scope(|threads| {
        let inside = threads.spawn(|| {
            let disk = Disk::under(host.folder("lib"))?;
            let node = extra(scene, NAME, &[])?;
            scene.nodes[0].wait_answer(&node)?;
            let measured = both(scene, &node, &disk);
            disk.free()?;
            scene.lab.heal(NAME, Some(scene.control.host().name()))?;
            let (effect, control) = measured?;
            node.wait_healthy()?;
            leave(scene, &node, NAME)?;
            let note = "on a full disk the stored snapshot is used, and with room again the node goes on without a start";
            Ok(shown(effect, control, note))
        });
        inside.join().map_err(|_| anyhow!("panic beside the small disk"))?
    })
}

fn both(scene: &Scene<'_>, node: &Node, disk: &Disk) -> Result<(Half, Half)> {
    let one = &scene.nodes[0];
    let before = node.status()?.1["active"]["sequence"].clone();
    ensure!(before.is_u64(), "no snapshot to begin with: {before}");
    start_without_room(scene, node, disk, || Ok(()))?;
    let (full, took) = node.wait_status("uses what is stored", SETTLE, |_, status| {
        status["active"]["sequence"] == before && status["dataplane"]["up"] == true
    })?;
    node.wait_answer(one)?;
    let refused = disk.refuses_a_write()?;
    let (roomy, after) = with_room(scene, node, disk)?;
    let effect = half(
        no_space(&full) && refused && !no_space(&roomy),
        json!({
            "stored_is_used_after_ms": took.as_millis() as u64, "said": no_space(&full), "disk_takes_nothing": refused,
            "said_with_room": no_space(&roomy), "with_room_healthy_after_ms": after.as_millis() as u64,
        }),
    );
    start_without_room(scene, node, disk, || {
        fs::remove_dir_all(membership(node).join("cache")).context("its cache")
    })?;
    let (empty, _) = node.wait_status("says that there is no room", SETTLE, |_, status| no_space(status))?;
    let heard = one.ping(node, UNHEARD)?.answered.len();
    let (_, after) = with_room(scene, node, disk)?;
    let control = half(
        empty["active"].is_null() && heard == 0,
        json!({
            "without_it": empty["active"], "answers": heard, "with_room_healthy_after_ms": after.as_millis() as u64,
        }),
    );
    Ok((effect, control))
}

/// The node starts after a power cut, out of reach of its control plane.
fn start_without_room(
    scene: &Scene<'_>,
    node: &Node,
    disk: &Disk,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<()> {
    scene.lab.cut(NAME, Some(scene.control.host().name()))?;
    node.kill_all(scene.lab)?;
    meanwhile()?;
    disk.fill()?;
    node.agent(scene.lab)?.restart()
}

/// Room and the control plane are back; the agent runs on.
fn with_room(scene: &Scene<'_>, node: &Node, disk: &Disk) -> Result<(Value, Duration)> {
    let process = node.agent(scene.lab)?.process()?;
    disk.free()?;
    scene.lab.heal(NAME, Some(scene.control.host().name()))?;
    let healthy = node.wait_healthy()?;
    scene.nodes[0].wait_answer(node)?;
    ensure!(node.agent(scene.lab)?.process()? == process, "the agent started again");
    Ok(healthy)
}

fn no_space(status: &Value) -> bool {
    warned(status, NO_SPACE) || status["degraded_reasons"].to_string().contains(NO_SPACE)
}

/// A file system in memory.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts it for this thread and what it starts.
    fn under(path: PathBuf) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("own mounts")?;
        let (none, private) = (None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).context("private mounts")?;
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=16m,mode=0700"))
            .with_context(|| path.display().to_string())?;
        Ok(Self { path })
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Result<()> {
        let room = statvfs(&self.path)?;
        let bytes = room.blocks_available() * room.fragment_size();
        fs::write(self.ballast(), vec![0; usize::try_from(bytes)?]).context("ballast")
    }

    /// Gives it back; nothing to do if there is room.
    fn free(&self) -> Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("ballast"),
            _ => Ok(()),
        }
    }

    fn refuses_a_write(&self) -> Result<bool> {
        let path = self.path.join("one-byte");
        let full = fs::write(&path, b"1").is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
        fs::remove_file(&path).context("a file without content needs no room")?;
        Ok(full)
    }
}

const NAME: &str = "full";
const NO_SPACE: &str = "state.no_space";
/// 50 ms apart.
const UNHEARD: usize = 20;
