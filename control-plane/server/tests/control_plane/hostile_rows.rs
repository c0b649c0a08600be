//! Rows that nobody means: names like digests, values that the schema forbids.

use crate::host::{Host, hello};
use crate::world::{World, reason};
use rap_contract::Signer;
use rap_rpc::v1::grants_client::GrantsClient;
use rap_types::Reason;
use rap_wire::v1;

#[tokio::test]
async fn an_operator_who_is_called_like_anothers_digest_takes_nothing_from_it() {
    let world = World::dev().await;
    let mut grants = GrantsClient::new(world.line().await.channel);
    let mut add = async |name: String| {
        let subject_key = Signer::generate(&mut rand::rng()).public().to_vec();
        let platform_role = "platform_admin".to_owned();
        let add = v1::GrantAddRequest { name, subject_key, platform_role, valid_for_ms: 0 };
        grants.add(world.request(add)).await.unwrap().into_inner()
    };
    let ann = add("ann".into()).await;
    let like_her = add(hex::encode(&ann.digest)).await;
    let mut grants = GrantsClient::new(world.line().await.channel);
    let revoke = v1::GrantRevokeRequest { grant: hex::encode(&ann.digest), reason: "left".into() };
    let revoked = grants.revoke(world.request(revoke)).await.unwrap().into_inner();
    assert_eq!(revoked.name, "ann");
    let shown = v1::GrantRef { grant: hex::encode(&like_her.digest) };
    assert_eq!(grants.show(world.request(shown)).await.unwrap().into_inner().state, "live");
    world.stop().await;
}

#[tokio::test]
async fn rows_that_the_schema_forbids_are_alarmed_and_other_clusters_are_served() {
    let world = World::dev().await;
    world.cluster("prod").await;
    world.cluster("other").await;
    world.token("prod", 1, true).await;
    let token = world.token("other", 1, true).await;
    let tokens = |cluster: &str| world.request(v1::TokenListRequest { cluster: cluster.into() });
    let database = world.database.as_ref().unwrap();
    // An end of time, which a program may fail to read.
    for statement in [
        "UPDATE join_tokens SET expires_at = 'infinity' FROM clusters \
         WHERE clusters.cluster_id = join_tokens.cluster_id AND name = 'prod'",
        "UPDATE join_tokens SET expires_at = '-infinity' FROM clusters \
         WHERE clusters.cluster_id = join_tokens.cluster_id AND name = 'prod'",
        "UPDATE join_tokens SET expires_at = '294276-12-31' FROM clusters \
         WHERE clusters.cluster_id = join_tokens.cluster_id AND name = 'prod'",
    ] {
        database.tamper_all(&["join_tokens", "clusters"], statement).await;
        // Refused, or listed as what it is; never believed, and no fault of the server.
        match world.admin().await.token_list(tokens("prod")).await {
            Err(status) => assert_eq!(reason(status), Reason::RowTampered, "{statement}"),
            Ok(listed) => {
                let states = listed.into_inner().tokens.into_iter().map(|token| token.refused);
                assert_eq!(states.collect::<Vec<_>>(), ["row.tampered"], "{statement}");
            }
        }
        assert_eq!(
            world.admin().await.token_list(tokens("other")).await.unwrap().into_inner().tokens.len(),
            1
        );
    }
    // Nothing where something must be: nobody operates the platform, nodes are served.
    let nothing = "ALTER TABLE role_grant_sets ALTER COLUMN envelope DROP NOT NULL; \
         UPDATE role_grant_sets SET envelope = NULL";
    database.tamper("role_grant_sets", nothing).await;
    let refused = world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap_err();
    assert_eq!(reason(refused), Reason::RowTampered);
    assert!(world.running.replica.watch.metrics.alarms(Reason::RowTampered) > 0);
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    host.stream(&world, &slot, hello()).await.update().await;
    world.stop().await;
}
