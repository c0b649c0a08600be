//! Grants over several replicas: floors that are missing, confirmed and taken over; sets renewed and changed by two at once.

use std::time::Duration;

use rap_contract::{Audience, HeaderTerms, ROLE_GRANT_SET_LIFE, sign};
use rap_control_plane::commands::floors::confirm;
use rap_control_plane::data_dir::DataDir;
use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::serve::role_grants;
use rap_control_plane::start;
use rap_control_plane::start::Running;

use rap_rpc::Refusal;
use rap_rpc::v1::admin_client::AdminClient;
use rap_rpc::v1::grants_client::GrantsClient;
use rap_types::{ClusterId, Digest, Reason};
use rap_wire::v1;

use super::{RESTORED, add, audited, floor, owner_status, sets, signer, sql, worlds};
use crate::world::{World, reason};

/// A replica with a data directory of its own: keys copied, floors not.
async fn stranger_replica(world: &World, directory: &std::path::Path, control_url: &str) -> Running {
    let mut config = world.running.replica.config.as_ref().clone();
    config.data_dir = directory.to_owned();
    config.control_urls = vec![control_url.to_owned()];
    for entry in std::fs::read_dir(&world.data_dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.is_file() && name != "floors.json" {
            std::fs::copy(&path, directory.join(name)).unwrap();
        }
    }
    start::start(config, database(world)).await.unwrap()
}

fn database(world: &World) -> OpenDatabase {
    OpenDatabase { target: world.database.as_ref().unwrap().target().clone(), embedded: None }
}

async fn status_at(world: &World, replica: &Running) -> Option<Reason> {
    let line = world.line_to(replica.address).await;
    AdminClient::new(line.channel).status(world.request(v1::StatusRequest {})).await.map_err(reason).err()
}

