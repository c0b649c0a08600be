//! Break-glass grants on a node: once, for the right node and cluster, with a clock, told until confirmed.

mod support;

use std::sync::Arc;
use std::time::Duration;

use rap_contract::{Audience, BreakGlassText, Signer, sign};
use rap_trust::{Acceptor, BreakGlass, Input, Output, Sense, StoredBreakGlass};
use rap_types::{HeadOrder, NodeId, Reason, Wall};
use rap_wire::v1;
use support::{ISSUED, World, at, peer};
use v1::break_glass_grant::Permit;

const HOUR: Duration = Duration::from_secs(3600);

fn extend(until: Wall) -> Permit {
    Permit::ExtendDegraded(v1::ExtendDegraded { until_ms: until.0 })
}

fn of_authority(world: &World, nonce: u8, permit: Permit) -> String {
    let grant = world.grant(nonce, ISSUED, &world.authority, permit);
    BreakGlassText::new(sign(&grant, &[&world.authority]), vec![]).text()
}

fn of_root(world: &World, nonce: u8, permit: Permit) -> String {
    let grant = world.grant(nonce, ISSUED, &world.root, permit);
    BreakGlassText::new(sign(&grant, &[&world.root]), vec![world.root.public()]).text()
}

/// A peer that the snapshot lacks.
fn stranger() -> v1::PeerRecord {
    v1::PeerRecord {
        node_id: NodeId::from_bytes([77; 16]).to_vec(),
        name: "rescue".into(),
        node_key_sha256: vec![77; 32],
        wireguard_public_key: vec![78; 32],
        overlay_ipv4: "100.96.7.7".into(),
        overlay_ipv6: "fd00::77".into(),
        link_endpoints: vec!["192.0.2.77:7443".into()],
        wireguard_endpoints: vec!["192.0.2.77:51820".into()],
        key_generation: 1,
        ..Default::default()
    }
}

fn admit(record: v1::PeerRecord) -> Permit {
    Permit::PermitPeer(v1::PermitPeer { peer: Some(record) })
}

fn snapshot(world: &World, revoked: Vec<v1::RevokedNode>) -> Arc<Sense> {
    let mut contents = world.contents(2);
    let trust = v1::TrustChunk { cluster_ca: world.cluster_ca.clone(), revoked, ..Default::default() };
    contents.put(rap_contract::TRUST_SLOT, Some(v1::chunk::Body::Trust(trust)));
    let mut acceptor = Acceptor::start(world.pinned(), world.floors(), &[], at(0));
    acceptor.handle(Input::Updated(world.publish(HeadOrder::new(1, 1, 0), &contents, ISSUED).full()), at(1));
    let Some(Output::Persist(id, _)) = acceptor.poll_output() else { panic!("refused") };
    acceptor.handle(Input::Persisted(id), at(1));
    acceptor.sense().unwrap().clone()
}

fn start(world: &World) -> BreakGlass {
    BreakGlass::start(world.break_glass_pins(), StoredBreakGlass::default())
}

#[test]
fn an_extension_holds_until_its_instant_and_no_longer() {
    let world = World::default();
    let mut grants = start(&world);
    let until = ISSUED.plus(HOUR / 2);
    let admission = grants.judge(&of_authority(&world, 1, extend(until)), None, ISSUED).unwrap();
    assert_eq!(grants.extends_degraded(ISSUED), None, "not before it is on disk");
    grants.install(admission);
    assert_eq!(grants.extends_degraded(ISSUED), Some(until));
    assert_eq!(grants.next_end(ISSUED), Some(until));
    assert_eq!(grants.extends_degraded(Wall(until.0 - 1)), Some(until));
    assert_eq!(grants.extends_degraded(until), None, "ends by itself");
    assert_eq!(grants.next_end(until), Some(ISSUED.plus(HOUR)));
    assert_eq!(grants.next_end(ISSUED.plus(HOUR)), None);
}

