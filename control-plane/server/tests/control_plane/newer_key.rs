//! A node whose identity key is newer than a restored database.

use rap_contract::Signer;
use rap_rpc::v1::node_sync_client::NodeSyncClient;
use rap_runtime::tls;
use rap_types::Reason;
use rap_wire::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use v1::node_message::Body as Say;

use crate::activation;
use crate::grants::audited;
use crate::host::{Host, hello};
use crate::tools::{backup, config, restore, said, start};
use crate::world::{World, reason};

/// Why a stream with this certificate is refused.
async fn refusal(host: &Host, world: &World, slot: &tls::CertificateCell) -> Reason {
    let (send, outgoing) = mpsc::channel(1);
    send.send(v1::NodeMessage { body: Some(Say::Hello(hello())) }).await.unwrap();
    let mut client = NodeSyncClient::new(host.node_channel(world, slot).await);
    let first = match client.sync(ReceiverStream::new(outgoing)).await {
        Ok(answer) => answer.into_inner().message().await,
        Err(status) => Err(status),
    };
    reason(first.unwrap_err())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_key_is_newer_than_a_restore_is_told_so_and_comes_back_with_a_new_token() {
    let world = activation::activated_embedded().await;
    world.cluster("prod").await;
    let mut host = Host::new(&world.token("prod", 1, true).await, "one");
    let bootstrap = host.enrol(&world).await;
    let (replaced, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = backup(&world, out.path());
    let newer = Signer::generate(&mut rand::rng());
    assert_eq!(host.rotate(&world, &bootstrap, Some(&newer), None).await.unwrap().key_generation, 2);
    host.key = newer;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    assert!(host.is_refused(&world, &replaced).await, "the replaced key is revoked");
    let (config, data) = (config(&world), world.data_dir.clone());
    let stopped = world.stop_and_keep().await;
    assert_eq!(restore(&data, &file).exit, Some(0));

    // The rotation is a record of revocations: first the whole cluster stops.
    let confirm = ["floors", "confirm", "--cluster", "prod", "--sequence", "0", "--lower"];
    let confirmed = said(&data, &confirm);
    assert_eq!(confirmed.exit, Some(0), "{}", confirmed.text);
    let world = stopped.served_by(start(&config).await);
    world.login().await.unwrap();
    let alarms = || world.running.replica.watch.metrics.alarms(Reason::NodeKeyNewer);
    for _ in 0..2 {
        assert_eq!(refusal(&host, &world, &slot).await, Reason::NodeKeyNewer);
    }
    assert_eq!(alarms(), 1, "once an hour");
    assert!(audited(&world, "alarm.raise").await.contains(&format!("node/{}", bootstrap.node)));
    assert_eq!(world.node("one").await.doubt, "node.key_newer");
    let shown = async |world: &World| {
        let status =
            world.admin().await.status(world.request(v1::StatusRequest {})).await.unwrap().into_inner();
        status.alarms.iter().any(|alarm| alarm.reason == "node.key_newer")
    };
    assert!(shown(&world).await);

    // The former entry is evicted, and the node joins again with the key that it has.
    world.revoke(&bootstrap.node.to_string(), true).await.unwrap();
    assert!(!shown(&world).await);
    host.token = Host::new(&world.token("prod", 1, true).await, "one").token;
    let again = host.enrol(&world).await;
    assert_ne!(again.node, bootstrap.node);
    host.certificate(&world, &again).await.unwrap();
    world.stop().await;
}
