//! Another data key for a cluster that is served: cut off after every stage, with rows that somebody
//! altered, beside writers, and with replicas that have not heard of it.

use std::time::Duration;

use rap_control_plane::acts::rotate_data_key::{Rotated, rotate};
use rap_control_plane::database::change::{Acting, Pending};
use rap_control_plane::failure::Failure;
use rap_control_plane::keys::key_ring::Stage;
use rap_control_plane::keys::seal_context::Sealed;
use rap_control_plane::keys::secrets::Secrets;
use rap_control_plane::replica::Replica;

use rap_store::{AuditFilter, DekRow, cluster_read, dek_insert, deks_list, policy_upsert, rows_look};
use rap_types::{ClusterId, NodeId, Reason, RequestId};
use rap_wire::v1;
use serde_json::json;

use crate::host::{Host, NodeStream, hello};
use crate::world::{World, reason};

pub fn acting(replica: &Replica) -> Acting {
    Acting {
        actor: "operator:test".into(),
        pen: replica.keys.pen.clone(),
        call: RequestId::from_bytes([7; 16]),
        reason: "drill".into(),
        dry_run: false,
        pending: Pending::default(),
        claim: Default::default(),
    }
}

pub async fn go(world: &World, id: ClusterId, until: Stage) -> Result<Rotated, Failure> {
    let replica = &world.running.replica;
    rotate(&replica.serving, id, &acting(replica), until).await
}

/// A cluster with a row in every table that has MACs, and every secret that there is.
pub async fn filled(world: &World) -> (ClusterId, v1::TokenCreateAnswer) {
    let cluster = world.cluster("prod").await;
    let id = ClusterId::from_slice(&cluster.cluster_id).unwrap();
    let token = world.token("prod", 1_000, true).await;
    let change = v1::MembershipPolicySetRequest {
        cluster: "prod".into(),
        ephemeral_after_ms: Some(600_000),
        ..Default::default()
    };
    world.membership().await.policy_set(world.request(change)).await.unwrap();
    let prepare = v1::AuthorityKeyRequest { cluster: "prod".into(), ..Default::default() };
    world.authority().await.authority_prepare(world.request(prepare)).await.unwrap();
    (id, token)
}

pub async fn stored(replica: &Replica, id: ClusterId) -> Vec<DekRow> {
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    deks_list(&mut snapshot, id).await.unwrap()
}

pub fn versions(stored: &[DekRow]) -> Vec<u64> {
    stored.iter().map(|dek| dek.key_version).collect()
}

/// Every row and secret of the cluster opens under the newest data key alone.
pub async fn is_whole_under_newest(replica: &Replica, id: ClusterId) -> u64 {
    let keyring = replica.keys.keyring(&replica.database.floors);
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    let alone = keyring.read(&mut snapshot, id).await.unwrap().newest_alone();
    let rows = keyring.rows(id, &alone);
    let seen = rows_look(&mut snapshot, &rows).await.unwrap();
    assert!(seen.tampered.is_empty() && seen.unsealed.is_empty(), "{seen:?}");
    let installation = replica.keys.installation.facts.id;
    let secrets = Secrets::of_cluster(&mut snapshot, installation, &rows).await.unwrap();
    secrets.open_all((&alone).into()).unwrap();
    assert!(secrets.are_under_newest((&alone).into()));
    seen.sound
}

