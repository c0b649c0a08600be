//! What a data plane observes, and how it ends, reaches status and the control plane.

use std::os::unix::fs::PermissionsExt as _;

use crate::fake::agent::kill;
use crate::fake::plane::Plane;
use crate::*;

#[tokio::test]
async fn links_and_heads_of_peers_reach_status_and_the_control_plane() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = &running.control;
    let _plane = Plane::start(&host.run_dir());
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 2, Duration::from_secs(300))));
    let agent = host.agent().await;
    let (_, status) =
        host.status_when("two links", |status| status["links"].as_array().map(Vec::len) == Some(2)).await;
    assert_eq!(status["links"][0]["rtt_median_us"], 850);
    assert_eq!(
        (&status["links"][0]["loss_ppm"], &status["links"][0]["peer_version"]),
        (&0.into(), &1.into())
    );
    let mut links = std::collections::BTreeMap::new();
    let mut heads = Vec::new();
    while links.len() < 2 || heads.is_empty() {
        let report = |body: &node_message::Body| matches!(body, node_message::Body::Report(_));
        let node_message::Body::Report(report) = heard(&mut messages, "a report", report).await else {
            break;
        };
        links.extend(report.links.into_iter().map(|link| (link.peer, (link.state, link.rtt_us))));
        heads.extend(report.peer_heads);
    }
    let expected = |index: u8| (support::peer(index).node_id, ("established".to_owned(), 850));
    assert_eq!(links, [expected(1), expected(2)].into());
    assert_eq!((heads[0].peer.clone(), heads[0].version), (support::peer(1).node_id, 1));
    kill(agent).await;
}

#[tokio::test]
async fn a_data_plane_that_dies_says_why_in_status_and_to_the_control_plane() {
    let host = Host::new();
    let (running, mut messages) = joined(&host).await;
    let control = &running.control;
    control.say(update(&publish(control, HeadOrder::new(1, 1, 0), 1, Duration::from_secs(300))));
    let program = host.file(
        "data-plane",
        br#"#!/bin/sh
while [ "$1" != --run-dir ]; do shift; done
printf '{"schema":"rap.last-fault.v1","pid":%d,"reason":"dataplane.unavailable","text":"no device"}' $$ \
    > "$2/default/last-fault.json"
exit 7
"#,
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let flags = ["--metrics", "off", "--dataplane", "spawn", "--dataplane-bin", program.to_str().unwrap()];
    let agent = host.answering(host.spawn_with(&flags, &[])).await;
    let (_, status) = host.status_when("an end", |status| status["dataplane"]["last_exit"].is_object()).await;
    let exit = &status["dataplane"]["last_exit"];
    assert_eq!(
        (&exit["status"], &exit["reason"]),
        (&"exit status: 7".into(), &"dataplane.unavailable".into())
    );
    assert_eq!(exit["text"], "no device");
    let ended = |body: &node_message::Body| matches!(body, node_message::Body::Report(report) if report.dataplane_exit.is_some());
    let node_message::Body::Report(report) = heard(&mut messages, "an end", ended).await else { panic!() };
    let told = report.dataplane_exit.unwrap();
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("exit status: 7", "dataplane.unavailable"));
    host.logs("the data plane ended").await;
    kill(agent).await;
}
