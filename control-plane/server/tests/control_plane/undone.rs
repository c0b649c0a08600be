//! What was answered as done is in the database as it was signed, and counts here whatever the database says.

use rap_authority::FloorOf;
use rap_types::{ClusterId, Reason};
use rap_wire::v1;
use tonic::{Response, Status};

use crate::authority::{key_request, step};
use crate::floors::within;
use crate::grants::{self, add, audited, signer, sql};
use crate::host::{Host, hello, member};
use crate::revocations::end_of;
use crate::world::{World, in_time, reason};

/// Undoes at COMMIT what a transaction inserted or changed in the tables that signed state is kept in. Product triggers
/// do not fire for whoever does this.
const UNDO: &str = "
CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET session_replication_role = replica AS $$
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'node_revocations' THEN
        DELETE FROM node_revocations WHERE cluster_id = NEW.cluster_id AND sequence = NEW.sequence;
    WHEN 'role_grant_sets' THEN DELETE FROM role_grant_sets WHERE sequence = NEW.sequence;
    WHEN 'platform_role_grants' THEN DELETE FROM platform_role_grants WHERE grant_digest = NEW.grant_digest;
    WHEN 'audit_log' THEN DELETE FROM audit_log WHERE entry_id = NEW.entry_id;
    WHEN 'nodes' THEN
        UPDATE nodes SET identity_status = OLD.identity_status, row_version = OLD.row_version, row_mac = OLD.row_mac
            WHERE node_id = OLD.node_id;
    WHEN 'join_tokens' THEN
        UPDATE join_tokens SET revoked_at = OLD.revoked_at, row_version = OLD.row_version, row_mac = OLD.row_mac
            WHERE token_id = OLD.token_id;
    WHEN 'cluster_authorities' THEN
        UPDATE cluster_authorities SET state = OLD.state, sealed_private_key = OLD.sealed_private_key,
            row_version = OLD.row_version, row_mac = OLD.row_mac
            WHERE cluster_id = OLD.cluster_id AND sequence = OLD.sequence;
    END CASE;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER undone AFTER INSERT ON node_revocations DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION undo();
CREATE CONSTRAINT TRIGGER undone AFTER INSERT ON role_grant_sets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION undo();
CREATE CONSTRAINT TRIGGER undone AFTER INSERT ON platform_role_grants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION undo();
CREATE CONSTRAINT TRIGGER undone AFTER UPDATE ON nodes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION undo();
CREATE CONSTRAINT TRIGGER undone AFTER UPDATE ON join_tokens DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at) EXECUTE FUNCTION undo();
CREATE CONSTRAINT TRIGGER undone AFTER UPDATE ON cluster_authorities DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION undo();";

const UNDO_AUDIT: &str = "
CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET session_replication_role = replica AS $$
BEGIN
    DELETE FROM audit_log WHERE entry_id = NEW.entry_id;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER undone AFTER INSERT ON audit_log DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.action = 'token.create') EXECUTE FUNCTION undo();";

const SWALLOW_AUDIT: &str = "
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.action = 'token.create' THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER swallowed BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION swallow();";

fn alarms(world: &World) -> u64 {
    world.running.replica.watch.metrics.alarms(Reason::RowTampered)
}

async fn revoke_token(world: &World, token: &v1::TokenCreateAnswer) -> Result<v1::Token, Reason> {
    let token_id = token.token.as_ref().unwrap().token_id.clone();
    let request = v1::TokenRevokeRequest { token_id, ..Default::default() };
    let answer = world.admin().await.token_revoke(world.request(request)).await;
    answer.map(Response::into_inner).map_err(reason)
}

async fn create_token(world: &World) -> Result<Response<v1::TokenCreateAnswer>, Status> {
    let request = v1::TokenCreateRequest { cluster: "prod".into(), ..Default::default() };
    world.admin().await.token_create(world.request(request)).await
}