#[tokio::test]
async fn a_rotation_that_is_cut_off_anywhere_goes_on_and_at_the_end_the_old_key_opens_nothing() {
    let mut world = World::dev().await;
    let (id, token) = filled(&world).await;
    Host::new(&token, "first").enrol(&world).await;
    let old = stored(&world.running.replica, id).await;
    let map_key_before = {
        let mut snapshot = world.running.replica.database.store.system().begin_snapshot().await.unwrap();
        let keyring = world.running.replica.keys.keyring(&world.running.replica.database.floors);
        let keys = keyring.read(&mut snapshot, id).await.unwrap();
        let row = cluster_read(&mut snapshot, &keyring.rows(id, &keys)).await.unwrap().unwrap();
        (keys, row.cluster.sealed_map_key)
    };
    for stage in [Stage::Added, Stage::Secrets, Stage::Rows, Stage::Retired] {
        // Twice: what one run did, the next one finds done.
        for run in 0..2 {
            if (stage, run) == (Stage::Retired, 1) {
                continue;
            }
            let rotated = go(&world, id, stage).await.unwrap();
            assert_eq!((rotated.version, rotated.replaced), (2, 1), "{stage:?}");
            assert_eq!(rotated.resumed, (stage, run) != (Stage::Added, 0), "{stage:?}");
        }
        let live = stored(&world.running.replica, id).await;
        assert_eq!(versions(&live), if stage == Stage::Retired { vec![2] } else { vec![1, 2] });
        // A control plane that starts now serves the cluster, signs for it and seals in it.
        let started = world.replica().await;
        world.through(started).stop().await;
        world.login().await.unwrap();
        Host::new(&token, &format!("{stage:?}").to_lowercase()).enrol(&world).await;
        let reference = v1::ClusterRef { cluster: "prod".into() };
        let answer = world.authority().await.authority_list(world.request(reference)).await.unwrap();
        assert_eq!(answer.into_inner().keys.len(), 2);
    }
    let replica = &world.running.replica;
    is_whole_under_newest(replica, id).await;
    // The old key, kept by whoever stole it, opens nothing any more.
    let (old_keys, sealed_before) = map_key_before;
    let installation = replica.keys.installation.facts.id;
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    let keyring = replica.keys.keyring(&replica.database.floors);
    let row = cluster_read(&mut snapshot, &replica.serving.clusters.by_id(id).unwrap().rows)
        .await
        .unwrap()
        .unwrap();
    drop(snapshot);
    assert!(Sealed::MapKey(id).open32(&old_keys, installation, &sealed_before).is_ok());
    assert!(Sealed::MapKey(id).open32(&old_keys, installation, &row.cluster.sealed_map_key).is_err());
    // Nor does it return when its wrapped form is put back: rows under it are not as they were written.
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    dek_insert(&mut transaction, &old[0]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(versions(&stored(replica, id).await), vec![1, 2]);
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    let both = keyring.read(&mut transaction, id).await.unwrap();
    assert_eq!((both.oldest_version(), both.newest().0), (2, 2));
    let forged = rap_authority::RowKeys::of_data_keys(installation, id, &old_keys, None);
    policy_upsert(&mut transaction, &forged, "forged", &json!({ "by": "a thief" })).await.unwrap();
    let rows = keyring.rows(id, &both);
    let seen = rows_look(&mut transaction, &rows).await.unwrap();
    assert_eq!(seen.tampered.len(), 1, "{seen:?}");
    assert_eq!(
        rap_store::policies_list(&mut transaction, &rows).await.unwrap_err().reason(),
        Reason::RowTampered
    );
    drop(transaction);
    // The next rotation removes what was put back, with the version that it replaces.
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!((rotated.version, rotated.replaced), (3, 2));
    assert_eq!(versions(&stored(replica, id).await), vec![3]);
    world.stop().await;
}

#[tokio::test]
async fn an_operator_rotates_while_nodes_at_two_replicas_go_on() {
    let mut world = World::dev().await;
    let (id, token) = filled(&world).await;
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;
    let second = world.replica().await;
    // The node is at the second replica; operators are at the first.
    let first = world.through(second);
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    let update = stream.update().await;
    assert!(update.full);
    acknowledge(&world, &stream, id, bootstrap.node).await;
    let mut second = world.through(first);

    for round in 1..=2u32 {
        let request = v1::DataKeyRotateRequest { cluster: "prod".into(), reason: "yearly".into() };
        let answer =
            world.authority().await.data_key_rotate(world.request(request)).await.unwrap().into_inner();
        assert_eq!((answer.version, answer.replaced, answer.resumed), (round + 1, round, false));
        assert_eq!(answer.cluster_id, id.to_vec());
        // Map key, authority, prepared authority, CA.
        assert_eq!(answer.secrets, 4);
        assert!(answer.rows >= 7, "{answer:?}");
        // A change at the first replica reaches the node at the second, signed by whichever was quicker.
        Host::new(&token, &format!("other-{round}")).enrol(&world).await;
        let update = stream.update().await;
        assert_eq!(update.slots_set.len(), 1);
        let first = world.through(second);
        acknowledge(&world, &stream, id, bootstrap.node).await;
        second = world.through(first);
    }
    // Enrolment at the second replica, and another rotation from there.
    let first = world.through(second);
    Host::new(&token, "late").enrol(&world).await;
    stream.update().await;
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!((rotated.version, rotated.replaced), (4, 3));
    is_whole_under_newest(&first.replica, id).await;
    // Both replicas come to hold the newest key alone.
    for replica in [&first.replica, &world.running.replica] {
        let learned = async {
            while replica.serving.clusters.by_id(id).unwrap().data_key_floor.sequence != 4 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), learned).await.unwrap();
        assert!(replica.watch.alarms.all().is_empty(), "{:?}", replica.watch.alarms.all());
    }
    first.stop().await;
    world.stop().await;
}