async fn has_floor_soon(replica: &Running) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while floor(replica).is_none() {
        assert!(tokio::time::Instant::now() < deadline, "no floor in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_replica_without_floors_allows_nothing_until_its_host_confirms_the_printed_sequence() {
    for world in worlds().await {
        add(&world, "ann", &signer(), "platform_admin").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let replica = stranger_replica(&world, directory.path(), "https://127.0.0.1:1").await;
        assert_eq!(status_at(&world, &replica).await, Some(Reason::FloorMissing));
        let line = world.line_to(replica.address).await;
        let asked = GrantsClient::new(line.channel).newest_set(v1::GrantSetRequest {}).await.unwrap_err();
        assert_eq!(reason(asked), Reason::FloorMissing, "it tells no other replica what to believe");
        let mut elsewhere = world;
        let first = elsewhere.through(replica);
        assert_eq!(
            elsewhere.login().await.map_err(|refusal: Refusal| refusal.reason).unwrap_err(),
            Reason::FloorMissing
        );
        let replica = elsewhere.through(first);
        let mut world = elsewhere;

        let config = replica.replica.config.as_ref().clone();
        let data = DataDir::of(&config);
        let shown = confirm::show(&config, &data, &database(&world)).await.unwrap();
        assert!(shown.floors.is_none());
        let set = shown.newest_set.unwrap();
        assert_eq!((set.sequence, set.grants.len()), (2, 2));
        for wrong in [1, 3] {
            let refused =
                confirm::confirm(&config, &data, &database(&world), wrong, false).await.unwrap_err();
            assert_eq!(refused.reason, Reason::RequestConflict);
        }
        assert_eq!(status_at(&world, &replica).await, Some(Reason::FloorMissing));
        confirm::confirm(&config, &data, &database(&world), 2, false).await.unwrap();
        has_floor_soon(&replica).await;
        assert_eq!(status_at(&world, &replica).await, None);

        // After a restore the floor goes down by a person's word only. A replica that still has the former floor would
        // tell it, so the only other one is one without floors.
        let beside = tempfile::tempdir().unwrap();
        let mute = stranger_replica(&world, beside.path(), "https://127.0.0.1:1").await;
        world.through(mute).stop().await;
        sql(&world, RESTORED).await;
        sql(
            &world,
            "DELETE FROM role_grant_sets WHERE sequence > 1; \
             DELETE FROM platform_role_grants WHERE platform_role <> 'platform_owner'",
        )
        .await;
        assert_eq!(status_at(&world, &replica).await, Some(Reason::FloorRollback));
        let refused = confirm::confirm(&config, &data, &database(&world), 1, false).await.unwrap_err();
        assert_eq!(refused.reason, Reason::FloorRollback);
        replica.stop().await;
        confirm::confirm(&config, &data, &database(&world), 1, true).await.unwrap();
        let replica = start::start(config, database(&world)).await.unwrap();
        assert_eq!(status_at(&world, &replica).await, None);
        replica.stop().await;
        world.stop().await;
    }
}

#[tokio::test]
async fn a_replica_without_floors_takes_the_highest_set_from_another_replica() {
    let world = World::dev().await;
    for number in 0..3 {
        add(&world, &format!("operator-{number}"), &signer(), "platform_admin").await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let url = format!("https://{}", world.address());
    let replica = stranger_replica(&world, directory.path(), &url).await;
    has_floor_soon(&replica).await;
    assert_eq!(floor(&replica), Some(4));
    assert_eq!(status_at(&world, &replica).await, None);
    replica.stop().await;
    // Had the database been put back for it meanwhile, it would refuse it. What a restore took, no replica puts back.
    sql(&world, RESTORED).await;
    sql(&world, "DELETE FROM role_grant_sets WHERE sequence = 4").await;
    let other = tempfile::tempdir().unwrap();
    let replica = stranger_replica(&world, other.path(), &url).await;
    assert_ne!(status_at(&world, &replica).await, None);
    replica.stop().await;
    world.stop().await;
}

/// Stores a set with the members of the newest one, signed `age` ago.
async fn age_set(world: &World, age: Duration) {
    let replica = &world.running.replica;
    let admitted = role_grants::current(&replica.serving).await.unwrap();
    let set = admitted.grants().set();
    let issued_at = replica.watch.clock.now().wall.minus(age);
    let installation = replica.keys.installation.facts.id;
    let header = HeaderTerms {
        installation,
        cluster: ClusterId::ZERO,
        audience: Audience::Installation(installation),
        issuer: replica.keys.installation.authority.id(),
        incarnation: 0,
        sequence: set.sequence + 1,
        issued_at,
        expires_at: Some(issued_at.plus(ROLE_GRANT_SET_LIFE)),
        critical: rap_authority::critical(replica.keys.installation.facts.dev),
    };
    let aged = v1::RoleGrantSet {
        header: Some(header.to_wire()),
        grant_digests: set.members.iter().map(|member| member.to_vec()).collect(),
        previous_set_digest: set.digest.to_vec(),
    };
    let envelope = sign(&aged, &[&replica.keys.installation.authority]);
    let digest = replica.keys.installation.role_grant_verifier().open_set(&envelope).unwrap().digest;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    assert!(
        rap_store::role_grant_set_insert(&mut transaction, set.sequence + 1, digest, &envelope)
            .await
            .unwrap()
    );
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_set_is_signed_again_in_time_with_the_same_members_by_one_replica() {
    let world = World::dev().await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    let before =
        role_grants::current(&world.running.replica.serving).await.unwrap().grants().set().members.clone();
    // Half of its life is over; and in the second round all of it, as after two days off.
    for (age, sequence) in [(Duration::from_secs(13 * 3600), 4), (Duration::from_secs(48 * 3600), 6)] {
        age_set(&world, age).await;
        let second = world.replica().await;
        let (one, two) = tokio::join!(
            role_grants::current(&world.running.replica.serving),
            role_grants::current(&second.replica.serving)
        );
        for admitted in [one.unwrap(), two.unwrap()] {
            assert_eq!(admitted.at().sequence, sequence);
            assert_eq!(admitted.grants().set().members, before);
        }
        assert_eq!((floor(&world.running), floor(&second)), (Some(sequence), Some(sequence)));
        assert_eq!(sets(&world).await.len() as u64, sequence);
        assert_eq!(owner_status(&world).await, None);
        second.stop().await;
    }
    assert_eq!(audited(&world, "grant_set.renew").await, ["role-grant-set/4", "role-grant-set/6"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_race_over_two_replicas_make_one_chain() {
    let world = std::sync::Arc::new(World::dev().await);
    let second = world.replica().await;
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..12 {
        let (world, address) =
            (world.clone(), if number % 2 == 0 { world.address() } else { second.address });
        racing.spawn(async move {
            let request = v1::GrantAddRequest {
                name: format!("operator-{number}"),
                subject_key: signer().public().to_vec(),
                platform_role: "platform_admin".into(),
                valid_for_ms: 0,
            };
            let mut client = GrantsClient::new(world.line_to(address).await.channel);
            client.add(world.request(request)).await.map_err(reason)
        });
    }
    // Calls that run meanwhile see one set or the next, and never a database that was put back.
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..4 {
        let (world, address) =
            (world.clone(), if number % 2 == 0 { world.address() } else { second.address });
        calls.spawn(async move {
            let mut admin = AdminClient::new(world.line_to(address).await.channel);
            for _ in 0..25 {
                admin.status(world.request(v1::StatusRequest {})).await.map_err(reason)?;
            }
            Ok::<_, Reason>(())
        });
    }
    let mut added = 0;
    while let Some(outcome) = racing.join_next().await {
        match outcome.unwrap() {
            Ok(_) => added += 1,
            Err(reason) => assert_eq!(reason, Reason::RequestConflict),
        }
    }
    for outcome in calls.join_all().await {
        assert_eq!(outcome, Ok(()));
    }
    for replica in [&world.running, &second] {
        assert_eq!(replica.replica.watch.metrics.alarms(Reason::FloorRollback), 0);
    }
    assert!(added > 0);
    let admitted = role_grants::current(&world.running.replica.serving).await.unwrap();
    assert_eq!(admitted.at().sequence, 1 + added);
    assert_eq!(admitted.grants().live().len() as u64, 1 + added);
    assert_eq!(admitted.tampered(), [] as [Digest; 0]);
    let again = role_grants::current(&second.replica.serving).await.unwrap();
    assert_eq!(again.at(), admitted.at());
    second.stop().await;
}
