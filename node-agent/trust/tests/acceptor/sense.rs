//! Signed is not yet sensible: what makes no sense is not used, slot by slot, and nothing of it holds up a revocation.

use super::*;
use rap_trust::OwnAddresses;
use std::net::IpAddr;

/// A peer's record with one fact that makes no sense.
fn senseless() -> Vec<(&'static str, v1::PeerRecord)> {
    let with = |change: &dyn Fn(&mut v1::PeerRecord)| {
        let mut record = peer(9);
        change(&mut record);
        record
    };
    let address = |ipv4: &str| with(&|record| record.overlay_ipv4 = ipv4.into());
    let address6 = |ipv6: &str| with(&|record| record.overlay_ipv6 = ipv6.into());
    let key = |key: [u8; 32]| with(&|record| record.wireguard_public_key = key.to_vec());
    let mut p_minus_1 = [0xff; 32];
    (p_minus_1[0], p_minus_1[31]) = (0xec, 0x7f);
    let mut high = [0; 32];
    high[31] = 0x80;
    vec![
        ("an address of somebody else", address("8.8.8.8")),
        ("the network's address", address("100.96.0.0")),
        ("the broadcast address", address("100.96.255.255")),
        ("the loopback address", address("127.0.0.1")),
        ("an IPv6 address of somebody else", address6("2001:db8::1")),
        ("the prefix's own address", address6("fd00::")),
        ("no key", key([0; 32])),
        ("a key of small order", key(p_minus_1)),
        ("a key with bit 255", key(high)),
        ("a path as name", with(&|record| record.name = "../../x".into())),
        ("generation 0", with(&|record| record.key_generation = 0)),
    ]
}

#[test]
fn a_senseless_peer_is_not_used_and_everything_else_of_the_snapshot_is() {
    let world = World::default();
    for (what, record) in senseless() {
        let mut acceptor = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
        let mut contents = world.contents(3);
        contents.add_peer(record).revoke(&world.cluster_ca, &[1]);
        let told = settle(&mut acceptor, Input::Updated(world.publish(V2, &contents, ISSUED).full()), 2);
        assert!(nack(&told).is_none(), "{what}: {told:?}");
        assert_eq!(active(&acceptor), Some(V2), "{what}");
        let sense = acceptor.sense().unwrap();
        let nine = NodeId::from_slice(&peer(9).node_id).unwrap();
        assert_eq!(sense.unused().keys().collect::<Vec<_>>(), [&nine], "{what}");
        assert!(sense.peer(nine).is_none() && sense.peers().count() == 2, "{what}");
        assert_eq!(acceptor.active().unwrap().contents().trust.revoked.len(), 1, "{what}");
        // Carried over, put right, and found again after a restart.
        let again = world.publish(HeadOrder::new(1, 3, 0), &contents, ISSUED);
        settle(&mut acceptor, Input::Updated(again.full()), 3);
        assert_eq!(acceptor.sense().unwrap().unused().len(), 1, "{what}");
        let stored = StoredSnapshot::of(acceptor.active().unwrap());
        let restarted = Acceptor::start(world.pinned(), acceptor.floors().clone(), &[stored], at(4));
        assert_eq!(restarted.sense().unwrap().unused(), acceptor.sense().unwrap().unused(), "{what}");
        contents.add_peer(peer(9));
        let right = world.publish(HeadOrder::new(1, 4, 0), &contents, ISSUED);
        settle(&mut acceptor, Input::Updated(right.full()), 5);
        assert!(acceptor.sense().unwrap().peer(nine).is_some(), "{what}");
    }
}