/// The node keeps what it was sent last.
async fn acknowledge(world: &World, stream: &NodeStream, id: ClusterId, node: NodeId) {
    let served = world.running.replica.serving.clusters.by_id(id).unwrap().feed.newest().unwrap();
    let leaf_hash = served.leaf_hash(node).unwrap().to_vec();
    stream.say(v1::node_message::Body::Ack(v1::SnapshotAck { leaf_hash, ..Default::default() })).await;
}

#[tokio::test]
async fn only_an_owner_rotates_and_the_log_says_so() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    let request =
        |cluster: &str| v1::DataKeyRotateRequest { cluster: cluster.into(), reason: "yearly".into() };
    let nobody = tonic::Request::new(request("prod"));
    let refused = world.authority().await.data_key_rotate(nobody).await.unwrap_err();
    assert_eq!(reason(refused), Reason::SessionMissing);
    let unknown = world.authority().await.data_key_rotate(world.request(request("none"))).await.unwrap_err();
    assert_eq!(reason(unknown), Reason::ResourceNotFound);
    world.authority().await.data_key_rotate(world.request(request("prod"))).await.unwrap();
    let mut transaction = world.running.replica.database.store.system().begin_snapshot().await.unwrap();
    let entries = rap_store::audit_list(&mut transaction, &AuditFilter::default(), 100).await.unwrap();
    let mut said: Vec<(String, String)> = entries
        .into_iter()
        .filter(|row| row.entry.action.starts_with("data_key."))
        .map(|row| (row.entry.action, row.entry.reason))
        .collect();
    said.sort();
    let expected = [("data_key.add", "version 2 yearly"), ("data_key.retire", "version 1 yearly")];
    assert_eq!(said, expected.map(|(action, reason)| (action.to_owned(), reason.to_owned())));
    assert_eq!(versions(&stored(&world.running.replica, id).await), vec![2]);
    drop(transaction);
    world.stop().await;
}

/// Table, what somebody writes into it, what puts it back.
const ALTERED: [(&str, &str, &str); 8] = [
    (
        "clusters",
        "UPDATE clusters SET leaf_lifetime_ms = leaf_lifetime_ms + 1",
        "UPDATE clusters SET leaf_lifetime_ms = leaf_lifetime_ms - 1",
    ),
    (
        "cluster_policies",
        "UPDATE cluster_policies SET body = body || '{\"more\": 1}'::jsonb",
        "UPDATE cluster_policies SET body = body - 'more'",
    ),
    (
        "cluster_authorities",
        "UPDATE cluster_authorities SET row_mac = set_byte(row_mac, 3, get_byte(row_mac, 3) # 1)",
        "UPDATE cluster_authorities SET row_mac = set_byte(row_mac, 3, get_byte(row_mac, 3) # 1)",
    ),
    (
        "cluster_cas",
        "UPDATE cluster_cas SET cert_der = set_byte(cert_der, 50, get_byte(cert_der, 50) # 1)",
        "UPDATE cluster_cas SET cert_der = set_byte(cert_der, 50, get_byte(cert_der, 50) # 1)",
    ),
    (
        "join_tokens",
        "UPDATE join_tokens SET max_uses = max_uses + 1",
        "UPDATE join_tokens SET max_uses = max_uses - 1",
    ),
    (
        "join_requests",
        "UPDATE join_requests SET name = name || '-x'",
        "UPDATE join_requests SET name = left(name, -2)",
    ),
    (
        "node_addresses",
        "UPDATE node_addresses SET released_at = '2020-01-01'",
        "UPDATE node_addresses SET released_at = NULL",
    ),
    ("nodes", "UPDATE nodes SET region = region || 'x'", "UPDATE nodes SET region = left(region, -1)"),
];

