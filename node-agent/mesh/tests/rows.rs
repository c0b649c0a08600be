//! What relays say of their links, over real links: it reaches everybody who is linked, and nobody says it for them.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use rap_contract::{PublicKey, RelayRow, sign_by_leaf};
use rap_link::{FEATURE_FABRIC, FEATURE_LANES, FEATURE_ROWS, Frame, FrameKind, Input, Lane, RowText};
use rap_mesh::{Mesh, RelayLink};
use rap_runtime::Clock;
use rap_runtime::tls::CertificateCell;
use rap_types::{ChannelClass, NodeId, Reason, Wall};
use support::members::*;
use support::*;

const FOE: u8 = 3;

fn relays() -> BTreeSet<NodeId> {
    RELAYS[..2].iter().map(|number| node(*number)).collect()
}

/// What the relay `of` says of its link with the relay `with`, as a node knows it.
fn said(mesh: &Mesh, of: u8, with: u8) -> Option<RelayLink> {
    let (_, links) = mesh.relay_rows().into_iter().find(|(relay, _)| *relay == node(of))?;
    links.into_iter().find(|link| link.node == node(with))
}

#[tokio::test]
async fn a_row_reaches_relays_and_nodes_and_tells_when_a_link_comes_and_goes() {
    let authority = Authority::new(HOME);
    let [one, other] = [RELAYS[0], RELAYS[1]];
    let mut members = network(&authority, &[A, B, one, other]);
    members.values().for_each(|member| member.mesh().set_relays(relays()));
    for number in [A, B] {
        let mesh = members[&number].mesh();
        eventually("both relays say that they are apart", || {
            [(one, other), (other, one)]
                .iter()
                .all(|(of, with)| said(mesh, *of, *with).is_some_and(|link| link.is_down()))
        })
        .await;
    }
    // A path over both makes the link between them.
    want(&members[&A], &[A, B, one, other], plan(B, &[one, other], None));
    members.get_mut(&A).unwrap().up(rap_mesh::PathSlot::Primary).await;
    for number in [A, B] {
        let mesh = members[&number].mesh();
        eventually("both relays say how far they are from each other", || {
            [(one, other), (other, one)]
                .iter()
                .all(|(of, with)| said(mesh, *of, *with).is_some_and(|link| link.rtt_us > 0))
        })
        .await;
    }
    eventually("a relay knows what the other says", || said(members[&one].mesh(), other, one).is_some())
        .await;
    let gone = members.remove(&other).unwrap();
    gone.node.stop().await;
    eventually("the one that is left says that the link is down", || {
        said(members[&A].mesh(), one, other).is_some_and(|link| link.is_down())
    })
    .await;
}

#[tokio::test]
async fn a_row_that_its_relay_did_not_sign_or_that_is_old_is_refused_and_changes_nothing() {
    let authority = Authority::new(HOME);
    let numbers = [A, B, FOE, RELAYS[0], RELAYS[1]];
    let mut members = network(&authority, &numbers[..]);
    // The test stands in for it.
    members.remove(&FOE).unwrap().node.stop().await;
    let target = &members[&RELAYS[0]];
    members.values().for_each(|member| member.mesh().set_relays(relays()));
    let features = [FEATURE_FABRIC, FEATURE_LANES, FEATURE_ROWS];
    let tcp = tokio::net::TcpStream::connect(target.node.address()).await.unwrap();
    let mut foe = Puppet::connect_with(&authority, FOE, &target.node, tcp, Lane::A, &features).await;
    foe.say_hello().await;
    let signed = |number: u8, by: u8, sequence: u64, at: Wall| {
        let cell = CertificateCell::new();
        let (chain, key) = authority.leaf(node(by), 1, Duration::from_secs(3600));
        cell.set(chain, key).unwrap();
        let signer = cell.signer().unwrap();
        let key = PublicKey::from_slice(signer.key()).unwrap();
        let with = if number == RELAYS[0] { RELAYS[1] } else { RELAYS[0] };
        let links = vec![RelayLink { node: node(with), rtt_us: 1, loss_ppm: 0 }];
        let row = RelayRow { relay: node(number), sequence, links, issued_at: at };
        let row = row.to_wire(INSTALLATION, authority.cluster, &key);
        let row = sign_by_leaf(&row, &key, |message| signer.sign(message)).unwrap();
        RowText { leaf: signer.leaf().to_vec(), row }
    };
    let now = Clock::new().now().wall;
    let long_ago = Wall(now.0 - 3_600_000);
    let good = signed(RELAYS[1], RELAYS[1], u64::MAX - 1, now);
    let mut altered = good.clone();
    let last = altered.row.len() - 1;
    altered.row[last] ^= 1;
    let cases = [
        (signed(RELAYS[1], FOE, u64::MAX, now), Reason::RelayRowInvalid),
        (signed(FOE, FOE, 7, now), Reason::RelayNotAllowed),
        (altered, Reason::RelayRowInvalid),
        (signed(RELAYS[1], RELAYS[1], u64::MAX, long_ago), Reason::ClockSkew),
        (signed(RELAYS[0], RELAYS[0], u64::MAX, now), Reason::RelayRowStale),
        (RowText { leaf: vec![], row: vec![1, 2, 3] }, Reason::RelayRowInvalid),
    ];
    let before = said(target.mesh(), RELAYS[1], RELAYS[0]);
    for (text, reason) in cases {
        let count = target.refused(reason);
        foe.say_row(text).await;
        eventually(reason.code(), || target.refused(reason) > count).await;
    }
    let fast = |link: Option<RelayLink>| link.is_some_and(|link| link.rtt_us == 1);
    assert!(!fast(before) && !fast(said(target.mesh(), RELAYS[1], RELAYS[0])));
    // The same bytes that the relay itself could have sent are taken, once, and passed on.
    foe.say_row(good.clone()).await;
    eventually("it counts", || fast(said(members[&A].mesh(), RELAYS[1], RELAYS[0]))).await;
    let count = target.refused(Reason::RelayRowStale);
    foe.say_row(good).await;
    eventually("a second time it is refused", || target.refused(Reason::RelayRowStale) > count).await;
}

impl Puppet {
    async fn say_row(&mut self, text: RowText) {
        let frame = Frame::local(ChannelClass::Control, FrameKind::RelayRow, text.payload());
        self.link.handle(Input::SendAsked(frame), Clock::new().now()).unwrap();
        self.write().await;
    }
}