#[tokio::test]
async fn a_revocation_of_a_node_that_is_undone_at_commit_is_found_and_counts_here() {
    let world = World::dev().await;
    let (_, honest, _) = member(&world).await;
    let host = Host::new(&world.token("prod", 1, true).await, "lost");
    let lost = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &lost).await.unwrap();
    world.revoke(&honest.node.to_string(), false).await.unwrap();
    let before = alarms(&world);
    sql(&world, UNDO).await;
    let refusal = world.revoke(&lost.node.to_string(), false).await.unwrap_err();
    assert_eq!(reason(refusal), Reason::RowTampered);
    assert!(alarms(&world) > before);
    // The database says that it is a member; what was signed says that it is not.
    assert!(host.is_refused(&world, &slot).await);
    assert_eq!(reason(host.certificate(&world, &lost).await.unwrap_err()), Reason::NodeRevoked);
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    let floor = world.running.replica.database.floors.current().unwrap().of(FloorOf::Revocations(cluster.id));
    assert_eq!(floor.map(|floor| floor.sequence), Some(2));
    // An act of another kind is as good as ever.
    create_token(&world).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_of_a_node_that_is_undone_at_commit_counts_at_the_other_replica() {
    let mut world = World::dev().await;
    let (host, lost, slot) = member(&world).await;
    let second = world.replica().await;
    let first = world.through(second);
    let mut live = host.stream(&world, &slot, hello()).await;
    live.update().await;
    let second = world.through(first);
    sql(&world, UNDO).await;
    let refusal = world.revoke(&lost.node.to_string(), false).await.unwrap_err();
    assert_eq!(reason(refusal), Reason::RowTampered);
    // That replica never reads the record: the database has it no more.
    assert_eq!(in_time("the live stream there ends", end_of(&mut live)).await, Reason::NodeRevoked);
    let first = world.through(second);
    within(10, "it is refused", async || host.is_refused(&world, &slot).await.then_some(())).await;
    first.stop().await;
    world.stop().await;
}

/// A failover that loses one commit: the record comes back, and the row of the node with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_revocation_is_put_back_with_the_row_of_its_node_and_publication_goes_on_after_a_restart() {
    let mut world = World::dev().await;
    let (_, lost, _) = member(&world).await;
    sql(&world, UNDO).await;
    assert_eq!(reason(world.revoke(&lost.node.to_string(), false).await.unwrap_err()), Reason::RowTampered);
    sql(&world, "DROP FUNCTION undo() CASCADE").await;
    // It has published nothing yet, so it cannot go on with a version from before.
    let second = world.replica().await;
    let first = world.through(second);
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    within(30, "a version without the node", async || {
        let newest = cluster.feed.newest()?;
        (!newest.plan.nodes.contains_key(&lost.node)).then_some(())
    })
    .await;
    assert_eq!(world.node(&lost.node.to_string()).await.identity_status, "revoked");
    let healed = audited(&world, "floor.healed").await;
    assert!(healed.iter().any(|entry| *entry == format!("node/{}", lost.node)), "{healed:?}");
    first.stop().await;
    world.stop().await;
}

/// Without any help of the publisher: it finds a row that is not as it was written, and learns nothing.
#[tokio::test]
async fn a_revocation_is_in_force_when_it_is_answered_though_nothing_can_be_published() {
    let mut world = World::dev().await;
    let (_, other, _) = member(&world).await;
    let host = Host::new(&world.token("prod", 1, true).await, "gone");
    let gone = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &gone).await.unwrap();
    sql(&world, "UPDATE nodes SET name = 'edited' WHERE name <> 'gone'").await;
    let second = world.replica().await;
    let first = world.through(second);
    first.stop().await;
    assert!(!host.is_refused(&world, &slot).await);
    world.revoke("gone", false).await.unwrap();
    let cluster = world.running.replica.serving.clusters.named("prod").unwrap();
    assert!(cluster.revocations.known().chain.gone(gone.node).is_some());
    assert!(host.is_refused(&world, &slot).await);
    assert!(cluster.feed.newest().is_none(), "{} stands in the way", other.node);
    world.stop().await;
}

#[tokio::test]
async fn a_revocation_of_a_grant_that_is_undone_at_commit_is_found_and_counts_here() {
    let world = World::dev().await;
    let (honest, lost) = (signer(), signer());
    add(&world, "honest", &honest, "platform_admin").await.unwrap();
    add(&world, "lost", &lost, "platform_admin").await.unwrap();
    let session = grants::login(&world, &lost).await.unwrap().session;
    grants::revoke(&world, "honest").await.unwrap();
    sql(&world, UNDO).await;
    assert_eq!(grants::revoke(&world, "lost").await.unwrap_err(), Reason::RowTampered);
    assert_eq!(grants::status(&world, &session).await, Some(Reason::SessionMissing), "its session ended");
    // What was signed counts, and nobody else is locked out.
    assert_eq!(grants::login(&world, &lost).await.unwrap_err(), Reason::LoginRefused);
    world.cluster("prod").await;
    world.stop().await;
}

