//! Another key encryption key: cut off after every stage, nothing becomes unreadable.

use rap_control_plane::commands::keys::{retire, rotate};
use rap_control_plane::data_dir::DataDir;
use rap_control_plane::keys::key_ring::Stage;

use rap_types::Reason;

use crate::host::Host;
use crate::world::World;

#[tokio::test]
async fn a_rotation_that_is_cut_off_anywhere_leaves_everything_readable_and_goes_on() {
    let mut world = World::dev().await;
    world.cluster("prod").await;
    let config = world.running.replica.config.as_ref().clone();
    let data = DataDir::of(&config);
    let first = std::fs::read(world.data_dir.join("secret.key")).unwrap();
    let store = world.database.as_ref().unwrap().store().await;
    for stage in [Stage::Added, Stage::Rows, Stage::Saved, Stage::Placed, Stage::Retired] {
        rotate(&config, &data, &store, None, stage).await.unwrap();
        // A control plane that starts now serves the cluster and signs for it.
        let started = world.replica().await;
        world.through(started).stop().await;
        world.login().await.unwrap();
        let token = world.token("prod", 1, true).await;
        Host::new(&token, &format!("{stage:?}").to_lowercase()).enrol(&world).await;
        // Before anything is sealed anew the rotation is called off; between sealing and placing the new
        // key, the old name still holds the old one.
        let ended = retire(&config, &data, &store).await.is_ok();
        assert_eq!(ended, !matches!(stage, Stage::Rows | Stage::Saved), "{stage:?}");
    }
    let present = std::fs::read(world.data_dir.join("secret.key")).unwrap();
    assert_ne!(first, present);
    for gone in ["secret.key.next", "secret.key.previous"] {
        assert!(!world.data_dir.join(gone).exists(), "{gone}");
    }
    // The old key opens nothing any more.
    std::fs::write(world.data_dir.join("secret.key"), first).unwrap();
    let refused = retire(&config, &data, &store).await.unwrap_err();
    assert_eq!(refused.reason, Reason::SecretUnseal);
    store.close().await;
    world.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_was_not_restarted_seals_nothing_under_a_replaced_key() {
    let world = World::dev().await;
    let config = world.running.replica.config.as_ref().clone();
    let data = DataDir::of(&config);
    let store = world.database.as_ref().unwrap().store().await;
    rotate(&config, &data, &store, None, Stage::Retired).await.unwrap();
    let request = rap_wire::v1::ClusterCreateRequest { name: "late".into(), ..Default::default() };
    let refused = world.admin().await.cluster_create(world.request(request)).await.unwrap_err();
    // Its operators' rows are sealed under the new key, which it does not hold.
    assert_eq!(crate::world::reason(refused), Reason::RowTampered);
    store.close().await;
    world.stop().await;
}

#[tokio::test]
async fn a_retired_data_key_that_lies_in_the_database_again_is_passed_over_whatever_it_is() {
    let world = World::dev().await;
    let (id, _) = crate::data_keys::filled(&world).await;
    let replica = world.running.replica.clone();
    let config = replica.config.as_ref().clone();
    let data = DataDir::of(&config);
    let store = world.database.as_ref().unwrap().store().await;
    let mut garbage = crate::data_keys::stored(&replica, id).await.remove(0);
    *garbage.wrapped_dek.last_mut().unwrap() ^= 1;
    crate::data_keys::go(&world, id, Stage::Retired).await.unwrap();
    let plant = async || {
        let mut transaction = store.system().begin().await.unwrap();
        rap_store::dek_insert(&mut transaction, &garbage).await.unwrap();
        transaction.commit().await.unwrap();
    };
    plant().await;
    rotate(&config, &data, &store, None, Stage::Retired).await.unwrap();
    assert_eq!(crate::data_keys::versions(&crate::data_keys::stored(&replica, id).await), vec![2]);
    plant().await;
    retire(&config, &data, &store).await.unwrap();
    // A database with nothing but what was retired is an old one, and not given up.
    let database = world.database.as_ref().unwrap();
    database.as_superuser("DELETE FROM cluster_deks WHERE key_version = 2").await;
    let refused = rotate(&config, &data, &store, None, Stage::Retired).await.unwrap_err();
    assert_eq!(refused.reason, Reason::FloorRollback);
    assert_eq!(crate::data_keys::versions(&crate::data_keys::stored(&replica, id).await), vec![1]);
    store.close().await;
    world.stop().await;
}
