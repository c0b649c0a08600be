//! Real handshakes: what both ends see, and which attacks end them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rap_types::Reason;
use rcgen::{CertificateParams, SanType};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig};

use super::pki::*;
use crate::tls::{
    ALPN_LINK, ALPN_NODE, ALPN_OPERATOR, CertificateCell, ClusterTrust, Offer, PeerReject, Pins, link_client,
    link_server, node_client, node_server, operator_client, operator_server, require_alpn, spki_sha256,
};

/// Two nodes of one cluster: 1 dials, 2 answers.
struct Pair {
    authority: Authority,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

fn pair(authority: Authority, dialler: Leaf, answerer: Leaf) -> Pair {
    let trust = store(&authority);
    let (cluster, node) = (HOME, identity(HOME, 2, 1).node);
    let client = link_client(&trust, &dialler.slot(), cluster, node, now()).unwrap();
    let server = link_server(&answerer.slot(), &trust, now()).unwrap();
    Pair { authority, client, server }
}

fn honest() -> Pair {
    let authority = Authority::new();
    let (one, two) = (authority.node(identity(HOME, 1, 1)), authority.node(identity(HOME, 2, 1)));
    pair(authority, one, two)
}

fn pin(authority: &Authority) -> Pins {
    Pins::one(spki_sha256(&authority.der).unwrap())
}

fn server_params() -> CertificateParams {
    params(vec![SanType::DnsName("control.example".try_into().unwrap())])
}

#[tokio::test]
async fn link_ends_know_each_other_and_share_a_secret_of_this_connection_alone() {
    let Pair { client, server, .. } = honest();
    let (near, far) = meet(&client, &server).await;
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.peer.unwrap().identity, identity(HOME, 2, 1));
    assert_eq!(far.peer.unwrap().identity, identity(HOME, 1, 1));
    assert_eq!(near.protocol.as_deref(), Some(ALPN_LINK));
    assert_eq!(near.group, NamedGroup::X25519MLKEM768);
    assert_eq!(near.secret, far.secret);
    let again = meet(&client, &server).await.0.unwrap();
    assert_ne!(again.secret, near.secret);
    assert_eq!((again.kind, near.tickets, again.tickets), (HandshakeKind::Full, 0, 0));
}

#[tokio::test]
async fn client_that_would_resume_gets_no_ticket_and_verifies_again() {
    let Pair { client, server, .. } = honest();
    let mut eager = ClientConfig::clone(&client);
    eager.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let eager = Arc::new(eager);
    for _ in 0..2 {
        let seen = meet(&eager, &server).await.0.unwrap();
        assert_eq!((seen.kind, seen.tickets), (HandshakeKind::Full, 0));
    }
}

#[tokio::test]
async fn wrong_node_dialled_refused() {
    let authority = Authority::new();
    let (one, three) = (authority.node(identity(HOME, 1, 1)), authority.node(identity(HOME, 3, 1)));
    let Pair { client, server, .. } = pair(authority, one, three);
    assert_eq!(reason(meet(&client, &server).await.0), Reason::CertificateIdentity);
}

#[tokio::test]
async fn same_node_id_in_another_trusted_cluster_refused() {
    let (home, other) = (Authority::new(), Authority::new());
    let trust = store(&home);
    trust.replace(OTHER, other.trust());
    let slot = home.node(identity(HOME, 1, 1)).slot();
    let client = link_client(&trust, &slot, HOME, identity(HOME, 2, 1).node, now()).unwrap();
    let server = link_server(&other.node(identity(OTHER, 2, 1)).slot(), &trust, now()).unwrap();
    assert_eq!(reason(meet(&client, &server).await.0), Reason::CertificateIdentity);
}

#[tokio::test]
async fn client_of_a_foreign_authority_refused() {
    let stranger = Authority::new().node(identity(HOME, 1, 1));
    let authority = Authority::new();
    let two = authority.node(identity(HOME, 2, 1));
    let Pair { client, server, .. } = pair(authority, stranger, two);
    let (near, far) = meet(&client, &server).await;
    assert_eq!(reason(far), Reason::CertificateInvalid);
    assert_eq!(reason(near), Reason::CertificateInvalid, "the client learns it by alert");
}

