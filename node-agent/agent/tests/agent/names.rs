//! A peer whose endpoint is a name: the agent looks it up, the table has the addresses.

use crate::fake::agent::{DEADLINE, Host, terminate};
use crate::fake::plane::Plane;
use crate::support::peer;
use crate::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_carries_a_name_and_the_addresses_that_the_host_knows() {
    let mut host = Host::new();
    // Endpoints on the own host are dialled in dev mode alone.
    host.dev = true;
    let (running, _messages) = joined(&host).await;
    let control = &running.control;
    let plane = Plane::start(&host.run_dir());
    let mut record = peer(1);
    record.link_endpoints = vec!["localhost:7443".into(), "no-such-host.invalid:7443".into()];
    record.wireguard_endpoints = vec!["localhost:51820".into()];
    let mut contents = control.world.lock().unwrap().contents(1);
    contents.add_peer(record);
    let published = publish_contents(control, HeadOrder::new(1, 1, 0), contents, Duration::from_secs(300));
    control.say(update(&published));
    let agent = host.agent().await;
    let mut tables = plane.table.clone();
    let fits = tables.wait_for(|table| {
        let peer = table.as_ref().and_then(|table| table.peers.first());
        peer.is_some_and(|peer| {
            peer.link_endpoints[..2] == ["localhost:7443", "127.0.0.1:7443"]
                && peer.link_endpoints.last().is_some_and(|last| last == "no-such-host.invalid:7443")
                && peer.wireguard_endpoints.contains(&"127.0.0.1:51820".to_owned())
        })
    });
    let found = tokio::time::timeout(DEADLINE, fits).await.is_ok();
    assert!(found, "{:?}", plane.table.borrow().as_ref().map(|table| table.peers.clone()));
    assert!(terminate(agent).await.success());
}