#[tokio::test]
async fn a_tampered_row_of_any_table_stops_a_rotation_and_is_not_laundered_by_the_new_key() {
    let world = World::dev().await;
    let (id, token) = filled(&world).await;
    Host::new(&token, "one").enrol(&world).await;
    let database = world.database.as_ref().unwrap();
    let replica = &world.running.replica;
    let mut version = 1;
    for (table, alter, mend) in ALTERED {
        // Before it begins: nothing is done.
        database.tamper(table, alter).await;
        let refused = go(&world, id, Stage::Retired).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RowTampered, "{table}");
        assert!(refused.message.contains(table), "{table}: {}", refused.message);
        assert_eq!(versions(&stored(replica, id).await), vec![version], "{table}");
        database.tamper(table, mend).await;
        // In the midst of it: it stops, the row stays refused, both keys stay.
        go(&world, id, Stage::Added).await.unwrap();
        database.tamper(table, alter).await;
        for _ in 0..2 {
            let refused = go(&world, id, Stage::Retired).await.unwrap_err();
            assert_eq!(refused.reason, Reason::RowTampered, "{table}");
            assert!(refused.message.contains(table), "{table}: {}", refused.message);
        }
        assert_eq!(versions(&stored(replica, id).await), vec![version, version + 1], "{table}");
        let named = replica.watch.alarms.all();
        assert!(named.iter().any(|alarm| alarm.what.contains(table)), "{table}: {named:?}");
        // Between the rows and the end: likewise.
        database.tamper(table, mend).await;
        go(&world, id, Stage::Rows).await.unwrap();
        database.tamper(table, alter).await;
        let refused = go(&world, id, Stage::Retired).await.unwrap_err();
        assert_eq!(refused.reason, Reason::RowTampered, "{table}");
        database.tamper(table, mend).await;
        // As it was written, it goes on.
        go(&world, id, Stage::Retired).await.unwrap();
        version += 1;
        assert_eq!(versions(&stored(replica, id).await), vec![version], "{table}");
        is_whole_under_newest(replica, id).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_sealed_key_that_does_not_open_or_is_anothers_stops_a_rotation_before_it_begins() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    let database = world.database.as_ref().unwrap();
    for (table, alter, mend, expected) in [
        (
            "cluster_authority_prepared",
            "UPDATE cluster_authority_prepared SET sealed_private_key = set_byte(sealed_private_key, 40, get_byte(sealed_private_key, 40) # 1)",
            "UPDATE cluster_authority_prepared SET sealed_private_key = set_byte(sealed_private_key, 40, get_byte(sealed_private_key, 40) # 1)",
            Reason::SecretUnseal,
        ),
        (
            "cluster_authority_prepared",
            "UPDATE cluster_authority_prepared SET public_key = set_byte(public_key, 4, get_byte(public_key, 4) # 1)",
            "UPDATE cluster_authority_prepared SET public_key = set_byte(public_key, 4, get_byte(public_key, 4) # 1)",
            Reason::RowTampered,
        ),
        (
            "clusters",
            "UPDATE clusters SET sealed_map_key = set_byte(sealed_map_key, 60, get_byte(sealed_map_key, 60) # 1)",
            "UPDATE clusters SET sealed_map_key = set_byte(sealed_map_key, 60, get_byte(sealed_map_key, 60) # 1)",
            Reason::SecretUnseal,
        ),
    ] {
        database.tamper(table, alter).await;
        assert_eq!(go(&world, id, Stage::Retired).await.unwrap_err().reason, expected, "{table}");
        assert_eq!(versions(&stored(&world.running.replica, id).await), vec![1]);
        database.tamper(table, mend).await;
    }
    go(&world, id, Stage::Retired).await.unwrap();
    world.stop().await;
}
