//! A relay whose kernel answers and whose process does not is left by those who send through it, and by nobody else.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rap_link::SessionState;
use rap_mesh::{Dial, MeshEvent, PathEvent, PathSlot, Peer, Peers};
use rap_types::{Mono, NodeId, Reason};
use support::members::*;
use support::*;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes on until it is stopped, and then takes what fits into the sockets.
struct Proxy {
    address: SocketAddr,
    stopped: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = watch::Sender::new(false);
        let watched = stopped.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((mut inbound, _)) = listener.accept().await {
                let mut stopped = watched.subscribe();
                carried.spawn(async move {
                    let mut outbound = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ended = copy_bidirectional(&mut inbound, &mut outbound) => return,
                        _sender_gone = stopped.wait_for(|stopped| *stopped) => {}
                    }
                    // The sockets stay open.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { address, stopped, _tasks: tasks }
    }
}

fn apply(member: &Member, authority: &Authority, peers: &[(NodeId, Option<SocketAddr>)]) {
    let peer = |endpoint: Option<SocketAddr>| Peer {
        endpoints: endpoint.into_iter().collect(),
        deadline: Mono(u64::MAX),
        dial: if endpoint.is_some() { Dial::AtOnce } else { Dial::OnDemand },
    };
    let peers: BTreeMap<_, _> = peers.iter().map(|(id, endpoint)| (*id, peer(*endpoint))).collect();
    let trust = authority.trust(&[]);
    member.mesh().apply(Peers { peers, trust, newest_head: vec![], probe_interval: None, former: None });
}

#[tokio::test]
async fn a_relay_that_stopped_is_left_while_data_passes_and_an_idle_link_to_it_stays() {
    let authority = Authority::new(HOME);
    let (relay_number, numbers) = (RELAYS[0], [A, B, 3, RELAYS[0]]);
    let start = |number| {
        let mut config = config(number);
        // No idle link is probed within this test.
        config.timing.idle = Duration::from_secs(600);
        Member::start(&authority, config)
    };
    let (mut a, mut b, idle, relay) = (start(A), start(B), start(3), start(relay_number));
    let relay_id = node(relay_number);
    let proxy = Proxy::start(relay.node.address()).await;
    apply(&relay, &authority, &[(node(A), None), (node(B), None), (node(3), None)]);
    apply(&a, &authority, &[(relay_id, Some(proxy.address))]);
    apply(&idle, &authority, &[(relay_id, Some(proxy.address))]);
    apply(&b, &authority, &[(relay_id, Some(relay.node.address()))]);
    relay.mesh().set_paths(terms(&numbers, true), vec![]);
    b.mesh().set_paths(terms(&numbers, false), vec![]);
    eventually("linked", || [&a, &b, &idle].iter().all(|end| end.node.is_linked(relay_id))).await;
    want(&a, &numbers, plan(B, &[relay_number], None));
    let (there, _) = (a.up(PathSlot::Primary).await, b.up(PathSlot::Answering).await);
    a.mesh().send_on_path(there, b"before").unwrap();
    assert_eq!(b.datagram().await.1, b"before");
    eventually("asked while data passes", || a.node.status(relay_id).unwrap().rtt.is_some()).await;

    let mut links = a.mesh().events();
    proxy.stopped.send_replace(true);
    let ended = a.until(|event| match event {
        PathEvent::Down { end, reason } if *end == there => Some(*reason),
        _ => None,
    });
    assert_eq!(ended.await, Reason::PathNextUnreachable);
    let why = async {
        loop {
            if let MeshEvent::Observed { state: SessionState::Closed, reason, .. } =
                links.recv().await.unwrap()
            {
                return reason;
            }
        }
    };
    assert_eq!(patiently(why).await, Some(Reason::LinkSilent));
    assert!(idle.node.is_linked(relay_id), "nothing passes there");
    assert!(relay.node.is_linked(node(B)), "this side of the relay goes on");
}