#[tokio::test]
async fn an_end_of_an_authority_or_a_token_that_is_undone_at_commit_is_found() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let (honest, lost) = (world.token("prod", 1, true).await, world.token("prod", 1, true).await);
    for _ in 0..2 {
        world.authority().await.authority_rotate(world.request(key_request(&[]))).await.unwrap();
    }
    for sequence in [1, 2] {
        world.authority().await.authority_taint(world.request(step(sequence, true))).await.unwrap();
    }
    world.authority().await.authority_revoke(world.request(step(1, false))).await.unwrap();
    revoke_token(&world, &honest).await.unwrap();
    sql(&world, UNDO).await;
    let refusal = world.authority().await.authority_revoke(world.request(step(2, false))).await.unwrap_err();
    assert_eq!(reason(refusal), Reason::RowTampered);
    assert_eq!(revoke_token(&world, &lost).await.unwrap_err(), Reason::RowTampered);
    create_token(&world).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn an_audit_row_that_is_undone_at_commit_is_found() {
    let world = World::dev().await;
    world.cluster("prod").await;
    create_token(&world).await.unwrap();
    sql(&world, UNDO_AUDIT).await;
    assert_eq!(reason(create_token(&world).await.unwrap_err()), Reason::RowTampered);
    assert_eq!(audited(&world, "token.create").await.len(), 1);
    // An entry of another kind is kept.
    add(&world, "other", &signer(), "platform_admin").await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn an_audit_row_that_is_kept_back_undoes_its_act() {
    let world = World::dev().await;
    world.cluster("prod").await;
    create_token(&world).await.unwrap();
    sql(&world, SWALLOW_AUDIT).await;
    assert_eq!(reason(create_token(&world).await.unwrap_err()), Reason::RowTampered);
    let request = v1::TokenListRequest { cluster: "prod".into() };
    let listed = world.admin().await.token_list(world.request(request)).await.unwrap().into_inner();
    assert_eq!(listed.tokens.len(), 1, "there is no token without its entry");
    add(&world, "other", &signer(), "platform_admin").await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn with_no_new_connection_to_be_had_what_is_answered_as_done_is_done() {
    let world = World::dev().await;
    let id = ClusterId::from_slice(&world.cluster("prod").await.cluster_id).unwrap();
    sql(
        &world,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$",
    )
    .await;
    let mut done = 0;
    for _ in 0..10 {
        let answer = world.authority().await.authority_rotate(world.request(key_request(&[]))).await;
        match answer {
            Ok(answer) => {
                done += 1;
                assert_eq!(answer.get_ref().keys.len(), 1 + done);
            }
            Err(status) => assert_eq!(reason(status), Reason::StoreUnavailable),
        }
        // The records that were signed are those that were answered as done.
        let chain = &world.running.replica.serving.clusters.by_id(id).unwrap().chain;
        assert_eq!(chain.sequence() as usize, 1 + done);
    }
    assert!(done > 0, "the connections that there are carry acts");
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_follow_a_done_act_is_a_warning_and_no_failure() {
    let world = World::dev().await;
    let (host, bootstrap, slot) = member(&world).await;
    let floors = world.data_dir.join("floors.json");
    std::fs::rename(&floors, world.data_dir.join("floors.aside")).unwrap();
    std::fs::create_dir(&floors).unwrap();
    let request = v1::NodeRevokeRequest {
        cluster: "prod".into(),
        node: bootstrap.node.to_string(),
        ..Default::default()
    };
    let answer = world.membership().await.node_revoke(world.request(request)).await.unwrap();
    let warning = rap_rpc::warning(&answer).unwrap();
    assert!(warning.starts_with("warning: publish.pending: "), "{warning}");
    assert!(host.is_refused(&world, &slot).await, "it is in force before the disk takes it");
    std::fs::remove_dir(&floors).unwrap();
    std::fs::rename(world.data_dir.join("floors.aside"), &floors).unwrap();
    let answer = create_token(&world).await.unwrap();
    assert_eq!(rap_rpc::warning(&answer), None);
    world.stop().await;
}
