//! Real data plane processes, a small agent that speaks to them, and a cluster with its authority.

#![allow(dead_code, unused_imports)]

mod agent;
mod cluster;
mod pair;
mod process;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

pub use agent::{Agent, answered, hello};
pub use cluster::{Authority, Node, crowd, mono, peer_of};
pub use pair::{Pair, link_is};
pub use process::{DataPlane, MEMBERSHIP, arguments};

/// Far beyond what any of these tests takes; only a failure waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A loopback address that no other test uses now.
pub fn loopback() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let pid = std::process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 64 | pid[2] & 0x3f, pid[3], last).into()
}

/// Asks until the answer is yes, and fails the test if it never is.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let clock = rap_runtime::Clock::new();
    let begin = clock.now().mono;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(clock.now().mono.since(begin) < PATIENCE, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether this may make namespaces and other users' processes.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
