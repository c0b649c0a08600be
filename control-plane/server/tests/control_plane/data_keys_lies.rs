//! A rotation of a data key beside somebody who owns the database and has it say what is not so.

use rap_authority::{DataKeys, FloorOf, RowKeys, SealingKey};
use rap_control_plane::keys::key_ring::Stage;
use rap_store::{dek_insert, dek_rewrap, policy_upsert, rows_look};
use rap_types::{ClusterId, Reason};
use serde_json::json;

use crate::data_keys::{filled, go, is_whole_under_newest, stored, versions};
use crate::host::Host;
use crate::world::World;

async fn sql(world: &World, statements: &'static str) {
    world.database.as_ref().unwrap().as_superuser(statements).await;
}

/// The version below which no data key of the cluster counts, as it is on disk.
fn floor(world: &World, id: ClusterId) -> u64 {
    let file =
        rap_control_plane::database::replica_floors::FloorFile::open(world.data_dir.join("floors.json"))
            .unwrap();
    file.current().unwrap().of(FloorOf::DataKey(id)).unwrap().sequence
}

/// Refused with an alarm that names the data keys.
async fn is_refused(world: &World, id: ClusterId, told: &str) {
    let replica = &world.running.replica;
    let before = replica.watch.metrics.alarms(Reason::RowTampered);
    let refused = go(world, id, Stage::Retired).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RowTampered, "{told}: {}", refused.message);
    assert!(refused.message.contains("cluster_deks"), "{told}: {}", refused.message);
    assert!(replica.watch.alarms.all().iter().any(|alarm| alarm.what.contains("cluster_deks")), "{told}");
    assert!(replica.watch.metrics.alarms(Reason::RowTampered) >= before, "{told}");
}

#[tokio::test]
async fn a_new_data_key_that_the_database_drops_is_an_alarm_and_no_rotation() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    for (told, lie) in [
        (
            "nothing is stored",
            "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER lie BEFORE INSERT ON cluster_deks FOR EACH ROW EXECUTE FUNCTION lie()",
        ),
        (
            "it is removed behind the statement",
            "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             'BEGIN DELETE FROM cluster_deks WHERE key_version = NEW.key_version; RETURN NULL; END'; \
             CREATE TRIGGER lie AFTER INSERT ON cluster_deks FOR EACH ROW EXECUTE FUNCTION lie()",
        ),
        (
            "it is removed by the commit",
            "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             'BEGIN DELETE FROM cluster_deks WHERE key_version = NEW.key_version; RETURN NULL; END'; \
             CREATE CONSTRAINT TRIGGER lie AFTER INSERT ON cluster_deks DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION lie()",
        ),
    ] {
        sql(&world, lie).await;
        is_refused(&world, id, told).await;
        assert_eq!(versions(&stored(&world.running.replica, id).await), vec![1], "{told}");
        assert_eq!(floor(&world, id), 1, "{told}");
        sql(&world, "DROP TRIGGER lie ON cluster_deks; DROP FUNCTION lie()").await;
    }
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!((rotated.version, rotated.replaced), (2, 1));
    assert_eq!(floor(&world, id), 2);
    is_whole_under_newest(&world.running.replica, id).await;
    world.stop().await;
}

#[tokio::test]
async fn an_old_data_key_that_the_database_keeps_is_an_alarm_and_no_rotation() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    for (told, lie) in [
        (
            "nothing is removed",
            "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER lie BEFORE DELETE ON cluster_deks FOR EACH ROW EXECUTE FUNCTION lie()",
        ),
        (
            "it is put back behind the statement",
            "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
             'BEGIN INSERT INTO cluster_deks SELECT OLD.*; RETURN NULL; END'; \
             CREATE TRIGGER lie AFTER DELETE ON cluster_deks FOR EACH ROW EXECUTE FUNCTION lie()",
        ),
    ] {
        sql(&world, lie).await;
        is_refused(&world, id, told).await;
        assert_eq!(versions(&stored(&world.running.replica, id).await), vec![1, 2], "{told}");
        sql(&world, "DROP TRIGGER lie ON cluster_deks; DROP FUNCTION lie()").await;
    }
    // With the database as it should be, it goes on where it stopped.
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!((rotated.version, rotated.replaced, rotated.resumed), (2, 1, true));
    assert_eq!(floor(&world, id), 2);
    is_whole_under_newest(&world.running.replica, id).await;
    world.stop().await;
}