#[tokio::test]
async fn client_that_holds_a_leaf_without_its_key_refused() {
    let authority = Authority::new();
    let mut stolen = authority.node(identity(HOME, 1, 1));
    stolen.key = key().into();
    let slot = CertificateCell::new();
    assert!(slot.set(stolen.chain.clone(), stolen.key.clone_key()).is_err());
    // Past the slot's own check, the handshake signature still does not hold.
    let trust = store(&authority);
    let signer = crate::tls::provider().key_provider.load_private_key(stolen.key).unwrap();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(stolen.chain, signer));
    let mut client =
        ClientConfig::clone(&link_client(&trust, &slot, HOME, identity(HOME, 2, 1).node, now()).unwrap());
    client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let server = link_server(&authority.node(identity(HOME, 2, 1)).slot(), &trust, now()).unwrap();
    assert!(meet(&Arc::new(client), &server).await.1.is_err());
}

#[tokio::test]
async fn client_without_a_certificate_refused() {
    let authority = Authority::new();
    let trust = store(&authority);
    let client =
        link_client(&trust, &CertificateCell::new(), HOME, identity(HOME, 2, 1).node, now()).unwrap();
    let server = link_server(&authority.node(identity(HOME, 2, 1)).slot(), &trust, now()).unwrap();
    let (near, far) = meet(&client, &server).await;
    assert_eq!(reason(far), Reason::CertificateInvalid);
    assert_eq!(reason(near), Reason::CertificateInvalid);
}

#[tokio::test]
async fn revocation_refuses_the_next_handshake_and_the_running_link() {
    let authority = Authority::new();
    let trust = store(&authority);
    let (one, two) = (identity(HOME, 1, 1), identity(HOME, 2, 1));
    let client = link_client(&trust, &authority.node(one).slot(), HOME, two.node, now()).unwrap();
    let server = link_server(&authority.node(two).slot(), &trust, now()).unwrap();
    assert!(meet(&client, &server).await.1.is_ok());
    let seen = trust.proven(&authority.node(one).der).unwrap();
    assert_eq!(trust.check(&seen), Ok(()));
    let revoked = BTreeMap::from([(one.node, 1)]);
    trust.replace(HOME, ClusterTrust { revoked, ..authority.trust() });
    assert_eq!(trust.check(&seen), Err(PeerReject::Revoked { node: one.node, generation: 1 }));
    assert_eq!(reason(meet(&client, &server).await.1), Reason::NodeRevoked);
}

#[tokio::test]
async fn expired_client_leaf_refused_by_the_servers_clock() {
    let Pair { authority, client, .. } = honest();
    let late: crate::tls::Time = Arc::new(At(NOW + 3601));
    let slot = authority.node(identity(HOME, 2, 1)).slot();
    let server = link_server(&slot, &store(&authority), late).unwrap();
    assert_eq!(reason(meet(&client, &server).await.1), Reason::CertificateInvalid);
}

#[tokio::test]
async fn renewed_leaf_is_used_at_once_and_a_wrong_key_leaves_the_old_one() {
    let authority = Authority::new();
    let trust = store(&authority);
    let two = identity(HOME, 2, 1);
    let slot = authority.node(two).slot();
    let dialler = authority.node(identity(HOME, 1, 1)).slot();
    let client = link_client(&trust, &dialler, HOME, two.node, now()).unwrap();
    let server = link_server(&slot, &trust, now()).unwrap();
    let first = meet(&client, &server).await.0.unwrap().peer.unwrap().spki;
    let renewed = authority.node(two);
    assert!(slot.set(renewed.chain.clone(), key().into()).is_err());
    assert_eq!(meet(&client, &server).await.0.unwrap().peer.unwrap().spki, first);
    let spki = spki_sha256(&renewed.der).unwrap();
    slot.set(renewed.chain, renewed.key).unwrap();
    assert_eq!(meet(&client, &server).await.0.unwrap().peer.unwrap().spki, spki);
    assert_eq!(slot.leaf(), Some(renewed.der));
}

#[tokio::test]
async fn pinned_server_accepted_under_any_name_and_sees_no_client_certificate() {
    let authority = Authority::new();
    let client = operator_client(pin(&authority), now()).unwrap();
    let server = operator_server(&authority.sign(&server_params()).slot(), now()).unwrap();
    let (near, far) = meet(&client, &server).await;
    assert_eq!(near.unwrap().protocol.as_deref(), Some(ALPN_OPERATOR));
    assert_eq!(far.unwrap().peer, None);
}

#[tokio::test]
async fn pin_mismatch_refused() {
    let authority = Authority::new();
    let server = operator_server(&authority.sign(&server_params()).slot(), now()).unwrap();
    for pins in [pin(&Authority::new()), Pins::default()] {
        let client = operator_client(pins, now()).unwrap();
        assert_eq!(reason(meet(&client, &server).await.0), Reason::PinMismatch);
    }
    let server_pin = spki_sha256(&authority.sign(&server_params()).der).unwrap();
    let both = [server_pin, spki_sha256(&authority.der).unwrap()].into_iter().collect();
    assert!(meet(&operator_client(both, now()).unwrap(), &server).await.0.is_ok());
}