#[test]
fn a_senseless_own_address_or_pool_keeps_the_assignment_before() {
    let world = World::default();
    let contract = world.contract(&[1; 32], &[2; 32], &[3; 32]);
    let mut pinned = world.pinned();
    pinned.addresses = Some(OwnAddresses::of_contract(&contract).unwrap());
    let assignments = [
        ("10.0.0.1/8", "fd00::5/48", "a pool that the policy does not name"),
        ("10.0.0.1/0", "fd00::5/48", "everything"),
        ("127.0.0.1/8", "fd00::5/48", "the loopback network"),
        ("100.96.255.255/16", "fd00::5/48", "the broadcast address"),
        ("100.96.0.5/16", "::1/128", "the loopback address"),
    ];
    let cases = assignments.map(|(ipv4, ipv6, what)| {
        let mut contents = world.contents(2);
        let own =
            v1::NodeAssignment { overlay_ipv4: ipv4.into(), overlay_ipv6: ipv6.into(), ..world.assignment() };
        contents.put("assignment", Some(v1::chunk::Body::Assignment(own)));
        (what, contents)
    });
    let mut everything = world.contents(2);
    let pool = v1::PolicyChunk { overlay_ipv4_pool: "0.0.0.0/0".into(), ..world.policy() };
    everything.put("policy", Some(v1::chunk::Body::Policy(pool)));
    for (what, contents) in cases.into_iter().chain([("pool /0", everything)]) {
        // First of all snapshots: the contract's addresses count. After another one: those of that.
        for before in [false, true] {
            let mut acceptor = Acceptor::start(pinned.clone(), world.floors(), &[], at(0));
            if before {
                let first = world.publish(V1, &world.contents(2), ISSUED);
                settle(&mut acceptor, Input::Updated(first.full()), 1);
            }
            settle(&mut acceptor, Input::Updated(world.publish(V2, &contents, ISSUED).full()), 2);
            assert_eq!(active(&acceptor), Some(V2), "{what}");
            let sense = acceptor.sense().unwrap();
            assert!(sense.own_unused().is_some(), "{what}");
            assert_eq!(*sense.own().unwrap().texts(), ["100.96.0.5/16", "fd00::5/48"], "{what}");
            assert_eq!(sense.peers().count(), 2, "{what}: peers are judged by the pool in use");
        }
        // Without either there is nothing to route.
        let acceptor = accepted(&world, &world.publish(V2, &contents, ISSUED));
        let sense = acceptor.sense().unwrap();
        assert_eq!((sense.own(), sense.peers().count()), (None, 0), "{what}");
    }
}

#[test]
fn what_refuses_a_snapshot_does_not_hold_up_what_its_trust_set_revokes() {
    let world = World::default();
    let mut contradicting = world.contents(3);
    contradicting.revoke(&world.cluster_ca, &[1]);
    let shared = v1::PeerRecord { wireguard_public_key: peer(2).wireguard_public_key, ..peer(9) };
    contradicting.add_peer(shared);
    let mut malformed = world.contents(3);
    malformed
        .revoke(&world.cluster_ca, &[1])
        .add_peer(v1::PeerRecord { overlay_ipv4: "x".into(), ..peer(9) });
    for contents in [contradicting, malformed] {
        let mut acceptor = accepted(&world, &world.publish(V1, &world.contents(2), ISSUED));
        let told = settle(&mut acceptor, Input::Updated(world.publish(V2, &contents, ISSUED).full()), 2);
        let [Output::Restrict(early), Output::Refuse(_)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((early.trust.revoked.len(), early.order), (1, V2));
        assert_eq!(active(&acceptor), Some(V1), "nothing else of it counts");
        // A trust set that takes revocations back restricts nothing.
        let mut fewer = contents.clone();
        let mut revoked = world.contents(3);
        revoked.revoke(&world.cluster_ca, &[1, 3]);
        settle(&mut acceptor, Input::Updated(world.publish(V2, &revoked, ISSUED).full()), 3);
        fewer.chunks.insert("other".into(), Vec::new());
        let third = world.publish(HeadOrder::new(1, 3, 0), &fewer, ISSUED);
        let told = settle(&mut acceptor, Input::Updated(third.full()), 4);
        assert!(matches!(told.as_slice(), [Output::Refuse(_)]), "{told:?}");
    }
}

#[test]
fn a_peer_without_a_wireguard_key_is_used_and_has_no_tunnel() {
    let world = World::default();
    let mut contents = world.contents(1);
    contents.add_peer(v1::PeerRecord { wireguard_public_key: Vec::new(), ..peer(8) });
    contents.add_peer(v1::PeerRecord { wireguard_public_key: Vec::new(), ..peer(9) });
    let acceptor = accepted(&world, &world.publish(V1, &contents, ISSUED));
    assert_eq!(acceptor.sense().unwrap().peers().count(), 3);
    let own = acceptor.own_addresses(acceptor.active().unwrap()).unwrap();
    let inside =
        |ip: &str| own.pools().prefixes().iter().any(|net| net.contains(&ip.parse::<IpAddr>().unwrap()));
    assert!(inside("100.96.9.9") && inside("fd00::9") && !inside("8.8.8.8"));
}