#[tokio::test]
async fn an_old_data_key_that_the_commit_puts_back_opens_nothing_also_after_a_restart() {
    let mut world = World::dev().await;
    let (id, token) = filled(&world).await;
    let replica = &world.running.replica;
    let installation = replica.keys.installation.facts.id;
    let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
    let old: DataKeys = replica.keys.keyring(&replica.database.floors).read(&mut snapshot, id).await.unwrap();
    drop(snapshot);
    sql(
        &world,
        "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
         'BEGIN INSERT INTO cluster_deks SELECT OLD.*; RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER lie AFTER DELETE ON cluster_deks DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION lie()",
    )
    .await;
    go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!(versions(&stored(&world.running.replica, id).await), vec![1, 2]);
    for restarted in [false, true] {
        if restarted {
            let started = world.replica().await;
            world.through(started).stop().await;
            world.login().await.unwrap();
        }
        assert_eq!(floor(&world, id), 2);
        let replica = &world.running.replica;
        let keyring = replica.keys.keyring(&replica.database.floors);
        let mut transaction = replica.database.store.system().begin().await.unwrap();
        let keys = keyring.read(&mut transaction, id).await.unwrap();
        assert_eq!((keys.oldest_version(), keys.newest().0), (2, 2));
        let forged = RowKeys::of_data_keys(installation, id, &old, None);
        policy_upsert(&mut transaction, &forged, "forged", &json!({ "by": "a thief" })).await.unwrap();
        let seen = rows_look(&mut transaction, &keyring.rows(id, &keys)).await.unwrap();
        assert_eq!(seen.tampered.len(), 1, "{seen:?}");
        drop(transaction);
    }
    Host::new(&token, "later").enrol(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn the_floor_is_raised_before_the_removal_is_committed_and_a_commit_that_fails_loses_nothing() {
    let mut world = World::dev().await;
    let (id, token) = filled(&world).await;
    sql(
        &world,
        "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
         CREATE CONSTRAINT TRIGGER lie AFTER DELETE ON cluster_deks DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION lie()",
    )
    .await;
    go(&world, id, Stage::Retired).await.unwrap_err();
    assert_eq!(floor(&world, id), 2);
    assert_eq!(versions(&stored(&world.running.replica, id).await), vec![1, 2]);
    sql(&world, "DROP TRIGGER lie ON cluster_deks; DROP FUNCTION lie()").await;
    let started = world.replica().await;
    world.through(started).stop().await;
    world.login().await.unwrap();
    Host::new(&token, "later").enrol(&world).await;
    is_whole_under_newest(&world.running.replica, id).await;
    let rotated = go(&world, id, Stage::Retired).await.unwrap();
    assert_eq!((rotated.version, rotated.replaced), (3, 2));
    assert_eq!(versions(&stored(&world.running.replica, id).await), vec![3]);
    world.stop().await;
}

#[tokio::test]
async fn rows_that_the_database_keeps_under_the_old_key_are_an_alarm_that_names_the_first() {
    let world = World::dev().await;
    let (id, token) = filled(&world).await;
    let node = Host::new(&token, "one").enrol(&world).await.node;
    sql(
        &world,
        "CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN NEW.row_mac := OLD.row_mac; RETURN NEW; END'; \
         CREATE TRIGGER lie BEFORE UPDATE ON nodes FOR EACH ROW EXECUTE FUNCTION lie()",
    )
    .await;
    let replica = &world.running.replica;
    let refused = go(&world, id, Stage::Retired).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RequestConflict);
    assert!(refused.message.contains(&format!("row {node} of table nodes")), "{}", refused.message);
    let named = |alarm: &rap_control_plane::watch::alarms::Alarm| alarm.what == refused.message;
    assert!(replica.watch.alarms.all().iter().any(named), "{:?}", replica.watch.alarms.all());
    assert_eq!(replica.watch.metrics.alarms(Reason::RequestConflict), 1);
    assert_eq!(versions(&stored(replica, id).await), vec![1, 2]);
    sql(&world, "DROP TRIGGER lie ON nodes; DROP FUNCTION lie()").await;
    go(&world, id, Stage::Retired).await.unwrap();
    assert!(!replica.watch.alarms.all().iter().any(named), "{:?}", replica.watch.alarms.all());
    world.stop().await;
}

#[tokio::test]
async fn nothing_is_sealed_under_a_data_key_that_the_database_does_not_have() {
    let world = World::dev().await;
    let (id, _) = filled(&world).await;
    let replica = &world.running.replica;
    let add = async || {
        let mut transaction = replica.database.store.system().begin().await.unwrap();
        let ring = replica.serving.clusters.by_id(id).unwrap().rows.clone();
        policy_upsert(&mut transaction, &ring, "drill", &json!({})).await
    };
    add().await.unwrap();
    // Another key of the same version, well wrapped: in the ring's place, and for whoever reads it anew.
    let stored_before = stored(replica, id).await;
    let other =
        replica.keys.keyring(&replica.database.floors).wrap(id, 1, &SealingKey::generate(&mut rand::rng()));
    for (wrapped, well) in [(&other.wrapped_dek, false), (&stored_before[0].wrapped_dek, true)] {
        let mut transaction = replica.database.store.system().begin().await.unwrap();
        dek_rewrap(&mut transaction, id, 1, wrapped).await.unwrap();
        transaction.commit().await.unwrap();
        let mut snapshot = replica.database.store.system().begin_snapshot().await.unwrap();
        let read = replica.keys.keyring(&replica.database.floors).read(&mut snapshot, id).await;
        assert_eq!(read.err().map(|failure| failure.reason), (!well).then_some(Reason::FloorEquivocation));
        let added = add().await;
        assert_eq!(added.err().map(|error| error.reason()), (!well).then_some(Reason::RowTampered));
    }
    // A key that was added, seen, and taken away again.
    go(&world, id, Stage::Added).await.unwrap();
    add().await.unwrap();
    let [_, second] = &stored(replica, id).await[..] else { panic!("two data keys") };
    let other =
        replica.keys.keyring(&replica.database.floors).wrap(id, 2, &SealingKey::generate(&mut rand::rng()));
    for wrapped in [Some(other), None] {
        sql(&world, "DELETE FROM cluster_deks WHERE key_version = 2").await;
        if let Some(other) = wrapped {
            let mut transaction = replica.database.store.system().begin().await.unwrap();
            dek_insert(&mut transaction, &other).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let refused = add().await.unwrap_err();
        assert_eq!(refused.reason(), Reason::RowTampered);
        assert!(refused.to_string().contains("cluster_deks"), "{refused}");
    }
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    dek_insert(&mut transaction, second).await.unwrap();
    transaction.commit().await.unwrap();
    add().await.unwrap();
    world.stop().await;
}
