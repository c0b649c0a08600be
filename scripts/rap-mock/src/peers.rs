//! Peers of the node: a record, and the certificate with its key as a node keeps them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rap_runtime::tls::NodeIdentity;
use rap_types::{KeyId, NodeId, Wall};
use rap_wire::v1;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};

use crate::fake::control::Control;
use crate::support::peer;

/// One peer.
pub struct Peer {
    /// What the cluster says of it.
    pub record: v1::PeerRecord,
    /// Its certificate, its authority and its private key, in the form of a node's `certificate.json`.
    pub kept: Value,
}

impl Peer {
    /// The peer `index` with a new key, certified for a day.
    #[allow(clippy::unwrap_used, reason = "keys and names are made here")]
    pub fn made(control: &Control, index: u8) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let record = v1::PeerRecord {
            node_key_sha256: KeyId::of(key.der_bytes()).to_vec(),
            link_endpoints: Vec::new(),
            wireguard_endpoints: Vec::new(),
            ..peer(index)
        };
        let identity = {
            let world = control.world.lock().unwrap();
            NodeIdentity {
                installation: world.installation,
                cluster: world.cluster,
                node: NodeId::from_slice(&record.node_id).unwrap(),
                key_generation: record.key_generation,
            }
        };
        let Wall(now) = rap_runtime::Clock::new().now().wall;
        let leaf = control.cluster_ca.node(identity, request.der(), now, 86_400);
        let body = json!({
            "certificate": BASE64_STANDARD.encode(leaf),
            "authority": BASE64_STANDARD.encode(&control.cluster_ca.der),
            "private_key": BASE64_STANDARD.encode(key.serialize_der()),
        });
        Self { record, kept: json!({ "body": body }) }
    }
}
