//! Contact with the control plane and what goes on without it; pings; peers by name.

use super::*;

/// Contract rows for probes: asked where a ping starts.
#[test]
fn probes_go_on_while_degraded_and_end_with_it() {
    let world = World::default();
    let mut node = running(&world);
    let ask = |id: u8| {
        let ping = v1::PingRequest { node_id: peer(1).node_id, count: 1, interval_ms: 100 };
        control(control_message::Body::Diagnostic(v1::DiagnosticRequest {
            diagnostic_id: vec![id; 16],
            body: Some(v1::diagnostic_request::Body::Ping(ping)),
        }))
    };
    let (degraded, expired) = (FRESH_FOR.as_secs(), (FRESH_FOR + DEGRADED_FOR).as_secs());
    assert_eq!(names(&feed(&mut node, ask(1), degraded)), ["ping"]);
    let refused = feed(&mut node, ask(2), expired);
    assert_eq!(names(&refused), ["diagnostic"]);
    assert!(format!("{refused:?}").contains("degraded.refused"), "{refused:?}");
}

#[test]
fn what_happened_without_contact_is_reported_when_it_returns() {
    let world = World::default();
    let mut node = running(&world);
    let hello = v1::ControlHello {
        protocol: 1,
        server_time_ms: ISSUED.0,
        report_interval_ms: 5_000,
        ..Default::default()
    };
    feed(&mut node, control(control_message::Body::Hello(hello)), 2);
    feed(&mut node, Input::StreamClosed, 3);
    let (degraded, expired) = (FRESH_FOR.as_secs(), (FRESH_FOR + DEGRADED_FOR).as_secs());
    feed(&mut node, Input::TimedOut, degraded);
    feed(&mut node, Input::TimedOut, expired);
    assert_eq!(node.contact_since().at, at(expired).wall);
    let report = |outputs: &[Output]| {
        let reports = outputs.iter().filter_map(|output| match output {
            Output::Send(message) => match &message.body {
                Some(node_message::Body::Report(report)) => Some(report.clone()),
                _ => None,
            },
            _ => None,
        });
        let changes = |report: &v1::NodeReport| -> Vec<(String, i64)> {
            report.contact_changes.iter().map(|change| (change.contact.clone(), change.at_ms)).collect()
        };
        let report = reports.into_iter().next().expect("a report");
        (report.contact.clone(), changes(&report))
    };
    // The hello comes first on every stream; then the report says what was missed, at once.
    let opened = feed(&mut node, Input::StreamOpened, expired + 10);
    assert_eq!(names(&opened), ["hello", "authority", "report"]);
    let wall = |seconds: u64| at(seconds).wall.0;
    let told =
        [("degraded", wall(degraded)), ("isolated", wall(expired)), ("recovering", wall(expired + 10))];
    let told = told.map(|(contact, at)| (contact.to_owned(), at)).to_vec();
    assert_eq!(report(&opened), ("recovering".into(), told));
    // Caught up: said at once, not at the next interval.
    let issued = at(expired + 11).wall;
    let outputs = feed(&mut node, update(&world.publish(V2, &world.contents(2), issued)), expired + 11);
    assert_eq!(report(&outputs), ("connected".into(), vec![("connected".into(), issued.0)]));
}

#[test]
fn pings_run_for_peers_and_answer_once() {
    let world = World::default();
    let mut node = running(&world);
    let ask = |id: u8, target: Vec<u8>| {
        let ping = v1::PingRequest { node_id: target, count: 2, interval_ms: 100 };
        control(control_message::Body::Diagnostic(v1::DiagnosticRequest {
            diagnostic_id: vec![id; 16],
            body: Some(v1::diagnostic_request::Body::Ping(ping)),
        }))
    };
    assert_eq!(names(&feed(&mut node, ask(1, vec![9; 16]), 2)), ["diagnostic"]);
    assert_eq!(names(&feed(&mut node, ask(2, peer(1).node_id), 2)), ["ping"]);
    let outcome = v1::PingOutcome { overlay_address: "100.96.0.11".into(), ..Default::default() };
    assert_eq!(names(&feed(&mut node, Input::PingEnded([2; 16], Ok(outcome)), 3)), ["diagnostic"]);
    assert_eq!(
        names(&feed(&mut node, Input::PingEnded([2; 16], Err(Reason::ProbeTimeout)), 3)),
        [] as [&str; 0]
    );
    assert_eq!(names(&feed(&mut node, ask(3, peer(1).node_id), 4)), ["ping"]);
    assert_eq!(node.poll_timeout(at(4)), Some(Mono(at(14).mono.0)));
    assert_eq!(names(&feed(&mut node, Input::TimedOut, 14)), ["diagnostic"]);
}

#[test]
fn peers_are_found_by_name_and_id() {
    let world = World::default();
    let node = running(&world);
    let first = NodeId::from_slice(&peer(1).node_id).unwrap();
    assert_eq!(node.peer("peer-1", at(2)), Some(first));
    assert_eq!(node.peer(&first.to_string(), at(2)), Some(first));
    assert_eq!(node.peer("peer-3", at(2)), None);
    assert_eq!(node.peer(&world.node.to_string(), at(2)), None);
}

#[test]
fn going_away_leaves_the_stream_and_a_message_without_body_is_ignored() {
    let world = World::default();
    let mut node = running(&world);
    let going = control(control_message::Body::GoingAway(v1::GoingAway {
        reconnect_after_ms: 1500,
        not_ready: true,
    }));
    let outputs = feed(&mut node, going, 2);
    let [Output::Reconnect { after, not_ready: true }] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(*after, Duration::from_millis(1500));
    let unknown = Input::Control(Box::new(v1::ControlMessage { body: None }));
    assert_eq!(names(&feed(&mut node, unknown, 2)), [] as [&str; 0]);
}

#[test]
fn how_far_the_clocks_differ_is_known_from_the_hello() {
    let world = World::default();
    let mut node = running(&world);
    let hello = |server_time_ms| {
        let hello = v1::ControlHello { protocol: 1, server_time_ms, ..Default::default() };
        control(control_message::Body::Hello(hello))
    };
    assert_eq!(node.clock_skew_ms(), None);
    feed(&mut node, hello(at(2).wall.0 + 90_000), 2);
    assert_eq!(node.clock_skew_ms(), Some(90_000));
    feed(&mut node, hello(at(3).wall.0 - 45_000), 3);
    assert_eq!(node.clock_skew_ms(), Some(-45_000));
    feed(&mut node, hello(i64::MIN), 4);
    assert_eq!(node.clock_skew_ms(), None, "no time at all");
}

#[test]
fn a_node_without_links_is_alone_only_while_the_control_plane_hears_it() {
    let world = World::default();
    let mut node = running(&world);
    let report = |state: &str| {
        let peer = |byte: u8| v1::PeerStats {
            node_id: peer(byte).node_id,
            link_state: state.to_owned(),
            ..Default::default()
        };
        Input::StatsArrived(Box::new(v1::Stats { peers: vec![peer(1), peer(2)], ..Default::default() }))
    };
    feed(&mut node, report("dialing"), 2);
    feed(&mut node, report("closed"), 61);
    assert!(!node.is_alone(at(61)));
    assert!(node.is_alone(at(62)));
    feed(&mut node, Input::StreamClosed, 63);
    assert!(!node.is_alone(at(64)), "then its line is the fault");
    feed(&mut node, Input::StreamOpened, 65);
    feed(&mut node, report("established"), 66);
    assert!(!node.is_alone(at(200)));
}
