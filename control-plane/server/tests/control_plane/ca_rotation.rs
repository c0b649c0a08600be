//! The CA of a cluster is replaced: both count, then the newer signs, then the older ends.

use crate::authority::Node;
use crate::host::Host;
use crate::world::{World, reason};
use rap_contract::VerifiedBootstrap;
use rap_control_plane::keys::data_keys::DataKeyOpener;
use rap_runtime::tls::fingerprint;
use rap_types::{Digest, Reason};
use rap_wire::v1;
use rap_wire::v1::ClusterCaStep;

async fn take(world: &World, step: ClusterCaStep) -> Result<v1::ClusterCaAnswer, Reason> {
    let request = v1::ClusterCaRequest { cluster: "prod".into(), step: step.into(), reason: "test".into() };
    let answer = world.authority().await.cluster_ca_rotate(world.request(request)).await;
    answer.map(tonic::Response::into_inner).map_err(reason)
}

async fn shown(world: &World) -> v1::ClusterCaAnswer {
    let request = world.request(v1::ClusterRef { cluster: "prod".into() });
    world.authority().await.cluster_ca_show(request).await.unwrap().into_inner()
}

/// Waits until the rotation is in this stage: contacts are written a moment after they happen.
async fn until_stage(world: &World, stage: &str) -> v1::ClusterCaAnswer {
    for _ in 0..1200 {
        let now = shown(world).await;
        if now.stage == stage {
            return now;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the rotation is not {stage}: {:?}", shown(world).await);
}

fn states(answer: &v1::ClusterCaAnswer) -> Vec<(u64, &str)> {
    answer.cas.iter().map(|ca| (ca.generation, ca.state.as_str())).collect()
}

fn missing(answer: &v1::ClusterCaAnswer) -> Vec<&str> {
    answer.nodes.iter().filter(|node| node.missing).map(|node| node.name.as_str()).collect()
}

/// Certificates of the CAs of the newest snapshot of a node: (older, newer, the newer one signs).
fn named(node: &Node) -> (Digest, Option<Digest>, bool) {
    let trust = &node.acceptor.active().unwrap().contents().trust;
    let digest = |der: &Vec<u8>| Digest::of(&[der]);
    let next = (!trust.next_cluster_ca.is_empty()).then(|| digest(&trust.next_cluster_ca));
    (digest(&trust.cluster_ca), next, trust.next_ca_issues)
}

/// Another certificate, and which CA signed it.
async fn certified(world: &World, node: &mut Node, bootstrap: &VerifiedBootstrap) -> Digest {
    let (slot, answer) = node.host.certificate(world, bootstrap).await.unwrap();
    node.slot = slot;
    fingerprint(&answer.cluster_ca.into())
}

/// A member of the cluster `prod` that holds its first snapshot.
async fn member(world: &World) -> (Node, VerifiedBootstrap) {
    let host = Host::new(&world.token("prod", 1, true).await, "one");
    let bootstrap = host.enrol(world).await;
    let mut one = Node::of(world, host, &bootstrap).await;
    one.wake(world).await;
    one.until(|acceptor| acceptor.active().is_some()).await;
    (one, bootstrap)
}

#[tokio::test]
async fn every_node_trusts_both_cas_before_the_newer_signs_and_the_older_ends_when_all_have_moved() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let (mut one, bootstrap) = member(&world).await;
    let old = named(&one).0;
    assert_eq!(take(&world, ClusterCaStep::Advance).await.unwrap_err(), Reason::CaState);

    let begun = take(&world, ClusterCaStep::Begin).await.unwrap();
    assert_eq!(states(&begun), [(1, "active"), (2, "prepared")]);
    let new = Digest::of(&[&begun.cas[1].certificate]);
    assert_eq!((begun.stage.as_str(), missing(&begun)), ("introducing", vec!["one"]));
    assert_eq!(take(&world, ClusterCaStep::Begin).await.unwrap_err(), Reason::CaState);
    assert_eq!(
        certified(&world, &mut one, &bootstrap).await,
        old,
        "nobody is shown a leaf it does not trust"
    );
    let old_slot = one.slot.clone();

    // It acknowledges the snapshot that names both, and nothing else holds the rotation up.
    one.until(|acceptor| !acceptor.active().unwrap().contents().trust.next_cluster_ca.is_empty()).await;
    assert_eq!(named(&one), (old, Some(new), false));
    let moving = until_stage(&world, "moving").await;
    assert_eq!((states(&moving), missing(&moving)), (vec![(1, "tainted"), (2, "active")], vec!["one"]));
    one.until(|acceptor| acceptor.active().unwrap().contents().trust.next_ca_issues).await;
    assert_eq!(certified(&world, &mut one, &bootstrap).await, new);
    assert!(!one.host.is_refused(&world, &old_slot).await, "both count");

    // Shown on a stream, the new certificate is the confirmation; operators see how many there are.
    one.wake(&world).await;
    for _ in 0..400 {
        if missing(&shown(&world).await).is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let request = world.request(v1::ClusterRef { cluster: "prod".into() });
    let cluster = world.admin().await.cluster_show(request).await.unwrap().into_inner();
    let counted = cluster.ca_rotation.unwrap();
    assert_eq!((counted.stage.as_str(), counted.members, counted.confirmed), ("moving", 1, 1));
    let ended = take(&world, ClusterCaStep::Advance).await.unwrap();
    assert_eq!((states(&ended), ended.stage.as_str()), (vec![(2, "active")], "single"));
    one.until(|acceptor| acceptor.active().unwrap().contents().trust.next_cluster_ca.is_empty()).await;
    assert_eq!(named(&one), (new, None, false));
    assert!(one.host.is_refused(&world, &old_slot).await, "a leaf of the old CA");
    assert!(!one.host.is_refused(&world, &one.slot).await, "a leaf of the new one");
    world.stop().await;
}

#[tokio::test]
async fn a_live_stream_ends_with_the_ca_of_its_certificate() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let (mut one, bootstrap) = member(&world).await;
    take(&world, ClusterCaStep::Begin).await.unwrap();
    // Without the node that is missing, twice.
    assert_eq!(take(&world, ClusterCaStep::Advance).await.unwrap().stage, "moving");
    assert_eq!(take(&world, ClusterCaStep::Advance).await.unwrap().stage, "single");
    let stream = one.stream.as_mut().unwrap();
    let end = loop {
        if let Err(status) = stream.next().await {
            break reason(status);
        }
    };
    assert_eq!(end, Reason::CertificateInvalid);
    // The way back: a certificate is given on proof of the identity key, without a stream.
    certified(&world, &mut one, &bootstrap).await;
    one.wake(&world).await;
    one.until(|acceptor| acceptor.active().unwrap().contents().trust.next_cluster_ca.is_empty()).await;
    world.stop().await;
}

#[tokio::test]
async fn an_aborted_rotation_leaves_the_ca_before_and_no_key_of_the_other() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let before = shown(&world).await.cas[0].certificate.clone();
    take(&world, ClusterCaStep::Begin).await.unwrap();
    let back = take(&world, ClusterCaStep::Abort).await.unwrap();
    assert_eq!((states(&back), back.stage.as_str()), (vec![(1, "active")], "single"));
    assert_eq!(take(&world, ClusterCaStep::Abort).await.unwrap_err(), Reason::CaState);
    // After the newer one has signed the way back is a rotation of its own.
    assert_eq!(states(&take(&world, ClusterCaStep::Begin).await.unwrap())[1], (3, "prepared"));
    until_stage(&world, "moving").await;
    let returning = take(&world, ClusterCaStep::Abort).await.unwrap();
    assert_eq!(states(&returning), [(1, "active"), (3, "tainted")]);
    assert_eq!(take(&world, ClusterCaStep::Abort).await.unwrap_err(), Reason::CaState);
    let single = take(&world, ClusterCaStep::Advance).await.unwrap();
    assert_eq!((states(&single), &single.cas[0].certificate), (vec![(1, "active")], &before));
    // Nothing that could sign is left of the others, and a planted state is found.
    let mut snapshot = world.running.replica.database.store.system().begin_snapshot().await.unwrap();
    let keyring: DataKeyOpener = world.running.replica.keys.keyring(&world.running.replica.database.floors);
    let id = rap_types::ClusterId::from_slice(&single.cluster_id).unwrap();
    let rows = keyring.rows(id, &keyring.read(&mut snapshot, id).await.unwrap());
    let all = rap_store::cluster_cas_list(&mut snapshot, &rows).await.unwrap();
    let sealed: Vec<bool> = all.iter().map(|row| row.sealed_key.is_some()).collect();
    assert_eq!(sealed, [true, false, false]);
    drop(snapshot);
    let lie = "UPDATE cluster_cas SET state = 'prepared' WHERE generation = 1";
    world.database.as_ref().unwrap().tamper_all(&["cluster_cas"], lie).await;
    assert_eq!(take(&world, ClusterCaStep::Begin).await.unwrap_err(), Reason::RowTampered);
    world.stop().await;
}

#[tokio::test]
async fn another_replica_goes_on_with_a_rotation_whose_replica_ended() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let other = world.replica().await;
    take(&world, ClusterCaStep::Begin).await.unwrap();
    let first = world.through(other);
    first.stop().await;
    // Nobody is missing: no node joined yet.
    let moving = until_stage(&world, "moving").await;
    assert_eq!(states(&moving), [(1, "tainted"), (2, "active")]);
    world.stop().await;
}
