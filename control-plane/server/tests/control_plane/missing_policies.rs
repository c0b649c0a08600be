//! Policies whose rows are gone: nothing is signed until an owner has them written anew, and says what.

use rap_control_plane::commands::backup::create::create;
use rap_control_plane::commands::backup::restore::restore;
use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::start;

use rap_store::testing::TestDatabase;
use rap_types::Reason;
use rap_wire::v1;

use crate::grants::{add, audited, login, signer, with};
use crate::host::Host;
use crate::rows::until;
use crate::world::{World, reason};

fn values() -> v1::MembershipPolicySetRequest {
    v1::MembershipPolicySetRequest { cluster: "prod".into(), ..Default::default() }
}

fn ends(words: &[&str]) -> Option<v1::Words> {
    Some(v1::Words { words: words.iter().map(|word| (*word).to_owned()).collect() })
}

async fn look(
    world: &World,
    values: v1::MembershipPolicySetRequest,
) -> Result<v1::MissingPolicies, tonic::Status> {
    let answer = world.membership().await.policy_missing(world.request(values)).await;
    answer.map(tonic::Response::into_inner)
}

async fn write(
    world: &World,
    values: v1::MembershipPolicySetRequest,
    kinds: &[&str],
) -> Result<v1::MissingPolicies, tonic::Status> {
    let answer = world.membership().await.policy_restore(world.request(request(values, kinds))).await;
    answer.map(tonic::Response::into_inner)
}

fn request(values: v1::MembershipPolicySetRequest, kinds: &[&str]) -> v1::PolicyRestoreRequest {
    let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    v1::PolicyRestoreRequest { values: Some(values), kinds }
}

async fn shown(world: &World) -> Result<v1::MembershipPolicy, tonic::Status> {
    let request = v1::ClusterRef { cluster: "prod".into() };
    world.membership().await.policy_show(world.request(request)).await.map(tonic::Response::into_inner)
}

async fn tamper(world: &World, statement: &'static str) {
    let tables = ["cluster_policies", "clusters", "config_outbox"];
    world.database.as_ref().unwrap().tamper_all(&tables, statement).await;
}

#[tokio::test]
async fn an_owner_writes_them_anew_with_values_that_were_shown_and_the_next_version_ends_the_alarm() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let member = Host::new(&world.token("prod", 1, true).await, "one").enrol(&world).await;
    let before = v1::MembershipPolicySetRequest {
        keep_ids: Some(true),
        degraded_ends: ends(&["existing_links"]),
        ..values()
    };
    world.membership().await.policy_set(world.request(before)).await.unwrap();
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    until(&world, |_| cluster.feed.newest().is_some_and(|newest| newest.order.version.0 >= 3)).await;
    let newest = cluster.feed.newest().unwrap().order.durable();
    tamper(
        &world,
        "DELETE FROM cluster_policies; \
         WITH next AS (UPDATE clusters SET config_seq = config_seq + 1 RETURNING cluster_id, config_seq) \
         INSERT INTO config_outbox (cluster_id, seq, touched) SELECT cluster_id, config_seq, '{policy}' FROM next",
    )
    .await;
    until(&world, |answer| answer.alarms.iter().any(|alarm| alarm.reason == "row.tampered")).await;
    let refused = shown(&world).await.unwrap_err();
    assert!(refused.message().contains("--restore-missing"), "{}", refused.message());
    assert_eq!(reason(refused), Reason::RowTampered);

    // What is shown: defaults, and what the owner gives along.
    let wanted = v1::MembershipPolicySetRequest {
        ephemeral_after_ms: Some(7_000),
        degraded_ends: ends(&["probe"]),
        ..values()
    };
    let kinds = ["membership", "degraded"];
    let looked = look(&world, wanted.clone()).await.unwrap();
    assert_eq!(looked.kinds, kinds);
    let planned = looked.policy.clone().unwrap();
    assert_eq!((planned.ephemeral_after_ms, planned.keep_ids), (7_000, false), "not what it was before");
    assert_eq!(planned.degraded_ends, ["probe"]);

    // A value that cannot be set, other kinds than were seen, and an admin: nothing is written.
    let bad = v1::MembershipPolicySetRequest { ephemeral_after_ms: Some(1), ..values() };
    assert_eq!(reason(look(&world, bad.clone()).await.unwrap_err()), Reason::RequestInvalid);
    assert_eq!(reason(write(&world, bad, &kinds).await.unwrap_err()), Reason::RequestInvalid);
    let bad = v1::MembershipPolicySetRequest { degraded_ends: ends(&["lease"]), ..values() };
    assert_eq!(reason(write(&world, bad, &kinds).await.unwrap_err()), Reason::RequestInvalid);
    for seen in [&[][..], &["membership"], &["degraded", "membership"]] {
        let refused = write(&world, wanted.clone(), seen).await.unwrap_err();
        assert_eq!(reason(refused), Reason::RequestConflict, "{seen:?}");
    }
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    let session = login(&world, &ann).await.unwrap().session;
    let by_admin = with(&session, request(wanted.clone(), &kinds));
    let refused = world.membership().await.policy_restore(by_admin).await.unwrap_err();
    assert_eq!(reason(refused), Reason::GrantMissing);
    assert_eq!(look(&world, wanted.clone()).await.unwrap().kinds, kinds, "nothing was written");
    assert!(audited(&world, "policy.restore").await.is_empty());
    assert_eq!(cluster.feed.newest().unwrap().order.durable(), newest);

    assert_eq!(write(&world, wanted.clone(), &kinds).await.unwrap(), looked);
    until(&world, |answer| answer.alarms.is_empty()).await;
    assert!(cluster.feed.newest().unwrap().order.durable() > newest);
    assert_eq!(shown(&world).await.unwrap(), planned);
    assert_eq!(world.snapshot(&member).await.contents().policy.degraded_ends, ["probe"]);
    assert_eq!(audited(&world, "policy.restore").await, [0; 2].map(|_| format!("cluster/{}", cluster.id)));

    // Again is nothing; a value for a policy that is there goes the other way.
    assert!(write(&world, values(), &[]).await.unwrap().kinds.is_empty());
    assert_eq!(reason(write(&world, wanted, &[]).await.unwrap_err()), Reason::RequestInvalid);
    assert_eq!(audited(&world, "policy.restore").await.len(), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_policy_that_is_there_is_never_written_over_and_a_tampered_one_stays_tampered() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let set = v1::MembershipPolicySetRequest { keep_ids: Some(true), ..values() };
    world.membership().await.policy_set(world.request(set.clone())).await.unwrap();
    tamper(
        &world,
        "CREATE TABLE taken AS SELECT * FROM cluster_policies WHERE kind = 'membership'; \
         UPDATE cluster_policies SET body = '{\"keep_ids\": false}' WHERE kind = 'membership'; \
         DELETE FROM cluster_policies WHERE kind = 'degraded'",
    )
    .await;
    assert_eq!(reason(look(&world, values()).await.unwrap_err()), Reason::RowTampered);
    for kinds in [&["degraded"][..], &["membership", "degraded"]] {
        assert_eq!(reason(write(&world, values(), kinds).await.unwrap_err()), Reason::RowTampered);
    }

    tamper(
        &world,
        "UPDATE cluster_policies SET body = taken.body FROM taken WHERE cluster_policies.kind = 'membership'; \
         DROP TABLE taken",
    )
    .await;
    assert_eq!(look(&world, values()).await.unwrap().kinds, ["degraded"], "nothing was written");
    let over = v1::MembershipPolicySetRequest { keep_ids: Some(false), ..values() };
    assert_eq!(reason(write(&world, over, &["degraded"]).await.unwrap_err()), Reason::RequestInvalid);
    let done = write(&world, values(), &["degraded"]).await.unwrap();
    assert!(done.policy.unwrap().keep_ids, "what is there stays");
    assert!(shown(&world).await.unwrap().keep_ids);
    world.stop().await;
}

