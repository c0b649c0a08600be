//! A rotation of a data key that is cut off by a caller who goes away, by a rotation of the key encryption
//! key, and by a backup from before it.

use std::time::Duration;

use rap_authority::FloorOf;
use rap_control_plane::acts::rotate_data_key::rotate;
use rap_control_plane::commands::backup::create::create;
use rap_control_plane::commands::backup::restore::restore;
use rap_control_plane::commands::keys;
use rap_control_plane::data_dir::DataDir;
use rap_control_plane::database::opened::OpenDatabase;
use rap_control_plane::database::replica_floors::FloorFile;
use rap_control_plane::keys::key_ring::Stage;
use rap_control_plane::start;

use rap_store::testing::TestDatabase;
use rap_types::Reason;

use crate::data_keys::{acting, filled, go, is_whole_under_newest, stored, versions};
use crate::host::Host;
use crate::world::World;

#[tokio::test]
async fn a_call_that_is_dropped_at_any_moment_leaves_rows_and_keys_whole_and_the_next_goes_on() {
    let world = World::dev().await;
    let (id, token) = filled(&world).await;
    Host::new(&token, "one").enrol(&world).await;
    let replica = world.running.replica.clone();
    let mut resumed = 0;
    for step in 1..=40u64 {
        let mut call = tokio::task::JoinSet::new();
        let rotating = replica.clone();
        call.spawn(async move { rotate(&rotating.serving, id, &acting(&rotating), Stage::Retired).await });
        tokio::time::sleep(Duration::from_millis(step * 3)).await;
        call.abort_all();
        while call.join_next().await.is_some() {}
        // What is there opens, whichever stage it is in.
        let live = stored(&replica, id).await.len();
        assert!((1..=2).contains(&live), "{live}");
        replica.serving.load_cluster(id).await.unwrap();
        if step % 4 == 0 {
            let rotated = go(&world, id, Stage::Retired).await.unwrap();
            resumed += u32::from(rotated.resumed);
            assert_eq!(stored(&replica, id).await.len(), 1);
            is_whole_under_newest(&replica, id).await;
        }
    }
    assert!(resumed > 0, "no call was dropped between two stages");
    assert!(replica.watch.alarms.all().is_empty(), "{:?}", replica.watch.alarms.all());
    Host::new(&token, "two").enrol(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn the_key_encryption_key_changes_in_the_midst_and_both_data_keys_stay_readable() {
    let mut world = World::dev().await;
    let (id, token) = filled(&world).await;
    let config = world.running.replica.config.as_ref().clone();
    let data = DataDir::of(&config);
    let store = world.database.as_ref().unwrap().store().await;
    for stage in [Stage::Added, Stage::Secrets, Stage::Rows] {
        go(&world, id, stage).await.unwrap();
        keys::rotate(&config, &data, &store, None, Stage::Retired).await.unwrap();
        // A control plane that was not restarted adds nothing under the key that it holds.
        let refused = go(&world, id, Stage::Retired).await.unwrap_err();
        assert_eq!(refused.reason, Reason::SecretUnseal, "{stage:?}");
        let started = world.replica().await;
        world.through(started).stop().await;
        world.login().await.unwrap();
        keys::retire(&config, &data, &store).await.unwrap();
        Host::new(&token, &format!("{stage:?}").to_lowercase()).enrol(&world).await;
        let rotated = go(&world, id, Stage::Retired).await.unwrap();
        assert!(rotated.resumed, "{stage:?}");
        is_whole_under_newest(&world.running.replica, id).await;
    }
    assert_eq!(versions(&stored(&world.running.replica, id).await), vec![4]);
    store.close().await;
    world.stop().await;
}

#[tokio::test]
async fn a_backup_from_before_brings_its_data_key_back_where_a_person_restores_it_and_nowhere_else() {
    let mut world = World::dev().await;
    let (id, _) = filled(&world).await;
    let mut config = world.running.replica.config.as_ref().clone();
    let directory = tempfile::tempdir().unwrap();
    let database = OpenDatabase { target: world.database.as_ref().unwrap().target().clone(), embedded: None };
    let made = create(&config, &database, directory.path()).await.unwrap();
    go(&world, id, Stage::Retired).await.unwrap();
    // Another host, with a copy of the data directory: the first replica goes on and keeps its own floors.
    let data_dir = directory.path().join("data");
    let copied =
        std::process::Command::new("cp").arg("-a").arg(&world.data_dir).arg(&data_dir).status().unwrap();
    assert!(copied.success());
    config.data_dir = data_dir.clone();
    let floor = || {
        let floors = FloorFile::open(data_dir.join("floors.json")).unwrap().current().unwrap();
        floors.of(FloorOf::DataKey(id)).unwrap()
    };
    let after = floor();
    assert_eq!(after.sequence, 2);

    let target = TestDatabase::empty().await;
    let old = || OpenDatabase { target: target.target().clone(), embedded: None };
    restore(&config, &old(), &made.file).await.unwrap();
    let restored = floor();
    assert_eq!(restored.sequence, 1);
    // Where nobody restored it, the same rows are an old database.
    FloorFile::open(data_dir.join("floors.json")).unwrap().raise(FloorOf::DataKey(id), after).await.unwrap();
    let elsewhere = start::start(config.clone(), old()).await.unwrap();
    let refused = elsewhere.replica.serving.clusters.named("prod").map(|cluster| cluster.id).unwrap_err();
    assert_eq!(refused.reason, Reason::FloorRollback);
    elsewhere.stop().await;
    // Restored there by a person, it serves, and a rotation is as high as it was.
    FloorFile::open(data_dir.join("floors.json"))
        .unwrap()
        .confirm(FloorOf::DataKey(id), restored)
        .await
        .unwrap();
    let second_life = start::start(config, old()).await.unwrap();
    world.through(second_life).stop().await;
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!((rotated.version, rotated.replaced), (2, 1));
    // Of the same version, and another key: whoever saw the former one takes it for no other.
    assert_eq!(floor().sequence, after.sequence);
    assert_ne!(floor(), after);
    is_whole_under_newest(&world.running.replica, id).await;
    world.stop().await;
}
