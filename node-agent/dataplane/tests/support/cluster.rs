//! One cluster: its authority, its nodes, and the tables that a planner would make of them.

use std::net::IpAddr;
use std::time::Duration;

use rap_runtime::Clock;
use rap_runtime::tls::{EKU_EXTENSION, EKU_OID, NodeIdentity};
use rap_types::{ClusterId, InstallationId, NodeId};
use rap_wire::v1::{ForwardingTable, LinkIdentity, TableLink, TablePeer};
use rap_wireguard::{PublicKey, StaticSecret};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};

const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
const INSTALLATION: InstallationId = InstallationId::from_bytes([0x11; 16]);

pub struct Authority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = params();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// A fresh leaf for a node.
    pub fn leaf(&self, node: NodeId) -> LinkIdentity {
        let identity = NodeIdentity { installation: INSTALLATION, cluster: CLUSTER, node, key_generation: 1 };
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = params();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut usage = CustomExtension::from_oid_content(EKU_OID, EKU_EXTENSION.to_vec());
        usage.set_criticality(true);
        params.custom_extensions = vec![usage];
        LinkIdentity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().der().to_vec(),
            private_key: key.serialize_der(),
            cluster_ca: self.der.clone(),
            deadline_ns: 0,
            ..LinkIdentity::default()
        }
    }
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let seconds = Clock::new().now().wall.0 / 1000;
    let now = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    params.not_before = now - Duration::from_secs(60);
    params.not_after = now + Duration::from_secs(3600);
    params
}

/// A node: its ids, keys and addresses. `number` is its host number too.
#[derive(Clone, Copy)]
pub struct Node {
    pub number: u8,
    pub underlay: IpAddr,
}

impl Node {
    pub fn id(&self) -> NodeId {
        NodeId::from_bytes([self.number; 16])
    }

    pub fn overlay_v4(&self) -> String {
        format!("100.96.0.{}", self.number)
    }

    pub fn overlay_v6(&self) -> String {
        format!("fd12:3456:789a::{}", self.number)
    }

    fn secret(&self) -> StaticSecret {
        StaticSecret::from([self.number; 32])
    }

    /// What this node's agent would send: no deadlines.
    pub fn table(&self, authority: &Authority, version: u64, peers: &[Node]) -> ForwardingTable {
        ForwardingTable {
            version,
            deadline_ns: 0,
            node_id: self.id().to_vec(),
            cluster_id: CLUSTER.to_vec(),
            installation_id: INSTALLATION.to_vec(),
            identity: Some(authority.leaf(self.id())),
            addresses: vec![format!("{}/16", self.overlay_v4()), format!("{}/48", self.overlay_v6())],
            mtu: 0,
            wireguard_private_key: self.secret().to_bytes().to_vec(),
            peers: peers.iter().map(peer_of).collect(),
            revoked: Vec::new(),
            probe_interval_ms: 0,
            newest_head: b"head".to_vec(),
            ..Default::default()
        }
    }
}

/// A node in the tables of others.
pub fn peer_of(node: &Node) -> TablePeer {
    TablePeer {
        node_id: node.id().to_vec(),
        name: format!("node-{}", node.number),
        wireguard_public_key: PublicKey::from(&node.secret()).as_bytes().to_vec(),
        allowed_ips: vec![format!("{}/32", node.overlay_v4()), format!("{}/128", node.overlay_v6())],
        wireguard_endpoints: vec![format!("{}:51820", node.underlay)],
        link_endpoints: vec![format!("{}:7443", node.underlay)],
        keepalive_s: 0,
        deadline_ns: 0,
        survive_forever: false,
        key_generation: 1,
        ..Default::default()
    }
}

/// The BOOTTIME instant this long from now, as tables carry it.
pub fn mono(from_now: Duration) -> u64 {
    Clock::new().now().mono.plus(from_now).0
}

/// This many peers that nobody runs. The first `dialled` are marked for it, at ports that refuse.
pub fn crowd(count: u16, dialled: u16) -> Vec<TablePeer> {
    let peer = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let mut node_id = vec![9; 16];
        node_id[14..].copy_from_slice(&[high, low]);
        let mut key = vec![1; 32];
        key[..2].copy_from_slice(&[high, low]);
        let link = if number < dialled { TableLink::Dial } else { TableLink::Accept };
        TablePeer {
            node_id,
            name: format!("node-{number}"),
            wireguard_public_key: key,
            allowed_ips: vec![format!("100.97.{high}.{low}/32"), format!("fd97::{number:x}/128")],
            link_endpoints: vec!["127.0.0.1:1".to_owned()],
            wireguard_endpoints: vec!["192.0.2.1:51820".to_owned()],
            key_generation: 1,
            link: link.into(),
            ..Default::default()
        }
    };
    (0..count).map(peer).collect()
}