#[test]
fn a_grant_of_the_product_root_needs_no_authority() {
    let world = World::default();
    let grants = start(&world);
    grants.judge(&of_root(&world, 1, extend(ISSUED.plus(HOUR))), None, ISSUED).unwrap();
    let eve = Signer::from_seed(&[99; 32]);
    let forged = world.grant(1, ISSUED, &eve, extend(ISSUED.plus(HOUR)));
    let forged = BreakGlassText::new(sign(&forged, &[&eve]), vec![eve.public()]).text();
    assert_eq!(grants.judge(&forged, None, ISSUED).unwrap_err().reason, Reason::KeyUnknown);
}

#[test]
fn replayed_expired_foreign_and_altered_grants_are_refused_with_their_reason() {
    let world = World::default();
    let mut grants = start(&world);
    let text = of_authority(&world, 1, extend(ISSUED.plus(HOUR)));
    let reason =
        |grants: &BreakGlass, text: &str, now: Wall| grants.judge(text, None, now).unwrap_err().reason;
    assert_eq!(reason(&grants, &text, ISSUED.plus(HOUR)), Reason::HeaderExpired);
    assert_eq!(reason(&grants, &text, Wall(ISSUED.0 - 120_000)), Reason::ClockSkew);
    let mut other_node = world.grant(2, ISSUED, &world.authority, extend(ISSUED.plus(HOUR)));
    let audience = rap_contract::HeaderTerms {
        audience: Audience::Node(NodeId::from_bytes([9; 16])),
        expires_at: Some(ISSUED.plus(HOUR)),
        ..world.header(HeadOrder::new(1, 0, 0), ISSUED)
    };
    other_node.header = Some(audience.to_wire());
    let other_node = BreakGlassText::new(sign(&other_node, &[&world.authority]), vec![]).text();
    assert_eq!(reason(&grants, &other_node, ISSUED), Reason::HeaderAudience);
    let elsewhere = World { cluster: rap_types::ClusterId::from_bytes([8; 16]), ..World::default() };
    let foreign = of_authority(&elsewhere, 3, extend(ISSUED.plus(HOUR)));
    assert_eq!(reason(&grants, &foreign, ISSUED), Reason::HeaderCluster);
    let mut altered = text.clone().into_bytes();
    altered[100] = if altered[100] == b'A' { b'B' } else { b'A' };
    assert!(grants.judge(&String::from_utf8(altered).unwrap(), None, ISSUED).is_err());

    let admission = grants.judge(&text, None, ISSUED).unwrap();
    let stored = admission.stored.clone();
    grants.install(admission);
    assert_eq!(reason(&grants, &text, ISSUED), Reason::BreakGlassReplayed);
    // Another document under the nonce of one that was applied.
    let twin = of_authority(&world, 1, extend(ISSUED.plus(HOUR / 2)));
    assert_eq!(reason(&grants, &twin, ISSUED), Reason::BreakGlassReplayed);
    // After a restart, too; and after it ended, was confirmed and was cleared away.
    let mut grants = BreakGlass::start(world.break_glass_pins(), stored);
    assert_eq!(reason(&grants, &text, ISSUED), Reason::BreakGlassReplayed);
    let told = grants.untold().next().unwrap();
    let digest = grants.views().next().unwrap().stored.digest;
    assert_eq!(told.applied_at_ms, ISSUED.0);
    assert!(grants.acknowledge(digest.as_bytes()) && grants.stored().held[0].acknowledged);
    assert!(!grants.acknowledge(digest.as_bytes()), "news once");
    assert_eq!(grants.untold().count(), 0);
    let later = ISSUED.plus(HOUR + HOUR);
    let second = world.grant(4, later, &world.authority, extend(later.plus(HOUR)));
    let second = BreakGlassText::new(sign(&second, &[&world.authority]), vec![]).text();
    let admission = grants.judge(&second, None, later).unwrap();
    assert_eq!((admission.stored.held.len(), admission.stored.spent.as_slice()), (1, [digest].as_slice()));
    grants.install(admission);
    assert_eq!(
        reason(&grants, &text, ISSUED),
        Reason::BreakGlassReplayed,
        "a clock set back revives nothing"
    );
}

