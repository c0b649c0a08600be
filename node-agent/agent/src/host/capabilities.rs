//! What this host can do without trying.
//!
//! Owns the words told to the control plane.

use rap_types::Capability;

use crate::config::Config;

/// Facts about this host that the agent can tell without trying.
pub fn capabilities(config: &Config) -> Vec<String> {
    let mut capabilities = vec![Capability::RouteMesh];
    if !config.listen_link.ip().is_loopback() {
        capabilities.push(Capability::AcceptNodeIngress);
    }
    capabilities.iter().map(ToString::to_string).collect()
}