#[tokio::test]
async fn policies_that_are_gone_are_an_alarm_for_as_long_as_they_are_though_nothing_is_to_be_published() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    until(&world, |answer| cluster.feed.newest().is_some() && answer.alarms.is_empty()).await;
    let newest = cluster.feed.newest().unwrap().order.durable();
    tamper(&world, "CREATE TABLE taken AS SELECT * FROM cluster_policies; DELETE FROM cluster_policies")
        .await;
    until(&world, |answer| answer.alarms.iter().any(|alarm| alarm.reason == "row.tampered")).await;
    tamper(&world, "INSERT INTO cluster_policies SELECT * FROM taken; DROP TABLE taken").await;
    until(&world, |answer| answer.alarms.is_empty()).await;
    assert_eq!(cluster.feed.newest().unwrap().order.durable(), newest, "no new version was needed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_without_them_is_repaired_the_same_way() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let member = Host::new(&world.token("prod", 1, true).await, "one").enrol(&world).await;
    tamper(&world, "DELETE FROM cluster_policies").await;
    let directory = tempfile::tempdir().unwrap();
    let config = world.running.replica.config.as_ref().clone();
    let database = OpenDatabase { target: world.database.as_ref().unwrap().target().clone(), embedded: None };
    let made = create(&config, &database, directory.path()).await.unwrap();
    let target = TestDatabase::empty().await;
    let empty = || OpenDatabase { target: target.target().clone(), embedded: None };
    restore(&config, &empty(), &made.file).await.unwrap();
    let second_life = start::start(config, empty()).await.unwrap();
    world.through(second_life).stop().await;
    world.login().await.unwrap();

    until(&world, |answer| answer.alarms.iter().any(|alarm| alarm.reason == "row.tampered")).await;
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    assert!(cluster.feed.newest().is_none(), "nothing of the new life is signed");
    let kinds = look(&world, values()).await.unwrap().kinds;
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    assert_eq!(kinds, ["membership", "degraded"]);
    write(&world, values(), &kinds).await.unwrap();
    until(&world, |answer| answer.alarms.is_empty()).await;
    assert!(cluster.feed.newest().is_some());
    assert!(world.snapshot(&member).await.contents().policy.degraded_ends.is_empty());
    world.stop().await;
}