#[test]
fn a_permitted_peer_adds_to_the_snapshot_and_takes_nothing_from_anybody() {
    let world = World::default();
    let active = snapshot(&world, Vec::new());
    let judge = |record: v1::PeerRecord| {
        let grants = start(&world);
        grants.judge(&of_root(&world, 1, admit(record)), Some(&active), ISSUED).map(drop)
    };
    assert_eq!(judge(stranger()), Ok(()));
    let known = v1::PeerRecord { link_endpoints: vec!["198.51.100.1:7443".into()], ..peer(1) };
    assert_eq!(judge(known), Ok(()), "other endpoints of a known peer");
    let thefts = [
        ("this node", v1::PeerRecord { node_id: world.node.to_vec(), ..stranger() }),
        ("own key", v1::PeerRecord { wireguard_public_key: world.wireguard_key.to_vec(), ..stranger() }),
        ("own address", v1::PeerRecord { overlay_ipv4: "100.96.0.5".into(), ..stranger() }),
        ("a peer's address", v1::PeerRecord { overlay_ipv6: peer(2).overlay_ipv6, ..stranger() }),
        ("a peer's key", v1::PeerRecord { wireguard_public_key: peer(2).wireguard_public_key, ..stranger() }),
        ("another key for a peer", v1::PeerRecord { node_key_sha256: vec![66; 32], ..peer(1) }),
        ("an address of others", v1::PeerRecord { overlay_ipv4: "192.0.2.1".into(), ..stranger() }),
        ("the network's address", v1::PeerRecord { overlay_ipv4: "100.96.0.0".into(), ..stranger() }),
        ("the broadcast address", v1::PeerRecord { overlay_ipv4: "100.96.255.255".into(), ..stranger() }),
        ("this node's name", v1::PeerRecord { name: "own".into(), ..stranger() }),
        ("a peer's name", v1::PeerRecord { name: peer(2).name, ..stranger() }),
        ("a default route in disguise", v1::PeerRecord { overlay_ipv6: "::".into(), ..stranger() }),
    ];
    for (what, record) in thefts {
        assert_eq!(judge(record).unwrap_err().reason, Reason::BreakGlassConflict, "{what}");
    }
    let grants = start(&world);
    let text = of_root(&world, 1, admit(stranger()));
    assert_eq!(grants.judge(&text, None, ISSUED).unwrap_err().reason, Reason::SnapshotAbsent);
}

#[test]
fn a_grant_with_a_senseless_peer_is_refused_like_any_record() {
    let world = World::default();
    let active = snapshot(&world, Vec::new());
    let senseless = [
        ("an all-zero key", v1::PeerRecord { wireguard_public_key: vec![0; 32], ..stranger() }),
        ("no key", v1::PeerRecord { wireguard_public_key: Vec::new(), ..stranger() }),
        ("a path as name", v1::PeerRecord { name: "../../x".into(), ..stranger() }),
        ("generation 0", v1::PeerRecord { key_generation: 0, ..stranger() }),
        (
            "a metadata service",
            v1::PeerRecord { link_endpoints: vec!["169.254.169.254:80".into()], ..stranger() },
        ),
        ("port 0", v1::PeerRecord { wireguard_endpoints: vec!["192.0.2.1:0".into()], ..stranger() }),
    ];
    for (what, record) in senseless {
        let text = of_root(&world, 1, admit(record));
        let refused = start(&world).judge(&text, Some(&active), ISSUED).unwrap_err();
        assert_eq!(refused.reason, Reason::PayloadMalformed, "{what}");
    }
    // Who was revoked does not come back by a grant: not under another generation, and not under another id.
    let revoked =
        v1::RevokedNode { node_id: stranger().node_id, node_key_sha256: vec![77; 32], key_generation: 1 };
    let active = snapshot(&world, vec![revoked]);
    let other = v1::PeerRecord { node_key_sha256: vec![79; 32], key_generation: 9, ..stranger() };
    let renamed = v1::PeerRecord { node_id: vec![76; 16], ..stranger() };
    for record in [other, renamed] {
        let text = of_root(&world, 1, admit(record));
        let refused = start(&world).judge(&text, Some(&active), ISSUED).unwrap_err();
        assert_eq!(refused.reason, Reason::NodeRevoked);
    }
}

