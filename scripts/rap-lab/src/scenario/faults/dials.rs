//! How often a host dials a control plane.

use anyhow::{Context, Result};

use crate::fabric::CALL;
use crate::host::Host;

/// Counts from now on.
pub fn count(host: &Host) -> Result<()> {
    let ports = PORTS.map(|port| port.to_string()).join(", ");
    for line in [
        "nft add table inet dials".to_owned(),
        "nft add chain inet dials out { type filter hook output priority 0 ; }".to_owned(),
        "nft flush chain inet dials out".to_owned(),
        format!("nft add rule inet dials out tcp dport {{ {ports} }} tcp flags & (syn | ack) == syn counter"),
    ] {
        host.typed(&line, CALL)?;
    }
    Ok(())
}

/// First packets of connections since then; one that is sent again counts again.
pub fn counted(host: &Host) -> Result<u64> {
    let rules = host.typed("nft list chain inet dials out", CALL)?.stdout;
    let (_, packets) = rules.split_once("packets ").with_context(|| rules.clone())?;
    packets.split_whitespace().next().unwrap_or_default().parse().with_context(|| rules.clone())
}

/// The port of a control plane, and of two further replicas on its host.
pub const PORTS: [u16; 3] = [8443, 9443, 10443];
