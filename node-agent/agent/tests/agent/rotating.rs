//! Keys that are replaced, by hand and by age, also if an attempt is cut off.

use crate::fake::agent::{Host, kill, terminate};
use crate::fake::plane::Plane;
use crate::*;
use rap_types::Reason;

/// A version for the node with the keys it last asked for.
fn republish(control: &Control, order: HeadOrder, max_age: Duration) {
    let world = control.world.lock().unwrap();
    let state = control.state.lock().unwrap();
    let joined = state.joins.last().unwrap().node_public_key.clone();
    let rotated = state.rotations.iter().rev().find(|one| !one.new_node_public_key.is_empty());
    let node_key = rotated.map_or(joined, |one| one.new_node_public_key.clone());
    let mut contents = world.contents(1);
    let mut assignment = world.assignment();
    assignment.node_key_sha256 = rap_types::KeyId::of(&node_key).to_vec();
    contents.put("assignment", Some(v1::chunk::Body::Assignment(assignment)));
    let policy = v1::PolicyChunk { wireguard_key_max_age_ms: max_age.as_millis() as u64, ..world.policy() };
    contents.put("policy", Some(v1::chunk::Body::Policy(policy)));
    let fresh_until = now().plus(Duration::from_secs(300)).0;
    let published = world.publish_as(order, &contents, now(), |head| head.fresh_until_ms = fresh_until);
    drop(state);
    control.say(update(&published));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_keys_are_replaced_under_a_running_data_plane_and_survive_a_restart() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    republish(control, HeadOrder::new(1, 1, 0), Duration::ZERO);
    let agent = host.agent().await;
    host.status_when("healthy", |status| status["state"] == "healthy").await;
    let before = plane.table.borrow().clone().unwrap().wireguard_private_key.clone();
    let rotated = host.run(&["key", "rotate", "--json"]).await.expect(0).json();
    assert_eq!((&rotated["schema"], &rotated["key_generation"]), (&"rap.key-rotate.v1".into(), &2.into()));
    // It goes on with the version it has, and takes the one with its new keys.
    republish(control, HeadOrder::new(1, 2, 0), Duration::ZERO);
    host.status_when("version 2", |status| status["active"]["sequence"] == 2 && status["state"] == "healthy")
        .await;
    let mut tables = plane.table.clone();
    let swapped =
        tables.wait_for(|table| table.as_ref().is_some_and(|table| table.wireguard_private_key != before));
    tokio::time::timeout(crate::fake::agent::DEADLINE, swapped).await.expect("a new key").unwrap();
    assert_eq!(control.state.lock().unwrap().certificates, 2, "a leaf of the new generation");
    kill(agent).await;
    let agent = host.agent().await;
    host.status_when("again", |status| status["active"]["sequence"] == 2 && status["state"] == "healthy")
        .await;
    host.run(&["snapshot", "verify"]).await.expect(0);
    terminate(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_was_cut_off_goes_on_with_the_same_keys() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    control.state.lock().unwrap().refuse = Some(Reason::ServerUnavailable);
    host.run(&["key", "rotate", "--identity"]).await.expect(6);
    let first = std::fs::read_to_string(host.data().join("default/keys.json")).unwrap();
    host.run(&["key", "rotate", "--identity"]).await.expect(6);
    let second = std::fs::read_to_string(host.data().join("default/keys.json")).unwrap();
    assert_eq!(first, second, "the keys of the first attempt");
    control.state.lock().unwrap().refuse = None;
    host.run(&["key", "rotate", "--identity"]).await.expect(0);
    assert_eq!(control.state.lock().unwrap().rotations.len(), 1);
    assert!(
        !std::fs::read_to_string(host.data().join("default/keys.json")).unwrap().contains("\"node_key\"")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_as_old_as_policy_allows_are_replaced_without_being_asked() {
    let host = Host::new();
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    republish(control, HeadOrder::new(1, 1, 0), Duration::from_millis(1));
    let agent = host.agent().await;
    let rotated = async {
        while control.state.lock().unwrap().rotations.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::fake::agent::DEADLINE, rotated).await.expect("a rotation");
    let rotation = control.state.lock().unwrap().rotations[0].clone();
    assert!(rotation.new_node_public_key.is_empty() && rotation.new_wireguard_public_key.len() == 32);
    terminate(agent).await;
}
