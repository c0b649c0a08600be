//! Nodes that hold checkpoints, and what their memory of another history leads to.

use rap_contract::{Checkpoint, LogKeyChain, check_audit_consistency};
use rap_types::{Digest, Reason};
use rap_wire::v1;

use super::{covered, digests, stopped};
use crate::host::{hello, member};
use crate::world::World;

/// The next checkpoint that a node is shown.
async fn shown(stream: &mut crate::host::NodeStream) -> v1::AuditWitness {
    loop {
        if let v1::control_message::Body::Checkpoint(shown) = stream.any().await.unwrap() {
            return shown;
        }
    }
}

#[tokio::test]
async fn nodes_are_witnesses_and_a_checkpoint_above_the_database_is_an_alarm() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let mut stream = host.stream(&world, &slot, hello()).await;
    let first = shown(&mut stream).await;
    let facts = &world.running.replica.keys.installation.facts;
    let installation_authority = bootstrap.installation_authority;
    assert_eq!(installation_authority, facts.authority, "pinned by the contract");
    let log =
        LogKeyChain::verify(&first.log_key_records, &installation_authority, facts.id, &["dev"]).unwrap();
    let held = Checkpoint::open(&first.checkpoint, &log).unwrap();
    // More happens; the next one continues the first.
    world.token("prod", 1, false).await;
    covered(&world.running).await;
    let second = shown(&mut stream).await;
    let next = Checkpoint::open(&second.checkpoint, &log).unwrap();
    let proof = digests(&second.consistency);
    check_audit_consistency((held.size, held.root), (next.size, next.root), &proof).unwrap();
    drop(stream);

    // It comes back and is shown what continues the one it holds.
    let again = v1::NodeHello { newest_checkpoint: second.checkpoint, ..hello() };
    let mut stream = host.stream(&world, &slot, again).await;
    world.token("prod", 1, false).await;
    covered(&world.running).await;
    let third = shown(&mut stream).await;
    let proof = digests(&third.consistency);
    let newest = Checkpoint::open(&third.checkpoint, &log).unwrap();
    check_audit_consistency((next.size, next.root), (newest.size, newest.root), &proof).unwrap();
    drop(stream);
    let key = world.running.replica.keys.kek.clone();
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let row = rap_store::log_keys(&mut transaction).await.unwrap().remove(0);
    drop(transaction);
    let seed = rap_control_plane::keys::seal_context::Sealed::LogKey(1)
        .open32(&key, facts.id, &row.sealed_private_key)
        .unwrap();
    let stolen = rap_contract::Signer::from_seed(&seed);
    let above = Checkpoint { generation: 1, size: newest.size + 50, root: Digest::of(&[b"later"]) };
    let above = v1::NodeHello { newest_checkpoint: above.sign(facts.id, &stolen), ..hello() };
    let stream = host.stream(&world, &slot, above).await;
    stopped(&world.running, Reason::AuditRollback).await;
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn a_checkpoint_of_another_history_that_a_node_holds_is_an_alarm() {
    let world = World::dev().await;
    let (host, _, slot) = member(&world).await;
    covered(&world.running).await;
    let facts = &world.running.replica.keys.installation.facts;
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let row = rap_store::log_keys(&mut transaction).await.unwrap().remove(0);
    drop(transaction);
    let seed = rap_control_plane::keys::seal_context::Sealed::LogKey(1)
        .open32(&world.running.replica.keys.kek, facts.id, &row.sealed_private_key)
        .unwrap();
    let key = rap_contract::Signer::from_seed(&seed);
    // Nobody's signature: looked at and passed over.
    let strange = Checkpoint { generation: 1, size: 2, root: Digest::of(&[b"other"]) };
    let note = strange.sign(facts.id, &rap_contract::Signer::from_seed(&[9; 32]));
    let mut stream = host.stream(&world, &slot, v1::NodeHello { newest_checkpoint: note, ..hello() }).await;
    // The control plane greets after it has judged what the node shows.
    assert!(matches!(stream.next().await.unwrap(), v1::control_message::Body::Hello(_)));
    assert_eq!(world.running.replica.audit.status().state, "ok");
    drop(stream);
    let note = strange.sign(facts.id, &key);
    let stream = host.stream(&world, &slot, v1::NodeHello { newest_checkpoint: note, ..hello() }).await;
    stopped(&world.running, Reason::AuditInconsistent).await;
    drop(stream);
    world.stop().await;
}