#[tokio::test]
async fn pinned_authority_pasted_behind_a_foreign_leaf_refused() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let mut leaf = foreign.sign(&server_params());
    leaf.chain = vec![leaf.der.clone(), authority.der.clone()];
    let server = operator_server(&leaf.slot(), now()).unwrap();
    let client = operator_client(pin(&authority), now()).unwrap();
    assert_eq!(reason(meet(&client, &server).await.0), Reason::CertificateInvalid);
}

#[tokio::test]
async fn pinned_leaf_without_its_authority_or_with_a_longer_chain_refused() {
    let authority = Authority::new();
    let client = operator_client(pin(&authority), now()).unwrap();
    for authorities in [0, 2] {
        let mut leaf = authority.sign(&server_params());
        leaf.chain.truncate(1);
        leaf.chain.extend(std::iter::repeat_n(authority.der.clone(), authorities));
        let server = operator_server(&leaf.slot(), now()).unwrap();
        assert_eq!(reason(meet(&client, &server).await.0), Reason::CertificateInvalid);
    }
}

#[tokio::test]
async fn server_leaf_that_may_not_authenticate_servers_refused() {
    let authority = Authority::new();
    let mut params = server_params();
    let client_auth = [0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
    params.custom_extensions = vec![eku(&client_auth, true)];
    let server = operator_server(&authority.sign(&params).slot(), now()).unwrap();
    let client = operator_client(pin(&authority), now()).unwrap();
    assert_eq!(reason(meet(&client, &server).await.0), Reason::CertificateInvalid);
}

#[tokio::test]
async fn agent_and_control_plane_know_each_other() {
    let (installation, cluster) = (Authority::new(), Authority::new());
    let leaf = cluster.node(identity(HOME, 1, 1)).slot();
    let client = node_client(pin(&installation), &leaf, now()).unwrap();
    let slot = installation.sign(&server_params()).slot();
    let server = node_server(&slot, &store(&cluster), now()).unwrap();
    let (near, far) = meet(&client, &server).await;
    assert_eq!(near.unwrap().protocol.as_deref(), Some(ALPN_NODE));
    assert_eq!(far.unwrap().peer.unwrap().identity, identity(HOME, 1, 1));
}

#[tokio::test]
async fn connection_of_another_protocol_refused() {
    let Pair { authority, server, .. } = honest();
    let slot = authority.node(identity(HOME, 1, 1)).slot();
    let client = node_client(pin(&authority), &slot, now()).unwrap();
    let (near, far) = meet(&client, &server).await;
    assert_eq!(reason(near), Reason::ChannelWrong);
    assert_eq!(reason(far), Reason::ChannelWrong);
}

#[tokio::test]
async fn client_that_names_no_protocol_is_caught_after_the_handshake() {
    let Pair { client, server, .. } = honest();
    let mut silent = ClientConfig::clone(&client);
    silent.alpn_protocols.clear();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let dial =
        tokio_rustls::TlsConnector::from(Arc::new(silent)).connect(crate::tls::any_server_name(), near);
    let accept = tokio_rustls::TlsAcceptor::from(server).accept(far);
    let (_near, far) = tokio::join!(dial, accept);
    let far = far.unwrap();
    assert_eq!(require_alpn(far.get_ref().1, ALPN_LINK), Err(PeerReject::Protocol));
}

#[tokio::test]
async fn tls_1_2_client_refused() {
    let authority = Authority::new();
    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        roots
    };
    let old = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(old)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = operator_server(&authority.sign(&server_params()).slot(), now()).unwrap();
    assert!(meet(&Arc::new(client), &server).await.1.is_err());
}

#[test]
fn hello_asks_for_exactly_one_kind_of_connection() {
    type Case = (&'static [&'static [u8]], Result<Offer, PeerReject>);
    let cases: [Case; 8] = [
        (&[b"rap-node/1"], Ok(Offer::Node)),
        (&[b"h2"], Ok(Offer::Operator)),
        (&[b"h2", b"http/1.1"], Ok(Offer::Operator)),
        (&[b"rap-node/1", b"h2"], Err(PeerReject::Protocol)),
        (&[b"h2", b"rap-node/1"], Err(PeerReject::Protocol)),
        (&[b"rap-link/1"], Err(PeerReject::Protocol)),
        (&[b"http/1.1"], Err(PeerReject::Protocol)),
        (&[], Err(PeerReject::Protocol)),
    ];
    for (protocols, expected) in cases {
        assert_eq!(Offer::read(protocols.iter().copied()), expected, "{protocols:?}");
    }
}
