//! The certificate for links and the CAs that the table trusts.

use super::*;

/// While the cluster's CA is rotated the table trusts both, and a certificate goes into it with a CA that is trusted.
#[test]
fn a_certificate_of_a_ca_that_no_snapshot_names_waits_for_one_that_does() {
    let world = World::default();
    let mut node = running(&world);
    let of = |name: &[u8], authority: &[u8]| LinkCertificate {
        certificate: name.to_vec(),
        authority: authority.to_vec(),
        ..leaf()
    };
    let told = |outputs: &[Output]| {
        let identity = table(outputs).identity.unwrap();
        (identity.certificate, identity.cluster_ca, identity.next_cluster_ca, identity.former_cluster_ca)
    };
    let (old, new) = (world.cluster_ca.clone(), b"new ca".to_vec());
    let early = feed(&mut node, Input::CertificateIssued(of(b"early", &new)), 2);
    assert_eq!(told(&early), (leaf().certificate, old.clone(), vec![], vec![]));
    let trust = v1::TrustChunk {
        cluster_ca: old.clone(),
        next_cluster_ca: new.clone(),
        next_ca_issues: true,
        ..Default::default()
    };
    let mut contents = world.contents(2);
    contents.put(rap_contract::TRUST_SLOT, Some(v1::chunk::Body::Trust(trust)));
    let named = feed(&mut node, update(&world.publish(V2, &contents, ISSUED)), 3);
    assert_eq!(told(&named), (b"early".to_vec(), new.clone(), vec![], old.clone()));
    // One by the CA that ends soon is still good, and the other one is named as the next.
    let late = feed(&mut node, Input::CertificateIssued(of(b"late", &old)), 4);
    assert_eq!(told(&late), (b"late".to_vec(), old, new, vec![]));
}
