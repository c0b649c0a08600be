//! Rows of clusters that something else wrote: what they are worth, and who makes clusters of them.

use std::time::Duration;

use rap_authority::FloorOf;
use rap_rpc::v1::adoption_client::AdoptionClient;
use rap_types::{ClusterId, Reason};
use rap_wire::v1;

use crate::activation;
use crate::grants::{add, audited, login, signer, sql, with, worlds};
use crate::host::Host;
use crate::world::{World, reason};

/// As an import of an older system would write it, for both authority modes.
const LEGACY: &str = "INSERT INTO clusters (cluster_id, name, incarnation, ipv4_pool, dev, fresh_for_ms, \
    refresh_every_ms, degraded_for_ms, leaf_lifetime_ms, config_seq, next_host_number) \
    SELECT '0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b', 'legacy', 9223372036854775807, '10.7.0.0/16', \
    mode = 'dev', 20000, 5000, 60000, 600000, 9223372036854775800, 60000 FROM installation_authority";

const ID: [u8; 16] = [0x0b; 16];

fn named(cluster: &str) -> v1::ClusterRef {
    v1::ClusterRef { cluster: cluster.into() }
}

fn wanted(digest: Vec<u8>) -> v1::EnsureAuthorityRequest {
    v1::EnsureAuthorityRequest { cluster: "legacy".into(), digest, reason: "moved here".into() }
}

async fn client(world: &World) -> AdoptionClient<tonic::transport::Channel> {
    AdoptionClient::new(world.line().await.channel)
}

async fn look(world: &World) -> v1::AdoptionLookAnswer {
    client(world).await.adoption_look(world.request(named("legacy"))).await.unwrap().into_inner()
}

async fn ensure(world: &World, digest: Vec<u8>) -> Result<v1::EnsureAuthorityAnswer, Reason> {
    let outcome = client(world).await.ensure_authority(world.request(wanted(digest))).await;
    outcome.map(tonic::Response::into_inner).map_err(reason)
}

async fn token(world: &World) -> Result<v1::TokenCreateAnswer, Reason> {
    let request = v1::TokenCreateRequest {
        cluster: "legacy".into(),
        uses: 1,
        auto_approve: true,
        ..v1::TokenCreateRequest::default()
    };
    let outcome = world.admin().await.token_create(world.request(request)).await;
    outcome.map(tonic::Response::into_inner).map_err(reason)
}

