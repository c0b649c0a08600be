//! What a leaf may look like.

use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::pki::*;
use crate::tls::{EKU_EXTENSION, NodeCertificate, NodeIdentity, PeerReject, spki_sha256};

fn read(params: &rcgen::CertificateParams) -> Result<NodeCertificate, PeerReject> {
    NodeCertificate::from_der(&Authority::new().sign(params).der)
}

fn me() -> NodeIdentity {
    identity(HOME, 1, 7)
}

#[test]
fn identity_times_and_key_of_a_good_leaf_are_read() {
    let leaf = Authority::new().node(me());
    let read = NodeCertificate::from_der(&leaf.der).unwrap();
    assert_eq!(read.identity, me());
    assert_eq!(read.not_before.0, i64::try_from(NOW - 3600).unwrap() * 1000);
    assert_eq!(read.not_after.0, i64::try_from(NOW + 3600).unwrap() * 1000);
    assert_eq!(spki_sha256(&leaf.der), Ok(read.spki));
}

#[test]
fn uri_round_trips_and_any_other_spelling_is_refused() {
    let good = me().to_string();
    assert_eq!(good.parse(), Ok(me()));
    let stem = good.strip_suffix("/7").unwrap();
    for bad in [
        good.to_uppercase(),
        good.replace("rap://", "rap:"),
        good.replace("rap://", "spiffe://"),
        good.replace("rap://", "rap://user@"),
        format!("{good}/"),
        format!("{good}/8"),
        format!("{good}?x"),
        format!("{stem}/07"),
        format!("{stem}/+7"),
        format!("{stem}/-7"),
        format!("{stem}/"),
        format!("{stem}/18446744073709551616"),
        stem.to_owned(),
        String::new(),
    ] {
        assert_eq!(bad.parse::<NodeIdentity>(), Err(PeerReject::Identity), "{bad}");
    }
}

#[test]
fn san_in_cn_only_is_refused() {
    let mut params = params(vec![]);
    params.distinguished_name.push(DnType::CommonName, me().to_string());
    assert_eq!(read(&params), Err(PeerReject::Identity));
}

#[test]
fn another_identity_in_the_cn_is_not_read() {
    let mut params = node_params(me());
    params.distinguished_name.push(DnType::CommonName, identity(HOME, 2, 7).to_string());
    assert_eq!(read(&params).unwrap().identity, me());
}

#[test]
fn two_uri_sans_refused() {
    let other = identity(HOME, 2, 7);
    let sans = vec![uri(&me().to_string()), uri(&other.to_string())];
    assert_eq!(read(&params(sans)), Err(PeerReject::Identity));
}

#[test]
fn another_kind_of_san_beside_or_instead_of_the_uri_refused() {
    let dns = SanType::DnsName("node.example".try_into().unwrap());
    let ip = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    for sans in [
        vec![uri(&me().to_string()), dns.clone()],
        vec![ip, uri(&me().to_string())],
        vec![dns],
        vec![uri("https://example.com/")],
    ] {
        assert_eq!(read(&params(sans)), Err(PeerReject::Identity));
    }
}

#[test]
fn ca_true_leaf_refused() {
    let mut params = node_params(me());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(read(&params), Err(PeerReject::Authority));
}

#[test]
fn usage_that_is_absent_not_critical_too_narrow_or_too_wide_refused() {
    let narrow = [&[0x30, 0x0a][..], &EKU_EXTENSION[2..12]].concat();
    let any = [0x06, 0x04, 0x55, 0x1d, 0x25, 0x00];
    let wide = [&[0x30, 0x1a][..], &EKU_EXTENSION[2..], &any[..]].concat();
    for extensions in
        [vec![], vec![eku(EKU_EXTENSION, false)], vec![eku(&narrow, true)], vec![eku(&wide, true)]]
    {
        let mut params = node_params(me());
        params.custom_extensions = extensions;
        assert_eq!(read(&params), Err(PeerReject::Usage));
    }
    let mut params = node_params(me());
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    assert_eq!(read(&params), Err(PeerReject::Usage));
}

#[test]
fn usage_given_twice_refused() {
    let mut params = node_params(me());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    assert_eq!(read(&params), Err(PeerReject::Malformed));
}

#[test]
fn truncated_leaf_and_bytes_after_it_refused() {
    let der = Authority::new().node(me()).der;
    for length in 0..der.len() {
        assert!(NodeCertificate::from_der(&der[..length]).is_err(), "{length}");
    }
    assert_eq!(NodeCertificate::from_der(&[&der[..], &[0]].concat()), Err(PeerReject::Malformed));
}
