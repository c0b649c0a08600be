//! Floors travel between replicas, and what the database lost is put back by whoever has a copy.

use std::time::Duration;

use rap_authority::FloorOf;
use rap_control_plane::replica::Replica;
use rap_control_plane::serve::role_grants;
use rap_types::Reason;
use rap_wire::v1;

use crate::grants::{self, RESTORED, add, audited, signer, sql};
use crate::host::{Host, member};
use crate::world::{World, reason};

/// Somebody takes the newest role-grant set and what it names away again.
const LOSE_GRANTS: &str = "SET session_replication_role = replica;
DELETE FROM role_grant_sets WHERE sequence = (SELECT max(sequence) FROM role_grant_sets);
DELETE FROM platform_role_grants WHERE created_at = (SELECT max(created_at) FROM platform_role_grants);";

/// The same with every record of revocations.
const LOSE_REVOCATIONS: &str = "SET session_replication_role = replica; DELETE FROM node_revocations;";

pub async fn within<T>(seconds: u64, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), asked).await.unwrap_or_else(|_| panic!("{what}"))
}

fn floor(replica: &Replica, of: FloorOf) -> u64 {
    replica.database.floors.current().and_then(|floors| floors.of(of)).map_or(0, |floor| floor.sequence)
}

#[tokio::test]
async fn what_one_replica_signed_is_a_floor_at_the_others_though_they_never_read_it() {
    let mut world = World::dev().await;
    let lost = signer();
    add(&world, "lost", &lost, "platform_admin").await.unwrap();
    let session = grants::login(&world, &lost).await.unwrap().session;
    let owner = world.login().await.unwrap().session;
    let second = world.replica().await;
    role_grants::current(&second.replica.serving).await.unwrap();
    let signed = grants::revoke(&world, "lost").await.unwrap().set_sequence;
    sql(&world, LOSE_GRANTS).await;
    within(5, "the floor rises at the other replica", async || {
        (floor(&second.replica, FloorOf::GrantSet) == signed).then_some(())
    })
    .await;
    let first = world.through(second);
    assert!(grants::status(&world, &session).await.is_some(), "a revoked operator is let in");
    assert!(grants::login(&world, &lost).await.is_err());
    // Nobody else is locked out, and the database has what it lost.
    within(20, "the owner is let in", async || grants::status(&world, &owner).await.is_none().then_some(()))
        .await;
    within(20, "the set is put back", async || {
        (!audited(&world, "floor.healed").await.is_empty()).then_some(())
    })
    .await;
    assert!(grants::status(&world, &session).await.is_some());
    first.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn what_a_failover_lost_is_put_back_and_locks_nobody_out() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let other = Host::new(&world.token("prod", 1, true).await, "other");
    let stays = other.enrol(&world).await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    world.revoke(&bootstrap.node.to_string(), false).await.unwrap();
    grants::revoke(&world, "ann").await.unwrap();
    sql(&world, LOSE_GRANTS).await;
    sql(&world, LOSE_REVOCATIONS).await;
    // It goes by what was signed.
    let request = v1::ClusterListRequest {};
    world.admin().await.cluster_list(world.request(request)).await.unwrap();
    assert_eq!(grants::login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
    assert!(host.is_refused(&world, &slot).await);
    assert_eq!(reason(host.certificate(&world, &bootstrap).await.unwrap_err()), Reason::NodeRevoked);
    other.certificate(&world, &stays).await.expect("another node is served");
    within(20, "everything is put back", async || {
        let healed = audited(&world, "floor.healed").await;
        ["role_grant_sets/", "platform_role_grants/", "node_revocations/"]
            .iter()
            .all(|table| healed.iter().any(|object| object.starts_with(table)))
            .then_some(())
    })
    .await;
    within(10, "each is an alarm", async || {
        (world.running.replica.watch.metrics.alarms(Reason::FloorHealed) >= 3).then_some(())
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn after_a_restore_nothing_is_put_back_and_the_floor_stands() {
    let world = World::dev().await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    grants::revoke(&world, "ann").await.unwrap();
    sql(&world, RESTORED).await;
    sql(&world, LOSE_GRANTS).await;
    let request = v1::ClusterListRequest {};
    let refusal = world.admin().await.cluster_list(world.request(request)).await.unwrap_err();
    assert_eq!(reason(refusal), Reason::FloorRollback);
    world.stop().await;
}

#[tokio::test]
async fn a_floor_that_no_replica_told_lifts_nothing() {
    let world = World::dev().await;
    let before = floor(&world.running.replica, FloorOf::GrantSet);
    sql(
        &world,
        "SELECT pg_notify('rap_told', format('{\"of\":\"grant-set\",\"at\":{\"sequence\":999,\"digest\":\"%s\"},\
         \"mac\":\"%s\",\"copies\":[]}', repeat('11', 32), repeat('22', 32)))",
    )
    .await;
    within(10, "it is an alarm", async || {
        (world.running.replica.watch.metrics.alarms(Reason::RowTampered) > 0).then_some(())
    })
    .await;
    assert_eq!(floor(&world.running.replica, FloorOf::GrantSet), before);
    world.stop().await;
}