/// Nothing was made of the row: it is as it was written, and no key is beside it.
async fn assert_bare(world: &World) {
    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let bare = rap_store::bare_cluster_read(&mut transaction, ClusterId::from_bytes(ID)).await.unwrap();
    assert_eq!(bare.unwrap().name, "legacy");
    drop(transaction);
    assert_eq!(audited(world, "cluster.backfill").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_row_without_keys_is_shown_and_gives_nothing_until_an_operator_names_it() {
    for world in worlds().await {
        sql(&world, LEGACY).await;
        let listed = world.admin().await.cluster_list(world.request(v1::ClusterListRequest {})).await;
        let [row] = &listed.unwrap().into_inner().clusters[..] else { panic!("one cluster") };
        assert_eq!((row.name.as_str(), row.refused.as_str()), ("legacy", "cluster.no_authority"));
        assert!(row.authority_key.is_empty());
        let shown = world.admin().await.cluster_show(world.request(named("legacy"))).await.unwrap();
        assert_eq!(&shown.into_inner(), row);
        // Reading names it, too, and makes nothing of it.
        let nodes = v1::NodeListRequest { cluster: "legacy".into(), pending: false };
        let refused = world.admin().await.node_list(world.request(nodes)).await.unwrap_err();
        assert_eq!(reason(refused), Reason::ClusterNoAuthority);
        let refused = world.authority().await.authority_list(world.request(named("legacy"))).await;
        assert_eq!(reason(refused.unwrap_err()), Reason::ClusterNoAuthority);
        // So do acts: only the adoption makes something of it.
        assert_eq!(token(&world).await.unwrap_err(), Reason::ClusterNoAuthority);
        let policy = v1::MembershipPolicySetRequest {
            cluster: "legacy".into(),
            keep_ids: Some(true),
            ..v1::MembershipPolicySetRequest::default()
        };
        let refused = world.membership().await.policy_set(world.request(policy)).await.unwrap_err();
        assert_eq!(reason(refused), Reason::ClusterNoAuthority);
        assert_bare(&world).await;

        // The adoption makes one cluster, which works as any other does.
        assert!(ensure(&world, look(&world).await.digest).await.unwrap().made);
        let token = token(&world).await.unwrap();
        Host::new(&token, "one").enrol(&world).await;
        let shown = world.admin().await.cluster_show(world.request(named("legacy"))).await.unwrap();
        let shown = shown.into_inner();
        assert_eq!((shown.refused.as_str(), shown.ipv4_pool.as_str()), ("", "10.7.0.0/16"));
        assert_eq!(shown.cluster_id, ID);
        // What no operator types was not taken from the row.
        assert!(shown.incarnation < u64::from(u32::MAX) && shown.version < 100, "{shown:?}");
        let one = v1::NodeRef { cluster: "legacy".into(), node: "one".into() };
        let one = world.admin().await.node_show(world.request(one)).await.unwrap().into_inner();
        assert_eq!(one.overlay_ipv4, "10.7.0.1");
        let object = format!("cluster/{}", ClusterId::from_bytes(ID));
        assert_eq!(audited(&world, "cluster.backfill").await, [object]);
        assert!(!ensure(&world, Vec::new()).await.unwrap().made);

        // Another process of the same database opens what was made here.
        let second = world.replica().await;
        assert!(second.replica.serving.clusters.named("legacy").is_ok());
        second.stop().await;
        world.stop().await;
    }
}

#[tokio::test]
async fn who_may_not_create_clusters_makes_none_of_a_row() {
    let world = World::dev().await;
    sql(&world, LEGACY).await;
    let (safe, ann) = (signer(), signer());
    add(&world, "safe", &safe, "recovery").await.unwrap();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    let session = login(&world, &safe).await.unwrap().session;
    let refused = client(&world).await.ensure_authority(with(&session, wanted(Vec::new()))).await;
    assert_eq!(reason(refused.unwrap_err()), Reason::GrantMissing);
    // Recovery may act on authorities: there is none to act on.
    let recover = v1::AuthorityKeyRequest { cluster: "legacy".into(), ..v1::AuthorityKeyRequest::default() };
    let refused = world.authority().await.authority_recover(with(&session, recover)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::ClusterNoAuthority);
    assert_bare(&world).await;
    // Nor does a stranger.
    let refused = client(&world).await.ensure_authority(tonic::Request::new(wanted(Vec::new()))).await;
    assert_eq!(reason(refused.unwrap_err()), Reason::SessionMissing);
    assert_bare(&world).await;

    let session = login(&world, &ann).await.unwrap().session;
    let made = client(&world).await.ensure_authority(with(&session, wanted(Vec::new()))).await.unwrap();
    assert!(made.into_inner().made);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_race_make_one_authority() {
    let world = activation::activated().await;
    let second = world.replica().await;
    sql(&world, LEGACY).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..8 {
        let address = if number % 2 == 0 { world.address() } else { second.address };
        let mut client = AdoptionClient::new(world.line_to(address).await.channel);
        let request = world.request(wanted(Vec::new()));
        calls.spawn(async move { client.ensure_authority(request).await.map(tonic::Response::into_inner) });
    }
    let answers: Vec<v1::EnsureAuthorityAnswer> =
        calls.join_all().await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| answer.made).count(), 1);
    let key = |answer: &v1::EnsureAuthorityAnswer| answer.cluster.clone().unwrap().authority_key;
    assert!(answers.iter().all(|answer| key(answer) == key(&answers[0]) && !key(answer).is_empty()));
    assert_eq!(audited(&world, "cluster.backfill").await.len(), 1);
    let served = [&world.running, &second].map(|replica| {
        let cluster = replica.replica.serving.clusters.named("legacy").unwrap();
        (cluster.authority.public(), cluster.ca.certificate().clone(), cluster.map_key.padding(1))
    });
    assert_eq!(served[0].0, served[1].0);
    assert_eq!(served[0].1, served[1].1);
    assert_eq!(served[0].2, served[1].2);
    second.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_planted_row_is_judged_as_if_it_had_been_typed() {
    let world = activation::activated().await;
    sql(&world, LEGACY).await;
    for (edit, repair, refusal) in [
        (
            "UPDATE clusters SET name = 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa'",
            "UPDATE clusters SET name = 'legacy'",
            Reason::RequestInvalid,
        ),
        (
            "UPDATE clusters SET ipv4_pool = '8.8.8.0/24'",
            "UPDATE clusters SET ipv4_pool = '10.7.0.0/16'",
            Reason::RequestInvalid,
        ),
        (
            "UPDATE clusters SET ipv4_pool = '10.0.0.0/7'",
            "UPDATE clusters SET ipv4_pool = '10.7.0.0/16'",
            Reason::RequestInvalid,
        ),
        (
            "UPDATE clusters SET leaf_lifetime_ms = 9000000000000000",
            "UPDATE clusters SET leaf_lifetime_ms = 600000",
            Reason::RequestInvalid,
        ),
        (
            "UPDATE clusters SET fresh_for_ms = 9000000000000000",
            "UPDATE clusters SET fresh_for_ms = 20000",
            Reason::RequestInvalid,
        ),
        ("UPDATE clusters SET dev = true", "UPDATE clusters SET dev = false", Reason::AuthorityModeFixed),
        (
            "UPDATE clusters SET cluster_id = '00000000-0000-0000-0000-000000000000'",
            "UPDATE clusters SET cluster_id = '0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b'",
            Reason::RequestInvalid,
        ),
    ] {
        sql(&world, edit).await;
        let mut request = wanted(Vec::new());
        if edit.contains("name =") {
            request.cluster = "0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b".into();
        }
        let look = named(&request.cluster);
        let look = client(&world).await.adoption_look(world.request(look)).await.unwrap().into_inner();
        assert_eq!(look.refused, refusal.code(), "{edit}: {}", look.why);
        let refused = client(&world).await.ensure_authority(world.request(request)).await;
        assert_eq!(reason(refused.unwrap_err()), refusal, "{edit}");
        sql(&world, repair).await;
        assert_bare(&world).await;
    }
    // What was shown is what is adopted.
    let seen = look(&world).await;
    assert_eq!((seen.refused.as_str(), seen.has_authority), ("", false));
    sql(&world, "UPDATE clusters SET ipv4_pool = '10.8.0.0/16'").await;
    assert_eq!(ensure(&world, seen.digest).await.unwrap_err(), Reason::RequestConflict);
    assert_bare(&world).await;
    let seen = look(&world).await;
    let made = ensure(&world, seen.digest).await.unwrap();
    assert!(made.made && made.cluster.unwrap().ipv4_pool == "10.8.0.0/16");
    assert!(look(&world).await.has_authority);
    world.stop().await;
}

#[tokio::test]
async fn rows_that_lie_in_a_bare_cluster_do_not_come_along() {
    let world = activation::activated().await;
    sql(&world, LEGACY).await;
    let plant = "INSERT INTO node_addresses (cluster_id, host_number, node_id) \
            VALUES ('0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b', 1, '0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c'); \
        INSERT INTO nodes (node_id, cluster_id, name, node_public_key, wireguard_public_key, host_number, \
            identity_status) VALUES ('0c0c0c0c-0c0c-0c0c-0c0c-0c0c0c0c0c0c', \
            '0b0b0b0b-0b0b-0b0b-0b0b-0b0b0b0b0b0b', 'planted', decode(repeat('11', 32), 'hex'), \
            decode(repeat('22', 32), 'hex'), 1, 'active')";
    sql(&world, plant).await;
    let seen = look(&world).await;
    assert_eq!(seen.lies_in_it, ["node_addresses: 1", "nodes: 1"]);
    assert_eq!(seen.refused, "row.tampered");
    assert_eq!(ensure(&world, Vec::new()).await.unwrap_err(), Reason::RowTampered);
    assert_eq!(token(&world).await.unwrap_err(), Reason::ClusterNoAuthority);
    assert_bare(&world).await;

    sql(&world, "DELETE FROM nodes; DELETE FROM node_addresses").await;
    assert!(ensure(&world, Vec::new()).await.unwrap().made);
    // Planted afterwards it has no MAC either, and nothing is signed with it.
    sql(&world, plant).await;
    let listed = v1::NodeRef { cluster: "legacy".into(), node: "planted".into() };
    let refused = world.admin().await.node_show(world.request(listed)).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RowTampered);
    world.stop().await;
}

#[tokio::test]
async fn a_cluster_whose_keys_were_taken_away_does_not_get_others() {
    let world = activation::activated().await;
    let born = world.cluster("legacy").await;
    let strip = "DELETE FROM cluster_deks; DELETE FROM cluster_authorities; DELETE FROM cluster_cas; \
        DELETE FROM config_outbox; DELETE FROM node_leaves; DELETE FROM cluster_heads; \
        UPDATE clusters SET row_mac = NULL, sealed_map_key = NULL";
    sql(&world, strip).await;
    // A process that starts on this database, with the floors of the one before.
    let second = world.replica().await;
    let mut world = world;
    let first = world.through(second);
    assert_eq!(look(&world).await.refused, "floor.rollback");
    assert_eq!(ensure(&world, Vec::new()).await.unwrap_err(), Reason::FloorRollback);
    assert!(world.running.replica.watch.metrics.alarms(Reason::FloorRollback) > 0);
    assert_eq!(token(&world).await.unwrap_err(), Reason::ClusterNoAuthority);
    // A replica that never saw it has the audit log, which tells that the cluster was made here.
    let id = ClusterId::from_slice(&born.cluster_id).unwrap();
    assert!(world.running.replica.database.floors.current().unwrap().of(FloorOf::Authority(id)).is_some());
    let seen = look(&world).await;
    assert!(seen.lies_in_it.contains(&"audit_log: 1".to_owned()), "{:?}", seen.lies_in_it);
    first.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_cluster_without_its_data_key_alone_is_an_alarm_and_not_a_bare_one() {
    let world = activation::activated().await;
    world.cluster("prod").await;
    sql(&world, "DELETE FROM cluster_deks").await;
    sql(&world, LEGACY).await;
    let second = world.replica().await;
    let mut world = world;
    let first = world.through(second);
    assert!(world.running.replica.watch.metrics.alarms(Reason::SecretUnseal) > 0);
    let listed = world.admin().await.cluster_list(world.request(v1::ClusterListRequest {})).await;
    let listed: Vec<_> = listed.unwrap().into_inner().clusters.into_iter().map(|one| one.refused).collect();
    assert_eq!(listed, ["cluster.no_authority", "secret.unseal"]);
    // No act adopts one in passing: names could have been changed.
    assert_eq!(token(&world).await.unwrap_err(), Reason::ClusterNoAuthority);
    assert!(ensure(&world, look(&world).await.digest).await.unwrap().made);
    first.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_row_in_the_place_of_a_cluster_that_was_taken_away_whole_is_not_adopted_in_passing() {
    let world = activation::activated().await;
    world.cluster("legacy").await;
    // Its first round is over: the next one would lock the same tables in another order.
    let cluster = world.running.replica.serving.clusters.named("legacy").unwrap();
    let published = async { cluster.feed.follow().wait_for(Option::is_some).await.map(drop) };
    tokio::time::timeout(Duration::from_secs(10), published).await.unwrap().unwrap();
    let take = "DELETE FROM cluster_deks; DELETE FROM cluster_authorities; DELETE FROM cluster_cas; \
        DELETE FROM config_outbox; DELETE FROM node_leaves; DELETE FROM cluster_heads; \
        DELETE FROM cluster_policies; ALTER TABLE audit_log DROP CONSTRAINT audit_log_cluster_id_fkey; \
        ALTER TABLE cluster_heads DROP CONSTRAINT cluster_heads_cluster_id_fkey; \
        DELETE FROM clusters";
    sql(&world, take).await;
    sql(&world, LEGACY).await;
    // A process that starts on this database, with the floors of the one before.
    let second = world.replica().await;
    let mut world = world;
    let first = world.through(second);
    assert_eq!(token(&world).await.unwrap_err(), Reason::ClusterNoAuthority);
    assert_bare(&world).await;
    // Who looked at the row and means it can have it.
    assert!(ensure(&world, look(&world).await.digest).await.unwrap().made);
    first.stop().await;
    world.stop().await;
}
