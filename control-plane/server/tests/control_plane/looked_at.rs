//! What is looked at though nobody asks: rows that no version depends on, and refused acts.

use rap_types::Reason;
use rap_wire::v1;
use tonic::Response;

use crate::authority::key_request;
use crate::grants::{self, add, audited, signer, sql};
use crate::rows::until;
use crate::world::{World, reason};

#[tokio::test]
async fn a_token_or_the_installation_that_is_altered_is_an_alarm_for_as_long_as_it_is() {
    let world = World::dev_with(|raw| raw.rows_check_ms = Some(200)).await;
    world.cluster("prod").await;
    world.token("prod", 1, true).await;
    let about = |table: &'static str| {
        move |answer: &v1::StatusAnswer| {
            answer.alarms.iter().any(|alarm| alarm.reason == "row.tampered" && alarm.what.contains(table))
        }
    };
    sql(&world, "SET session_replication_role = replica; UPDATE join_tokens SET max_uses = max_uses + 1")
        .await;
    until(&world, about("join_tokens")).await;
    let alter = "UPDATE installation_authority SET activation_nonce = set_byte(activation_nonce, 0, \
        get_byte(activation_nonce, 0) # 1)";
    sql(&world, alter).await;
    until(&world, |answer| about("installation_authority")(answer) && about("join_tokens")(answer)).await;
    sql(&world, alter).await;
    until(&world, |answer| !about("installation_authority")(answer) && about("join_tokens")(answer)).await;
    sql(&world, "SET session_replication_role = replica; UPDATE join_tokens SET max_uses = max_uses - 1")
        .await;
    until(&world, |answer| answer.alarms.is_empty()).await;
    world.stop().await;
}

#[tokio::test]
async fn refused_acts_of_operators_are_in_the_audit_log_and_those_of_strangers_are_not() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let ann = signer();
    add(&world, "ann", &ann, "platform_admin").await.unwrap();
    let session = grants::login(&world, &ann).await.unwrap().session;
    let rotate = async |session: &str| {
        let request = grants::with(session, key_request(&[]));
        world.authority().await.authority_rotate(request).await.map(Response::into_inner).map_err(reason)
    };
    for _ in 0..12 {
        assert_eq!(rotate(&session).await.unwrap_err(), Reason::GrantMissing);
    }
    assert_eq!(rotate("no session of anybody").await.unwrap_err(), Reason::SessionMissing);
    let refused = audited(&world, "act.refuse").await;
    assert_eq!(refused, vec!["/rap.fabric.v1.Authority/AuthorityRotate"; 10]);
    // One that a handler refuses.
    let request = v1::TokenRevokeRequest { token_id: vec![7; 16], ..Default::default() };
    let refusal = world.admin().await.token_revoke(world.request(request)).await.unwrap_err();
    assert_eq!(reason(refusal), Reason::ResourceNotFound);
    // What only reads is none.
    let request = v1::ClusterRef { cluster: "nobody".into() };
    world.admin().await.cluster_show(world.request(request)).await.unwrap_err();
    let refused = audited(&world, "act.refuse").await;
    assert_eq!(
        (refused.len(), refused.last().map(String::as_str)),
        (11, Some("/rap.fabric.v1.Admin/TokenRevoke"))
    );
    world.stop().await;
}
