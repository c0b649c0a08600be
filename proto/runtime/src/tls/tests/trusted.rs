//! Which chains a store of trust accepts, and when.

use std::collections::BTreeMap;

use rcgen::IsCa;

use super::pki::*;
use crate::tls::{ClusterTrust, NodeIdentity, PeerReject, TrustStore, fingerprint};

fn me() -> NodeIdentity {
    identity(HOME, 1, 7)
}

fn verify(store: &TrustStore, leaf: &Leaf) -> Result<NodeIdentity, PeerReject> {
    store.verify(&leaf.der, &leaf.chain[1..], at(NOW)).map(|leaf| leaf.identity)
}

#[test]
fn leaf_of_the_clusters_authority_accepted_with_or_without_it_in_the_chain() {
    let authority = Authority::new();
    let store = store(&authority);
    let leaf = authority.node(me());
    assert_eq!(verify(&store, &leaf), Ok(me()));
    assert!(store.verify(&leaf.der, &[], at(NOW)).is_ok());
}

#[test]
fn other_cluster_ca_refused() {
    let (home, other) = (Authority::new(), Authority::new());
    let store = store(&home);
    store.replace(OTHER, other.trust());
    // Trusted for its own cluster, it signs an identity of ours.
    let leaf = other.node(me());
    assert_eq!(store.verify(&leaf.der, &[], at(NOW)), Err(PeerReject::Untrusted));
    assert_eq!(verify(&store, &leaf), Err(PeerReject::Chain));
    assert_eq!(store.verify(&leaf.der, std::slice::from_ref(&home.der), at(NOW)), Err(PeerReject::Untrusted));
    assert!(verify(&store, &other.node(identity(OTHER, 1, 7))).is_ok());
}

#[test]
fn unknown_cluster_and_removed_cluster_refused() {
    let authority = Authority::new();
    let store = store(&authority);
    assert_eq!(verify(&store, &authority.node(identity(OTHER, 1, 7))), Err(PeerReject::Cluster(OTHER)));
    store.remove(HOME);
    assert_eq!(verify(&store, &authority.node(me())), Err(PeerReject::Cluster(HOME)));
}

#[test]
fn other_installation_refused() {
    let authority = Authority::new();
    let mut foreign = me();
    foreign.installation = rap_types::InstallationId::from_bytes([9; 16]);
    assert_eq!(verify(&store(&authority), &authority.node(foreign)), Err(PeerReject::Installation));
}

#[test]
fn expired_leaf_refused_and_one_not_valid_yet_too() {
    let authority = Authority::new();
    let store = store(&authority);
    let leaf = authority.node(me());
    for (when, accepted) in
        [(NOW - 3601, false), (NOW - 3600, true), (NOW, true), (NOW + 3600, true), (NOW + 3601, false)]
    {
        let verdict = store.verify(&leaf.der, &[], at(when)).map(drop);
        assert_eq!(verdict, if accepted { Ok(()) } else { Err(PeerReject::Expired) }, "{when}");
    }
}

#[test]
fn expired_authority_refused() {
    let mut params = authority_params();
    params.not_after = instant(NOW - 1);
    let authority = Authority::with(params);
    assert_eq!(verify(&store(&authority), &authority.node(me())), Err(PeerReject::Expired));
}

#[test]
fn revoked_generation_refused() {
    let authority = Authority::new();
    let store = store(&authority);
    let revoked = BTreeMap::from([(me().node, 7)]);
    store.replace(HOME, ClusterTrust { revoked, ..authority.trust() });
    for generation in [0, 6, 7] {
        let node = me().node;
        let verdict = verify(&store, &authority.node(identity(HOME, 1, generation)));
        assert_eq!(verdict, Err(PeerReject::Revoked { node, generation }));
    }
    assert!(verify(&store, &authority.node(identity(HOME, 1, 8))).is_ok());
    assert!(verify(&store, &authority.node(identity(HOME, 2, 7))).is_ok());
}

#[test]
fn leaf_that_stands_as_authority_refused() {
    let authority = Authority::new();
    let mut params = authority_params();
    params.is_ca = IsCa::ExplicitNoCa;
    let false_authority = Authority::with(params);
    assert_eq!(verify(&store(&false_authority), &false_authority.node(me())), Err(PeerReject::Authority));
    assert!(verify(&store(&authority), &authority.node(me())).is_ok());
}

#[test]
fn chain_longer_than_leaf_and_authority_refused() {
    let authority = Authority::new();
    let leaf = authority.node(me());
    let rest = [authority.der.clone(), authority.der.clone()];
    assert_eq!(store(&authority).verify(&leaf.der, &rest, at(NOW)), Err(PeerReject::Chain));
}

#[test]
fn leaf_signed_by_a_leaf_refused() {
    let authority = Authority::new();
    let middle = authority.node(identity(HOME, 2, 7));
    let key = rcgen::KeyPair::try_from(&middle.key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&middle.der, key).unwrap();
    let der = node_params(me()).signed_by(&super::pki::key(), &issuer).unwrap().der().clone();
    assert_eq!(store(&authority).verify(&der, &[middle.der], at(NOW)), Err(PeerReject::Chain));
    assert_eq!(store(&authority).verify(&der, &[], at(NOW)), Err(PeerReject::Untrusted));
}

#[test]
fn both_authorities_accepted_while_a_cluster_changes_its_authority() {
    let (old, new, never) = (Authority::new(), Authority::new(), Authority::new());
    let store = TrustStore::new();
    let authorities = vec![old.der.clone(), new.der.clone()];
    let mut params = authority_params();
    params.not_after = instant(NOW - 1);
    let ended = Authority::with(params);
    let beside = vec![ended.der.clone(), new.der.clone()];
    store.replace(HOME, ClusterTrust { authorities: beside, ..old.trust() });
    assert!(verify(&store, &new.node(me())).is_ok(), "the other authority ended by its time");
    store.replace(HOME, ClusterTrust { authorities, ..old.trust() });
    assert!(verify(&store, &old.node(me())).is_ok());
    assert!(verify(&store, &new.node(me())).is_ok());
    assert_eq!(store.verify(&never.node(me()).der, &[], at(NOW)), Err(PeerReject::Untrusted));
    let proven = |authority: &Authority| store.proven(&authority.node(me()).der);
    let (by_old, by_new) = (proven(&old).unwrap(), proven(&new).unwrap());
    assert_eq!((by_old.authority, by_new.authority), (fingerprint(&old.der), fingerprint(&new.der)));
    assert_eq!((store.check(&by_old), store.check(&by_new)), (Ok(()), Ok(())));
    store.replace(HOME, new.trust());
    assert_eq!(proven(&old), Err(PeerReject::Untrusted));
    assert_eq!((store.check(&by_old), store.check(&by_new)), (Err(PeerReject::Untrusted), Ok(())));
    assert_eq!(store.verify(&old.node(me()).der, &[], at(NOW)), Err(PeerReject::Untrusted));
}

#[test]
fn no_single_flipped_bit_of_a_leaf_is_accepted() {
    let authority = Authority::new();
    let store = store(&authority);
    let der = authority.node(me()).der.to_vec();
    for bit in 0..der.len() * 8 {
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(store.verify(&flipped.into(), &[], at(NOW)).is_err(), "bit {bit}");
    }
}
