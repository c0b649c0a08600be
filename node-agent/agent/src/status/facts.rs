//! Facts of a membership that do not change while it runs.
//!
//! Owns their fields in the status document. Refuses to read state: it is given an open membership.

use serde_json::{Map, Value, json};

use crate::membership::Membership;

/// Facts that do not change while a membership runs.
#[derive(Debug, Clone, Default)]
pub struct StatusFacts {
    /// Constant part of the document.
    pub(super) fields: Map<String, Value>,
    pub(super) control_urls: Vec<String>,
    pub(super) workload_supervision: bool,
}

impl StatusFacts {
    /// Reads the facts of a membership.
    pub fn of(
        membership: &Membership,
        boot_id: &str,
        workload_supervision: bool,
        listed: &Map<String, Value>,
    ) -> Self {
        let contract = &membership.bootstrap.contract;
        let fields = json!({
            "membership": membership.dir.name(),
            "installation": membership.identity.installation_id,
            "cluster": membership.identity.cluster_id,
            "cluster_name": contract.cluster_name,
            "node_id": membership.node,
            "node_name": contract.node_name,
            "node_fingerprint": membership.signer.id(),
            "identity_status": membership.identity.identity_status,
            "roles": contract.roles,
            "dev": membership.identity.dev,
            "agent_version": env!("CARGO_PKG_VERSION"),
            "agent_pid": std::process::id(),
            "boot_id": boot_id,
        });
        let Value::Object(mut fields) = fields else { unreachable!("an object") };
        for key in ["place", "interface", "listen_link", "listen_wireguard", "pools"] {
            fields.insert(key.to_owned(), listed.get(key).cloned().unwrap_or_default());
        }
        Self { fields, control_urls: membership.identity.control_urls.clone(), workload_supervision }
    }
}
