//! The authority of a cluster's leaves is replaced while links are up.

mod support;

use std::time::Duration;

use rap_link::SessionState;
use rap_mesh::Peers;
use rap_runtime::tls::fingerprint;
use rap_types::{ChannelClass, Reason};
use support::*;

/// Peers that trust both authorities; links by `former` are made anew if it is given.
fn both(of: Peers, authorities: [&Authority; 2], former: Option<&Authority>) -> Peers {
    let mut next = of;
    next.trust.authorities = authorities.iter().flat_map(|one| one.trust(&[]).authorities).collect();
    next.former = former.map(|former| fingerprint(&former.trust(&[]).authorities[0]));
    next
}

#[tokio::test]
async fn links_are_made_anew_without_a_gap_and_outlive_the_authority_before() {
    let (old, new) = (Authority::new(HOME), Authority::new(HOME));
    let (a, b) = linked_pair(&old).await;
    let to_b = |trust: &Authority| peers(trust, &[(b.id, Some(b.address()))]);
    let to_a = |trust: &Authority| peers(trust, &[(a.id, None)]);
    a.mesh.apply(both(to_b(&old), [&old, &new], None));
    b.mesh.apply(both(to_a(&old), [&old, &new], None));
    let first = a.status(b.id).unwrap().since;
    for (node, table) in [(&b, to_a(&old)), (&a, to_b(&old))] {
        let (chain, key) = new.leaf(node.id, 1, Duration::from_secs(3600));
        node.mesh.identify(chain, key).unwrap();
        node.mesh.apply(both(table, [&old, &new], Some(&old)));
        a.mesh.echo(b.id, ChannelClass::Control, vec![1]).await.unwrap();
    }
    // Only the node that dialled makes it anew, with both new leaves.
    let mut echoes = 0;
    while echoes < 10 || a.status(b.id).unwrap().since == first {
        a.mesh.echo(b.id, ChannelClass::Control, vec![1]).await.unwrap();
        echoes += 1;
    }
    // Whoever still stood on the old authority would lose the link here.
    a.mesh.apply(to_b(&new));
    b.mesh.apply(to_a(&new));
    for _ in 0..20 {
        a.mesh.echo(b.id, ChannelClass::Control, vec![1]).await.unwrap();
        assert!(a.is_linked(b.id) && b.is_linked(a.id));
    }
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_link_ends_with_the_authority_it_stands_on_and_its_leaf_makes_no_other() {
    let (old, new) = (Authority::new(HOME), Authority::new(HOME));
    let (a, b) = linked_pair(&old).await;
    let to_b = |trust: &Authority| peers(trust, &[(b.id, Some(b.address()))]);
    a.mesh.apply(both(to_b(&old), [&old, &new], None));
    let (chain, key) = new.leaf(a.id, 1, Duration::from_secs(3600));
    a.mesh.identify(chain, key).unwrap();
    assert!(a.is_linked(b.id), "both count");
    // The other node has none but its old leaf.
    a.mesh.apply(to_b(&new));
    eventually("the link ends", || a.reason(b.id) == Some(Reason::CertificateInvalid)).await;
    b.mesh.apply(both(peers(&old, &[(a.id, None)]), [&old, &new], None));
    eventually("its leaf is refused", || a.reason(b.id) == Some(Reason::CertificateInvalid)).await;
    assert_ne!(a.state(b.id), Some(SessionState::Established));
    // With a leaf of the new authority it is back.
    let (chain, key) = new.leaf(b.id, 1, Duration::from_secs(3600));
    b.mesh.identify(chain, key).unwrap();
    eventually("linked again", || a.is_linked(b.id) && b.is_linked(a.id)).await;
    a.stop().await;
    b.stop().await;
}
