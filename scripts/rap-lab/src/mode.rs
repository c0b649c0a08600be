//! How hosts are made. Owns the choice, not the making.

use serde::{Deserialize, Serialize};

/// How hosts are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One network namespace per host, and an own view of /etc/rap, /var/lib/rap and /run/rap. Needs root.
    Namespaces,
    /// One address of 127.0.0.0/8 per host, no TUN, no cuts.
    Loopback,
}

impl Mode {
    /// Namespaces for root, else loopback.
    pub fn possible() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Namespaces } else { Self::Loopback }
    }
}
