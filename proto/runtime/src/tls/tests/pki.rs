//! Authorities, leaves and connections for the tests of this module.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rap_types::{ClusterId, InstallationId, NodeId, Reason};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::exit::reason_of;
use crate::tls::{
    CertificateCell, ClusterTrust, EKU_EXTENSION, EKU_OID, NodeCertificate, NodeIdentity, Time, TrustStore,
    any_server_name, exporter,
};

/// The instant at which the tests' verifiers live, in Unix seconds.
pub const NOW: u64 = 1_800_000_000;

pub const HOME: ClusterId = ClusterId::from_bytes([0xc1; 16]);
pub const OTHER: ClusterId = ClusterId::from_bytes([0xc2; 16]);

pub fn identity(cluster: ClusterId, node: u8, key_generation: u64) -> NodeIdentity {
    let installation = InstallationId::from_bytes([0x11; 16]);
    NodeIdentity { installation, cluster, node: NodeId::from_bytes([node; 16]), key_generation }
}

#[derive(Debug)]
pub struct At(pub u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(self.0))
    }
}

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub fn now() -> Time {
    Arc::new(At(NOW))
}

/// A certificate request with the product's defaults; tests change what they attack.
pub fn params(sans: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = sans;
    params.distinguished_name = DistinguishedName::new();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.custom_extensions = vec![eku(EKU_EXTENSION, true)];
    params.not_before = instant(NOW - 3600);
    params.not_after = instant(NOW + 3600);
    params
}

pub fn eku(content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(EKU_OID, content.to_vec());
    extension.set_criticality(critical);
    extension
}

pub fn instant(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn node_params(identity: NodeIdentity) -> CertificateParams {
    params(vec![uri(&identity.to_string())])
}

pub fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

/// A certificate authority. All have the same subject, so that only keys tell them apart.
pub struct Authority {
    pub der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf, what follows it in the handshake, and its key.
pub struct Leaf {
    pub der: CertificateDer<'static>,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        Self::with(authority_params())
    }

    pub fn with(params: CertificateParams) -> Self {
        let key = key();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// Signs a leaf; the chain is leaf and authority.
    pub fn sign(&self, params: &CertificateParams) -> Leaf {
        let key = key();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Leaf { chain: vec![der.clone(), self.der.clone()], der, key: key.into() }
    }

    pub fn node(&self, identity: NodeIdentity) -> Leaf {
        self.sign(&node_params(identity))
    }

    /// Trust in this authority for one cluster.
    pub fn trust(&self) -> ClusterTrust {
        ClusterTrust {
            installation: identity(HOME, 0, 0).installation,
            authorities: vec![self.der.clone()],
            revoked: Default::default(),
        }
    }
}

pub fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = instant(NOW - 7200);
    params.not_after = instant(NOW + 7200);
    params
}

impl Leaf {
    pub fn slot(self) -> CertificateCell {
        let slot = CertificateCell::new();
        slot.set(self.chain, self.key).unwrap();
        slot
    }
}

/// A store that trusts `authority` for [`HOME`].
pub fn store(authority: &Authority) -> TrustStore {
    let store = TrustStore::new();
    store.replace(HOME, authority.trust());
    store
}

/// What one end knows after both ends have read a byte from each other.
#[derive(Debug)]
pub struct Seen {
    pub secret: [u8; 32],
    pub protocol: Option<Vec<u8>>,
    pub group: NamedGroup,
    pub kind: HandshakeKind,
    pub tickets: u32,
    pub peer: Option<NodeCertificate>,
}

/// Connects the two over memory and exchanges a byte each way. Dropping an end ends the other.
pub async fn meet(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (Result<Seen, io::Error>, Result<Seen, io::Error>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dial = async {
        let mut stream = TlsConnector::from(client.clone()).connect(any_server_name(), near).await?;
        stream.write_all(b"c").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await?;
        let connection = stream.get_ref().1;
        Ok(Seen {
            secret: exporter(connection, "EXPORTER-test").map_err(io::Error::other)?,
            tickets: connection.tls13_tickets_received(),
            ..seen(connection)
        })
    };
    let accept = async {
        let mut stream = TlsAcceptor::from(server.clone()).accept(far).await?;
        stream.read_exact(&mut [0]).await?;
        stream.write_all(b"s").await?;
        stream.flush().await?;
        let connection = stream.get_ref().1;
        let secret = exporter(connection, "EXPORTER-test").map_err(io::Error::other)?;
        Ok(Seen { secret, ..seen(connection) })
    };
    tokio::join!(dial, accept)
}

fn seen(connection: &rustls::CommonState) -> Seen {
    Seen {
        secret: [0; 32],
        protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        group: connection.negotiated_key_exchange_group().unwrap().name(),
        kind: connection.handshake_kind().unwrap(),
        tickets: 0,
        peer: connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|leaf| NodeCertificate::from_der(leaf).ok()),
    }
}

/// The stable code of an end that failed.
pub fn reason(result: Result<Seen, io::Error>) -> Reason {
    reason_of(&result.expect_err("the handshake must fail")).expect("a reason of TLS")
}
