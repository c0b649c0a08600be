//! How hosts are made. Owns the choice, not the making.

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

/// How hosts are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One network namespace per host, and an own view of /etc/rap, /var/lib/rap and /run/rap. Needs root and a TUN device.
    Namespaces,
    /// One address of 127.0.0.0/8 per host, no TUN, no cuts.
    Loopback,
}

impl Mode {
    /// Namespaces where they and TUN devices can be made, else loopback.
    pub fn possible() -> Self {
        if obstacle().is_none() { Self::Namespaces } else { Self::Loopback }
    }
}

/// Why there can be no namespaces with TUN devices here; `None` if there can.
pub fn obstacle() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root");
    }
    // Namespaces belong to threads: this one's end with it.
    let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    let allowed = std::thread::spawn(move || unshare(flags).is_ok()).join().unwrap_or(false);
    if !allowed {
        return Some("no right to make network namespaces");
    }
    let tun = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    tun.is_err().then_some("no /dev/net/tun")
}
