//! Break-glass grants on a real agent: applied with no control plane, kept over a restart, told once.

use rap_contract::BreakGlassText;
use v1::break_glass_grant::Permit;

use crate::fake::agent::{kill, terminate};
use crate::fake::plane::Plane;
use crate::*;

fn text(
    control: &Control,
    nonce: u8,
    of_root: bool,
    change: impl FnOnce(&mut v1::BreakGlassGrant),
) -> String {
    let world = control.world.lock().unwrap();
    let signer = if of_root { &world.root } else { &world.authority };
    let until_ms = now().0 + 3_500_000;
    let mut grant =
        world.grant(nonce, now(), signer, Permit::ExtendDegraded(v1::ExtendDegraded { until_ms }));
    change(&mut grant);
    let roots = if of_root { vec![world.root.public()] } else { vec![] };
    BreakGlassText::new(sign(&grant, &[signer]), roots).text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_of_the_root_works_offline_survives_a_restart_and_is_told_until_it_is_confirmed() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = running.control.clone();
    let plane = Plane::start(&host.run_dir());
    control.say(update(&publish(&control, HeadOrder::new(1, 1, 0), 1, Duration::from_millis(1))));
    let agent = host.agent().await;
    host.status_when("degraded", |status| {
        status["freshness"]["state"] == "degraded" && status["dataplane"]["up"] == true
    })
    .await;
    drop(running);
    host.status_when("lost", |status| status["control"]["connected"] == false).await;

    // Refused by name, and nothing changes.
    let apply = async |grant: String, code: i32, reason: &str| {
        let file = host.file("x.grant", grant.as_bytes());
        let done = host.run(&["break-glass", "apply", file.to_str().unwrap()]).await.expect(code);
        assert!(done.err().contains(reason), "{reason}: {}", done.err());
    };
    let header = |change: fn(&mut v1::Header)| {
        text(&control, 9, false, move |grant| change(grant.header.as_mut().unwrap()))
    };
    apply("rapb1.x".into(), 7, "break_glass.malformed").await;
    apply(header(|h| h.cluster_id = vec![9; 16]), 7, "header.cluster").await;
    apply(header(|h| h.expires_at_ms = h.issued_at_ms + 86_400_001), 7, "break_glass.lifetime").await;
    apply(header(|h| (h.issued_at_ms, h.expires_at_ms) = (1, 2)), 7, "header.expired").await;
    let other_node = |h: &mut v1::Header| {
        let kind = v1::audience::Kind::Node.into();
        h.audience = Some(v1::Audience { kind, value: vec![9; 16] });
    };
    apply(header(other_node), 7, "header.audience").await;

    // The authority is gone with the control plane; the Product Root signs.
    let good = host.file("good.grant", text(&control, 1, true, |_| ()).as_bytes());
    let apply_good = ["break-glass", "apply", good.to_str().unwrap(), "--json"];
    let applied = host.run(&apply_good).await.expect(0).json();
    assert_eq!(
        (&applied["schema"], &applied["signer"]),
        (&"rap.break_glass.v1".into(), &"product-root".into())
    );
    assert_eq!((&applied["state"], &applied["acknowledged"]), (&"active".into(), &false.into()));
    let replayed = host.run(&apply_good).await.expect(5);
    assert!(replayed.err().contains("break_glass.replayed"), "{}", replayed.err());
    let (_, status) =
        host.status_when("extended", |status| status["break_glass"][0]["state"] == "active").await;
    let extended = applied["extends_degraded_until_ms"].as_i64().unwrap();
    assert!(status["freshness"]["degraded_until_ms"].as_i64().unwrap() >= extended);
    let shown = host.run(&["status"]).await.expect(8).out();
    assert!(shown.contains("the control plane burned down") && shown.contains("not reported yet"), "{shown}");
    let mut tables = plane.table.clone();
    let kept = tables.wait_for(|table| table.as_ref().is_some_and(|table| table.tunnel_deadline_ns > 0));
    tokio::time::timeout(DEADLINE, kept).await.expect("the data plane is told").unwrap();
    host.logs("break-glass grant applied").await;

    // Killed and started again: it holds, and cannot be applied again.
    kill(agent).await;
    let agent = host.agent().await;
    host.status_when("kept", |status| status["break_glass"][0]["state"] == "active").await;
    host.run(&apply_good).await.expect(5);

    // Contact returns: told on every stream until the control plane says that it has it.
    let running = control.restart().await;
    let is_use = |body: &node_message::Body| matches!(body, node_message::Body::BreakGlass(_));
    let told = heard(&mut messages, "the use", is_use).await;
    let node_message::Body::BreakGlass(told) = told else { unreachable!() };
    let file = BreakGlassText::decode(&told.file).unwrap();
    assert_eq!(file.text(), std::fs::read_to_string(&good).unwrap());
    let ack = v1::BreakGlassAck { digest: file.digest().unwrap().to_vec(), reason: String::new() };
    control.say(vec![control_message::Body::BreakGlassAck(ack)]);
    host.status_when("confirmed", |status| status["break_glass"][0]["acknowledged"] == true).await;
    let listed = host.run(&["break-glass", "list"]).await.expect(0).out();
    assert!(listed.contains(", reported"), "{listed}");
    terminate(agent).await;
    // Also after a restart it is told no more.
    while messages.try_recv().is_ok() {}
    control.say(update(&publish(&control, HeadOrder::new(1, 2, 0), 1, Duration::from_secs(300))));
    let agent = host.agent().await;
    let body = heard(&mut messages, "an ack or a use", |body| {
        is_use(body) || matches!(body, node_message::Body::Ack(ack) if ack.version == 2)
    })
    .await;
    assert!(!is_use(&body));
    terminate(agent).await;
    drop(running);
}
