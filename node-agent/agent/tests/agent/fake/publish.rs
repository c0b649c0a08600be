//! Tokens and versions of the cluster that a [`Control`] speaks for.

use std::time::Duration;

use rap_contract::{JoinTokenText, join_secret_hash, sign};
use rap_runtime::Clock;
use rap_types::{HeadOrder, Wall};
use rap_wire::v1;
use v1::control_message;

use super::control::Control;
use crate::support::{Contents, Published, SECRET};

pub fn now() -> Wall {
    Clock::new().now().wall
}

/// The world's token, valid now.
pub fn token(control: &Control) -> JoinTokenText {
    let world = control.world.lock().unwrap();
    let mut token = world.join_token();
    let header = token.header.as_mut().unwrap();
    (header.issued_at_ms, header.expires_at_ms) = (now().0 - 1_000, now().0 + 3_600_000);
    token.secret_hash = join_secret_hash(&SECRET).to_vec();
    JoinTokenText::new(sign(&token, &[&world.authority]), SECRET)
}

/// Takes the keys that the node made for itself into the world, so that snapshots are for it.
pub fn adopt_keys(control: &Control) {
    let state = control.state.lock().unwrap();
    let join = state.joins.last().unwrap();
    let mut world = control.world.lock().unwrap();
    world.wireguard_key = join.wireguard_public_key.clone().try_into().unwrap();
}

/// A version for the node that joined. Its identity key is known to it alone.
pub fn publish(control: &Control, order: HeadOrder, peers: u8, fresh_for: Duration) -> Published {
    publish_with(control, order, peers, fresh_for, &[])
}

/// As [`publish`], with these peers revoked.
pub fn publish_with(
    control: &Control,
    order: HeadOrder,
    peers: u8,
    fresh_for: Duration,
    revoked: &[u8],
) -> Published {
    let mut contents = control.world.lock().unwrap().contents(peers);
    if !revoked.is_empty() {
        contents.revoke(&control.world.lock().unwrap().cluster_ca, revoked);
    }
    publish_contents(control, order, contents, fresh_for)
}

/// As [`publish`], with these contents.
pub fn publish_contents(
    control: &Control,
    order: HeadOrder,
    mut contents: Contents,
    fresh_for: Duration,
) -> Published {
    let world = control.world.lock().unwrap();
    let node_key = control.state.lock().unwrap().joins.last().unwrap().node_public_key.clone();
    let mut assignment = world.assignment();
    assignment.node_key_sha256 = rap_types::KeyId::of(&node_key).to_vec();
    contents.put("assignment", Some(v1::chunk::Body::Assignment(assignment)));
    let fresh_until = now().plus(fresh_for).0;
    world.publish_as(order, &contents, now(), |head| head.fresh_until_ms = fresh_until)
}

pub fn update(published: &Published) -> Vec<control_message::Body> {
    let hello = v1::ControlHello {
        protocol: 1,
        server_time_ms: now().0,
        report_interval_ms: 1_000,
        ..Default::default()
    };
    vec![control_message::Body::Hello(hello), control_message::Body::Update(published.full())]
}
