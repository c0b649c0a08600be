//! The audit tree against somebody who owns the database.

use rap_types::Reason;
use rap_wire::v1;

use super::{checkpoint, checkpoint_size, client, covered, opened, rounds, stopped, until};
use crate::world::{World, reason};

#[tokio::test]
async fn an_altered_row_stops_signing_with_an_alarm() {
    for statement in [
        "UPDATE audit_log SET actor = 'operator:mallory' WHERE sequence = 1",
        "DELETE FROM audit_log WHERE sequence = 1",
        "ALTER TABLE audit_log DROP CONSTRAINT audit_log_sequence;
         UPDATE audit_log SET sequence = 1 - sequence WHERE sequence IN (0, 1)",
        "UPDATE audit_log SET recorded_at = recorded_at - interval '1 microsecond' WHERE sequence = 0",
        "UPDATE audit_tree SET frontier = decode(repeat('00', octet_length(frontier)), 'hex')",
    ] {
        let world = World::dev().await;
        world.cluster("prod").await;
        covered(&world.running).await;
        let signed = world.running.replica.audit.status().checkpoint_size;
        world.database.as_ref().unwrap().as_superuser(statement).await;
        stopped(&world.running, Reason::AuditTampered).await;
        // Later entries get no checkpoint: the last one stands.
        world.token("prod", 1, false).await;
        rounds(&world.running, 3).await;
        assert_eq!(checkpoint_size(&world).await, signed, "{statement}");
        let status = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap();
        assert_eq!(status.into_inner().audit.unwrap().reason, "audit.tampered");
        // A replica that starts now finds it before it signs anything.
        let second = world.replica().await;
        stopped(&second, Reason::AuditTampered).await;
        second.stop().await;
        world.stop().await;
    }
}

#[tokio::test]
async fn a_row_without_its_mac_gets_no_place() {
    for statement in [
        "INSERT INTO audit_log (actor, action, object, request_id) \
         VALUES ('operator:ann', 'node.approve', 'node/1', gen_random_uuid())",
        "INSERT INTO audit_log (actor, action, object, request_id, row_mac) \
         SELECT actor, action, object, request_id, row_mac FROM audit_log WHERE sequence = 0",
    ] {
        let world = World::dev().await;
        covered(&world.running).await;
        let signed = world.running.replica.audit.status().size;
        world.database.as_ref().unwrap().as_superuser(statement).await;
        stopped(&world.running, Reason::AuditTampered).await;
        assert_eq!(checkpoint_size(&world).await, signed);
        world.stop().await;
    }
}

const PUT_BACK: &str = "DELETE FROM audit_checkpoints WHERE size > 2;
    DELETE FROM audit_log WHERE sequence >= 2 OR sequence IS NULL;
    UPDATE audit_tree SET size = 2, frontier = (SELECT substr(frontier, 1, 32) FROM attic.kept)";

#[tokio::test]
async fn a_database_put_back_below_a_signed_checkpoint_is_found_at_start_and_begun_anew_by_an_owner() {
    let mut world = World::dev().await;
    // Two entries, one checkpoint; then the state that the database is put back to is kept.
    until("two entries", async || world.running.replica.audit.status().checkpoint_size == 2).await;
    let database = world.database.as_ref().unwrap();
    database
        .as_superuser("CREATE SCHEMA attic; CREATE TABLE attic.kept AS SELECT frontier FROM audit_tree")
        .await;
    world.cluster("prod").await;
    world.token("prod", 1, false).await;
    covered(&world.running).await;
    let lost = opened(&world, &checkpoint(&world, None).await).1;
    assert_eq!(lost.size, 4);
    world.database.as_ref().unwrap().as_superuser(PUT_BACK).await;
    stopped(&world.running, Reason::AuditRollback).await;
    let restarted = world.replica().await;
    std::mem::replace(&mut world.running, restarted).stop().await;
    stopped(&world.running, Reason::AuditRollback).await;

    // Nothing is signed until an owner says so, with a reason that stays readable.
    let mut audit = client(&world).await;
    let refused = audit.restart(world.request(v1::AuditRestartRequest::default())).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RequestInvalid);
    let request = v1::AuditRestartRequest { reason: "restored from the backup of Monday".into() };
    let begun = audit.restart(world.request(request)).await.unwrap().into_inner();
    assert_eq!((begun.generation, begun.first_size), (2, 2));
    covered(&world.running).await;
    let (log, now) = opened(&world, &checkpoint(&world, None).await);
    assert_eq!((now.generation, log.newest().first_size), (2, 2));
    assert_eq!(log.newest().reason, "restored from the backup of Monday");
    let second = world.replica().await;
    covered(&second).await;
    second.stop().await;
    world.stop().await;
}
