//! Rows of an authority that was removed, imported or found by a name that is not its own.

use crate::authority::key_request;
use crate::world::{World, reason};
use rap_contract::Signer;
use rap_types::Reason;
use rap_wire::v1;

#[tokio::test]
async fn a_cluster_whose_newest_record_was_removed_is_not_served() {
    let mut world = World::dev().await;
    for name in ["back", "fine"] {
        world.cluster(name).await;
    }
    let request = v1::AuthorityKeyRequest { cluster: "back".into(), ..key_request(&[]) };
    world.authority().await.authority_rotate(world.request(request)).await.unwrap();
    let database = world.database.as_ref().unwrap();
    database
        .tamper_all(
            &["clusters", "cluster_authorities"],
            "DELETE FROM cluster_authorities a USING clusters c WHERE c.cluster_id = a.cluster_id \
             AND c.name = 'back' AND a.sequence = 2",
        )
        .await;
    let restarted = world.replica().await;
    world.through(restarted).stop().await;
    let mut admin = world.admin().await;
    for (name, expected) in [("back", Some(Reason::FloorRollback)), ("fine", None)] {
        let show = v1::ClusterRef { cluster: name.into() };
        let shown = admin.cluster_show(world.request(show)).await;
        assert_eq!(shown.err().map(reason), expected, "{name}");
    }
    assert!(world.running.replica.watch.metrics.alarms(Reason::FloorRollback) > 0);
    world.stop().await;
}

#[tokio::test]
async fn a_cluster_is_created_with_an_imported_key() {
    let world = World::dev().await;
    let create = |name: &str, seed: &[u8]| v1::ClusterCreateRequest {
        name: name.into(),
        imported_authority_seed: seed.to_vec(),
        ..Default::default()
    };
    let mut admin = world.admin().await;
    let made = admin.cluster_create(world.request(create("prod", &[0x63; 32]))).await.unwrap().into_inner();
    assert_eq!(made.authority_key, Signer::from_seed(&[0x63; 32]).public().to_vec());
    let installation = world.running.replica.keys.installation.authority.seed().to_vec();
    for (request, expected) in [
        (create("two", &[0x63; 32]), Reason::ResourceExists),
        (create("two", &[1; 5]), Reason::KeyInvalid),
        (create("two", &installation), Reason::KeyPurpose),
    ] {
        let refused = admin.cluster_create(world.request(request)).await.unwrap_err();
        assert_eq!(reason(refused), expected);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_step_is_taken_on_the_cluster_whose_own_row_has_the_name() {
    let world = World::dev().await;
    world.cluster("prod").await;
    world.cluster("lab").await;
    // Where names are looked up each cluster has the other one's; where a row is read it is as written.
    let lie = "ALTER TABLE clusters NO FORCE ROW LEVEL SECURITY; ALTER TABLE clusters RENAME TO clusters_kept; \
        DO $$ BEGIN EXECUTE (SELECT 'CREATE VIEW clusters AS SELECT ' || string_agg(CASE attname::text WHEN 'name' \
            THEN '(CASE WHEN current_query() LIKE ''SELECT cluster_id, name FROM clusters ORDER%'' THEN \
                CASE name WHEN ''prod'' THEN ''lab'' ELSE ''prod'' END ELSE name::text END)::rap_name AS name' \
            ELSE attname::text END, ', ' ORDER BY attnum) || ' FROM clusters_kept' FROM pg_attribute \
            WHERE attrelid = 'clusters_kept'::regclass AND attnum > 0 AND NOT attisdropped); END $$; \
        GRANT ALL ON clusters TO PUBLIC";
    world.database.as_ref().unwrap().tamper_all(&[], lie).await;
    let key = || v1::AuthorityKeyRequest { cluster: "prod".into(), ..Default::default() };
    let step = || v1::AuthorityStepRequest { cluster: "prod".into(), force: true, ..Default::default() };
    let turn = v1::DataKeyRotateRequest { cluster: "prod".into(), ..Default::default() };
    let mut authority = world.authority().await;
    let refusals = [
        authority.authority_prepare(world.request(key())).await.map(drop),
        authority.authority_rotate(world.request(key())).await.map(drop),
        authority.authority_recover(world.request(key())).await.map(drop),
        authority.authority_taint(world.request(step())).await.map(drop),
        authority.authority_revoke(world.request(step())).await.map(drop),
        authority.data_key_rotate(world.request(turn)).await.map(drop),
    ];
    for refusal in refusals {
        assert_eq!(reason(refusal.unwrap_err()), Reason::RowTampered);
    }
    assert!(world.running.replica.watch.metrics.alarms(Reason::RowTampered) >= 6);
    for cluster in world.running.replica.serving.clusters.all() {
        assert_eq!(cluster.chain.sequence(), 1);
    }
    // By its id it is the one that is meant, whatever names say.
    let id = world.running.replica.serving.clusters.named("prod").unwrap().id;
    let by_id = v1::ClusterRef { cluster: id.to_string() };
    let listed = authority.authority_list(world.request(by_id)).await.unwrap().into_inner();
    assert_eq!(listed.cluster_id, id.to_vec());
    world.stop().await;
}
