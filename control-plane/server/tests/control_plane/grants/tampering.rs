//! Rows of grants edited, copied, put back and exchanged by a superuser, in strict and in development mode.

use rap_authority::{RoleGrantOrder, add_role_grant, first_role_grant};
use rap_control_plane::acts::grant_role;
use rap_control_plane::serve::role_grants;
use rap_rpc::v1::admin_client::AdminClient;
use rap_types::{PlatformRole, Reason};
use rap_wire::v1;

use super::{RESTORED, add, assert_alarm, login, owner_status, revoke, sets, signer, sql, status, worlds};
use crate::activation;
use crate::world::{World, reason};

#[tokio::test]
async fn sql_edit_of_a_role_is_refused_alarmed_and_audited() {
    for world in worlds().await {
        let ann = signer();
        add(&world, "ann", &ann, "platform_admin").await.unwrap();
        let session = login(&world, &ann).await.unwrap().session;
        for (edit, repair, object) in [
            (
                "UPDATE operators SET platform_role = 'platform_owner' WHERE name = 'ann'",
                "UPDATE operators SET platform_role = 'platform_admin' WHERE name = 'ann'",
                "operator/",
            ),
            (
                "UPDATE platform_role_grants SET platform_role = 'platform_owner'",
                "UPDATE platform_role_grants SET platform_role = 'platform_admin' WHERE subject_key = \
                 (SELECT public_key FROM operators WHERE name = 'ann')",
                "platform_role_grants/",
            ),
        ] {
            sql(&world, edit).await;
            assert_eq!(status(&world, &session).await, Some(Reason::RowTampered), "{edit}");
            assert!(login(&world, &ann).await.is_err(), "{edit}");
            // The one whose rows are what was signed goes on.
            assert_eq!(owner_status(&world).await, None, "{edit}");
            assert_alarm(&world, Reason::RowTampered, object).await;
            sql(&world, repair).await;
            assert_eq!(status(&world, &session).await, None, "{repair}");
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn copied_grant_row_gives_nobody_anything() {
    for world in worlds().await {
        let (ann, intruder) = (signer(), signer());
        add(&world, "ann", &ann, "platform_admin").await.unwrap();
        // Ann's signed bytes under a digest, key and role of the intruder's choice.
        sql(
            &world,
            "INSERT INTO platform_role_grants (grant_digest, subject_key, platform_role, envelope) \
             SELECT sha256(grant_digest), sha256(subject_key), 'platform_owner', envelope \
             FROM platform_role_grants WHERE platform_role = 'platform_admin'",
        )
        .await;
        let session = login(&world, &ann).await.unwrap().session;
        assert_eq!(status(&world, &session).await, None, "the genuine row is still there");
        assert_alarm(&world, Reason::RowTampered, "platform_role_grants/").await;

        // A grant that the installation authority really signed, in a history that is not this one.
        let replica = &world.running.replica;
        let admitted = role_grants::current(&replica.serving).await.unwrap();
        let owner = admitted.grants().of(&world.owner.public(), replica.watch.clock.now().wall).unwrap();
        let order = RoleGrantOrder {
            subject: intruder.public(),
            name: "intruder".into(),
            role: PlatformRole::Owner,
            valid_for: None,
        };
        let scope = replica.keys.installation.role_grant_scope();
        let foreign =
            add_role_grant(&scope, admitted.grants(), owner, &order, replica.watch.clock.now().wall).unwrap();
        let mut transaction = replica.database.store.system().begin().await.unwrap();
        let terms = &foreign.terms;
        rap_store::role_grant_insert(
            &mut transaction,
            terms.digest,
            terms.subject.as_bytes(),
            terms.role,
            &foreign.grant,
        )
        .await
        .unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(login(&world, &intruder).await.unwrap_err(), Reason::LoginRefused);
        assert_eq!(owner_status(&world).await, None);
        assert_alarm(&world, Reason::RowTampered, &format!("platform_role_grants/{}", terms.digest)).await;
        // And the next set does not take it up.
        add(&world, "bob", &signer(), "platform_admin").await.unwrap();
        assert_eq!(login(&world, &intruder).await.unwrap_err(), Reason::LoginRefused);

        // The row of a revoked grant, put back as it was, is worth nothing either.
        revoke(&world, "ann").await.unwrap();
        sql(&world, "UPDATE operators SET disabled_at = NULL").await;
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
        world.stop().await;
    }
}

#[tokio::test]
async fn old_consistent_copy_of_the_grant_tables_is_refused_alarmed_and_audited() {
    for world in worlds().await {
        let ann = signer();
        add(&world, "ann", &ann, "platform_owner").await.unwrap();
        let session = login(&world, &ann).await.unwrap().session;
        sql(
            &world,
            "CREATE SCHEMA stolen; \
             CREATE TABLE stolen.sets AS TABLE role_grant_sets; \
             CREATE TABLE stolen.grants AS TABLE platform_role_grants; \
             CREATE TABLE stolen.operators AS TABLE operators; \
             CREATE TABLE stolen.sessions AS TABLE operator_sessions",
        )
        .await;
        revoke(&world, "ann").await.unwrap();
        sql(&world, RESTORED).await;
        sql(
            &world,
            "CREATE TABLE stolen.new_sets AS TABLE role_grant_sets; \
             CREATE TABLE stolen.new_grants AS TABLE platform_role_grants; \
             DELETE FROM operator_sessions; DELETE FROM operators; DELETE FROM role_grant_sets; \
             DELETE FROM platform_role_grants; \
             INSERT INTO operators TABLE stolen.operators; \
             INSERT INTO operator_sessions TABLE stolen.sessions; \
             INSERT INTO platform_role_grants TABLE stolen.grants; \
             INSERT INTO role_grant_sets TABLE stolen.sets",
        )
        .await;
        assert_eq!(status(&world, &session).await, Some(Reason::FloorRollback));
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::FloorRollback);
        assert_eq!(owner_status(&world).await, Some(Reason::FloorRollback));
        assert_alarm(&world, Reason::FloorRollback, "role-grant-set").await;
        // Nothing is signed on top of it, by this replica or by one that starts now.
        let second = world.replica().await;
        let line = world.line_to(second.address).await;
        let refused =
            AdminClient::new(line.channel).status(world.request(v1::StatusRequest {})).await.unwrap_err();
        assert_eq!(reason(refused), Reason::FloorRollback);
        second.stop().await;
        assert_eq!(sets(&world).await.len(), 2);

        // Back as it was, all is well.
        sql(
            &world,
            "INSERT INTO platform_role_grants SELECT * FROM stolen.new_grants n WHERE NOT EXISTS \
                (SELECT 1 FROM platform_role_grants g WHERE g.grant_digest = n.grant_digest); \
             INSERT INTO role_grant_sets SELECT * FROM stolen.new_sets n WHERE NOT EXISTS \
                (SELECT 1 FROM role_grant_sets s WHERE s.sequence = n.sequence)",
        )
        .await;
        assert_eq!(owner_status(&world).await, None);
        assert_eq!(login(&world, &ann).await.unwrap_err(), Reason::LoginRefused);
        world.stop().await;
    }
}

#[tokio::test]
async fn removed_and_exchanged_sets_and_rows_are_refused() {
    let world = World::dev().await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    revoke(&world, "ann").await.unwrap();
    sql(&world, RESTORED).await;
    sql(
        &world,
        "CREATE SCHEMA stolen; CREATE TABLE stolen.sets AS TABLE role_grant_sets; \
         CREATE TABLE stolen.grants AS TABLE platform_role_grants",
    )
    .await;
    for (edit, refusal) in [
        // What takes Ann's grant back.
        (
            "DELETE FROM platform_role_grants WHERE created_at = (SELECT max(created_at) FROM platform_role_grants)",
            Reason::ChainBroken,
        ),
        ("DELETE FROM role_grant_sets", Reason::FloorRollback),
        ("DELETE FROM role_grant_sets WHERE sequence = 3", Reason::FloorRollback),
        (
            "UPDATE role_grant_sets SET envelope = (SELECT envelope FROM stolen.sets WHERE sequence = 2) \
             WHERE sequence = 3",
            Reason::FloorRollback,
        ),
        (
            "UPDATE role_grant_sets SET envelope = set_byte(envelope, 100, get_byte(envelope, 100) # 1)",
            Reason::SignatureInvalid,
        ),
        (
            "UPDATE platform_role_grants SET envelope = set_byte(envelope, 100, get_byte(envelope, 100) # 1)",
            Reason::ChainBroken,
        ),
    ] {
        sql(&world, edit).await;
        assert_eq!(owner_status(&world).await, Some(refusal), "{edit}");
        assert_alarm(&world, refusal, "role-grant-set").await;
        sql(
            &world,
            "DELETE FROM role_grant_sets; DELETE FROM platform_role_grants; \
             INSERT INTO platform_role_grants TABLE stolen.grants; \
             INSERT INTO role_grant_sets TABLE stolen.sets",
        )
        .await;
        assert_eq!(owner_status(&world).await, None, "after {edit}");
    }
    // Another history, genuinely signed: the same sequence with another set.
    let replica = &world.running.replica;
    let other = first_role_grant(
        &replica.keys.installation.role_grant_scope(),
        "eve",
        ann.public(),
        replica.watch.clock.now().wall,
    );
    let other = other.unwrap();
    sql(&world, "DELETE FROM role_grant_sets; DELETE FROM platform_role_grants").await;
    let mut transaction = replica.database.store.system().begin().await.unwrap();
    grant_role::store_change(&mut transaction, &replica.keys.rows, &other, replica.watch.clock.now().wall)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(owner_status(&world).await, Some(Reason::FloorRollback));
    assert!(login(&world, &ann).await.is_err());
    world.stop().await;
}

#[tokio::test]
async fn a_database_put_back_to_before_its_activation_is_not_activated_again() {
    let strict = activation::strict().await;
    let world = &strict.world;
    let manifest = activation::manifest(&strict, &strict.root, &world.owner);
    activation::activate(world, &manifest, &world.owner).await.unwrap();
    sql(
        world,
        "UPDATE installation_authority SET activation_manifest = NULL, activated_at = NULL; \
         DELETE FROM operator_sessions; DELETE FROM operators; DELETE FROM role_grant_sets; \
         DELETE FROM platform_role_grants",
    )
    .await;
    // A replica that starts now has not seen the activation, but it has the floor.
    let second = world.replica().await;
    let mut again = strict.world;
    let first = again.through(second);
    let refused = activation::activate(&again, &manifest, &again.owner).await.unwrap_err();
    assert_eq!(refused, Reason::FloorRollback);
    assert_alarm(&again, Reason::FloorRollback, "role-grant-set").await;
    first.stop().await;
    again.stop().await;
}
