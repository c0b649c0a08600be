//! What policy says of degraded mode: which words can be set, and that nodes are told.

use rap_types::Reason;
use rap_wire::v1;

use crate::host::Host;
use crate::world::{World, reason};

fn words(words: &[&str]) -> Option<v1::Words> {
    Some(v1::Words { words: words.iter().map(|word| (*word).to_owned()).collect() })
}

fn request() -> v1::MembershipPolicySetRequest {
    v1::MembershipPolicySetRequest { cluster: "prod".into(), ..Default::default() }
}

async fn set(
    world: &World,
    change: v1::MembershipPolicySetRequest,
) -> Result<v1::MembershipPolicy, tonic::Status> {
    world.membership().await.policy_set(world.request(change)).await.map(tonic::Response::into_inner)
}

async fn shown(world: &World) -> v1::MembershipPolicy {
    let request = v1::ClusterRef { cluster: "prod".into() };
    world.membership().await.policy_show(world.request(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn words_reach_the_signed_snapshot_once_each_in_the_contracts_order_and_can_be_cleared() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let member = Host::new(&world.token("prod", 1, true).await, "one").enrol(&world).await;
    let change = v1::MembershipPolicySetRequest {
        degraded_ends: words(&["probe", "existing_links", "probe"]),
        survive_forever_roles: words(&["relay-node", "core"]),
        ..request()
    };
    let policy = set(&world, change).await.unwrap();
    assert_eq!(policy.degraded_ends, ["existing_links", "probe"]);
    assert_eq!(policy.survive_forever_roles, ["core", "relay-node"]);
    assert_eq!(shown(&world).await, policy);
    let snapshot = world.snapshot(&member).await;
    let told = &snapshot.contents().policy;
    assert_eq!(
        (&told.degraded_ends, &told.survive_forever_roles),
        (&policy.degraded_ends, &policy.survive_forever_roles)
    );

    // Another part of the policy leaves the words; each list is cleared by itself.
    set(&world, v1::MembershipPolicySetRequest { keep_ids: Some(true), ..request() }).await.unwrap();
    assert_eq!(shown(&world).await.degraded_ends.len(), 2);
    set(&world, v1::MembershipPolicySetRequest { degraded_ends: words(&[]), ..request() }).await.unwrap();
    let left = shown(&world).await;
    assert_eq!((left.degraded_ends.len(), left.survive_forever_roles.len(), left.keep_ids), (0, 2, true));
    assert!(world.snapshot(&member).await.contents().policy.degraded_ends.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_word_that_cannot_be_set_is_named_and_nothing_of_the_request_is_done() {
    let world = World::dev().await;
    world.cluster("prod").await;
    let kept = v1::MembershipPolicySetRequest { degraded_ends: words(&["failover"]), ..request() };
    let before = set(&world, kept).await.unwrap();
    for (ends, roles, named) in [
        (words(&["probe", "probes"]), None, "unknown activity `probes`: one of existing_links, failover"),
        (words(&["lease"]), None, "`lease` is refused in degraded mode whatever policy says"),
        (words(&["control_reconnect"]), None, "`control_reconnect` cannot be ended"),
        (words(&["probe"]), words(&["relay"]), "unknown role `relay`: one of core,"),
        (words(&[""]), None, "unknown activity ``"),
    ] {
        let change = v1::MembershipPolicySetRequest {
            keep_ids: Some(true),
            degraded_ends: ends,
            survive_forever_roles: roles,
            ..request()
        };
        let refused = set(&world, change).await.unwrap_err();
        assert!(refused.message().contains(named), "{}", refused.message());
        assert_eq!(reason(refused), Reason::RequestInvalid);
        assert_eq!(shown(&world).await, before);
    }
    world.stop().await;
}
