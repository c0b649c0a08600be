//! Authority records at a running agent: on disk before anything counts, and still there after a kill.

use rap_contract::Signer;

use crate::fake::agent::{Host, kill, terminate};
use crate::fake::plane::Plane;
use crate::support::World;
use crate::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_is_kept_over_a_kill_and_the_operators_pin_may_name_the_old_key() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = running.control.clone();
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(&control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    host.status_when("version 1", |status| status["active"]["sequence"] == 1).await;

    let (record, old) = {
        let mut world = control.world.lock().unwrap();
        let next = Signer::from_seed(&[81; 32]);
        let kind = v1::authority_record::Kind::Rotate;
        let record = world.record(&world.chain(), kind, (&world.authority, &next), 10);
        (record, std::mem::replace(&mut world.authority, next))
    };
    control.say(vec![control_message::Body::Authority(v1::AuthorityRecords { records: vec![record] })]);
    let confirm = heard(
        &mut messages,
        "confirmation",
        |body| matches!(body, node_message::Body::Authority(confirm) if confirm.sequence == 2),
    )
    .await;
    let node_message::Body::Authority(confirm) = confirm else { unreachable!() };
    assert_eq!((confirm.reason.as_str(), confirm.digest.len()), ("", 32));
    // Killed between the record and the first head of the new key, and started without contact.
    kill(agent).await;
    drop(running);
    let agent = host.agent().await;
    let (_, status) = host.status_when("pinned", |status| status["authority_sequence"] == 2).await;
    assert_eq!(status["active"]["sequence"], 1, "the last good snapshot serves");
    assert_eq!(status["pinned_keys"][1]["record"], 2);
    let verify = host.run(&["snapshot", "verify", "--json"]).await.expect(0).json();
    assert_eq!(verify["verified"], true);

    control.say(update(&publish(&control, HeadOrder::new(10, 1, 0), 2, Duration::from_secs(300))));
    let running = control.restart().await;
    let (_, status) =
        host.status_when("the new key's head", |status| status["active"]["incarnation"] == 10).await;
    assert_eq!(status["state"], "healthy");
    host.run(&["snapshot", "verify", "--json"]).await.expect(0);
    assert!(terminate(agent).await.success());

    // The pins of the environment name the key of the join, or the present one, and nothing else.
    let stranger = World::default().installation_authority;
    let present = Signer::from_seed(&[81; 32]);
    for key in [&old, &present] {
        let pin = key.id().to_string();
        let pinned = host.spawn_with(&["--metrics", "off"], &[("RAP_CLUSTER_AUTHORITY_FINGERPRINT", &pin)]);
        let agent = host.answering(pinned).await;
        host.status_when("healthy under the pin", |status| status["state"] == "healthy").await;
        assert!(terminate(agent).await.success());
    }
    assert!(!host.log_text().contains("pin.mismatch"));
    let pin = stranger.id().to_string();
    let refused = host.spawn_with(&["--metrics", "off"], &[("RAP_CLUSTER_AUTHORITY_FINGERPRINT", &pin)]);
    host.logs("pin.mismatch").await;
    kill(refused).await;
    drop(running);
}