#[test]
fn a_dropped_grant_ends_at_once_makes_room_and_is_still_told() {
    let world = World::default();
    let active = snapshot(&world, Vec::new());
    let mut grants = start(&world);
    let admission = grants.judge(&of_root(&world, 1, admit(stranger())), Some(&active), ISSUED).unwrap();
    let digest = admission.grant.digest();
    grants.install(admission);
    for nonce in 2..=64 {
        let text = of_authority(&world, nonce, extend(ISSUED.plus(HOUR)));
        let admission = grants.judge(&text, None, ISSUED).unwrap();
        grants.install(admission);
    }
    let one_more = of_authority(&world, 65, extend(ISSUED.plus(HOUR)));
    assert_eq!(grants.judge(&one_more, None, ISSUED).unwrap_err().reason, Reason::StateFull);
    let named = digest.to_string();
    assert_eq!(grants.discard("0").unwrap_err().reason, Reason::BreakGlassAbsent, "8 digits at least");
    assert_eq!(grants.discard(&named[..12]), Ok(digest));
    assert_eq!(grants.discard(&named).unwrap_err().reason, Reason::BreakGlassAbsent, "once");
    assert_eq!(grants.permitted(&active, ISSUED), []);
    assert_eq!(grants.running(ISSUED).len(), 63);
    let admission = grants.judge(&one_more, None, ISSUED).unwrap();
    grants.install(admission);
    // After a restart it is still over, cannot be applied again, and the control plane still hears of its use.
    let grants = BreakGlass::start(world.break_glass_pins(), grants.stored());
    assert_eq!(grants.permitted(&active, ISSUED), []);
    assert_eq!(grants.untold().count(), 65);
    let again = grants.judge(&of_root(&world, 1, admit(stranger())), Some(&active), ISSUED);
    assert_eq!(again.unwrap_err().reason, Reason::BreakGlassReplayed);
}

#[test]
fn a_permit_ends_with_its_grant_and_with_a_revocation() {
    let world = World::default();
    let active = snapshot(&world, Vec::new());
    let mut grants = start(&world);
    let text = of_root(&world, 1, admit(stranger()));
    let admission = grants.judge(&text, Some(&active), ISSUED).unwrap();
    grants.install(admission);
    let permitted = grants.permitted(&active, ISSUED);
    assert_eq!((permitted.len(), permitted[0].until), (1, ISSUED.plus(HOUR)));
    assert_eq!(grants.running(ISSUED).len(), 1);
    assert_eq!(grants.permitted(&active, ISSUED.plus(HOUR)), []);
    assert_eq!(grants.running(ISSUED.plus(HOUR)), []);
    let revoked =
        v1::RevokedNode { node_id: stranger().node_id, node_key_sha256: vec![77; 32], key_generation: 1 };
    let later = snapshot(&world, vec![revoked]);
    assert_eq!(grants.permitted(&later, ISSUED), [], "a revocation wins");
    assert_eq!(start(&world).judge(&text, Some(&later), ISSUED).unwrap_err().reason, Reason::NodeRevoked);
}

#[test]
fn a_grant_of_an_authority_that_was_replaced_permits_nothing_and_is_still_told() {
    let world = World::default();
    let grants = start(&world);
    let admission = grants.judge(&of_authority(&world, 1, extend(ISSUED.plus(HOUR))), None, ISSUED).unwrap();
    let rotated = World { authority: Signer::from_seed(&[200; 32]), ..World::default() };
    let grants = BreakGlass::start(rotated.break_glass_pins(), admission.stored);
    assert_eq!(grants.extends_degraded(ISSUED), None);
    assert_eq!(grants.untold().count(), 1);
    // The same while it runs.
    let mut grants = start(&world);
    let admission = grants.judge(&of_authority(&world, 1, extend(ISSUED.plus(HOUR))), None, ISSUED).unwrap();
    grants.install(admission);
    grants.follow(world.authority.public());
    assert!(grants.extends_degraded(ISSUED).is_some());
    grants.follow(rotated.authority.public());
    assert_eq!((grants.extends_degraded(ISSUED), grants.untold().count()), (None, 1));
}
