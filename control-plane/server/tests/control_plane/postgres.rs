//! The private PostgreSQL is killed and stopped under load: nothing acknowledged is lost, the server comes back alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rap_types::Reason;
use rap_wire::v1;

use crate::host::{Host, hello};
use crate::world::{World, reason};

/// Tells the loads to stop, and how much they did.
#[derive(Default)]
struct Pace {
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Pace {
    /// Waits until ten more changes were acknowledged.
    async fn ten_more(&self) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + 10;
        let wait = async {
            while self.acknowledged.load(Ordering::Relaxed) < enough {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("there is load");
    }
}

/// Creates tokens until told to stop; returns those acknowledged and the reasons of failures.
async fn load(world: Arc<World>, pace: Arc<Pace>) -> (BTreeSet<Vec<u8>>, BTreeSet<Reason>) {
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    let mut admin = world.admin().await;
    while !pace.stop.load(Ordering::Relaxed) {
        let request = v1::TokenCreateRequest { cluster: "prod".into(), ..Default::default() };
        match admin.token_create(world.request(request)).await {
            Ok(answer) => {
                acknowledged.insert(answer.into_inner().token.unwrap().token_id);
                pace.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => drop(refused.insert(reason(status))),
        }
    }
    (acknowledged, refused)
}

/// Process id of the server, if it says one.
fn postmaster(world: &World) -> Option<i32> {
    let text = std::fs::read_to_string(world.data_dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}

/// Waits until another server runs than the killed one, whose processes serve on for a moment.
async fn successor(world: &World, killed: i32) -> i32 {
    let wait = async {
        loop {
            match postmaster(world) {
                Some(pid) if pid != killed => return pid,
                Some(_) | None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("started again")
}

/// Waits until a call succeeds again.
async fn recovered(world: &World) {
    let wait = async {
        let mut admin = world.admin().await;
        while admin.status(world.request(v1::StatusRequest {})).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("recovers by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_database_loses_nothing_that_was_acknowledged() {
    let world = Arc::new(World::embedded().await);
    world.cluster("prod").await;
    let token = world.token("prod", 9, true).await;
    let host = Host::new(&token, "one");
    let bootstrap = host.enrol(&world).await;
    let (slot, _) = host.certificate(&world, &bootstrap).await.unwrap();
    let mut stream = host.stream(&world, &slot, hello()).await;
    let update = stream.update().await;

    let pace = Arc::new(Pace::default());
    let mut loads = tokio::task::JoinSet::new();
    for _ in 0..4 {
        loads.spawn(load(world.clone(), pace.clone()));
    }
    let mut first = postmaster(&world).unwrap();
    // Killed; stopped as an administrator restarts it; stopped at once; killed again.
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
        pace.ten_more().await;
        kill(Pid::from_raw(first), signal).unwrap();
        // Listening goes on: who connects now is answered, if only by a refusal.
        let open = world.admin().await.installation(v1::InstallationRequest {}).await.unwrap().into_inner();
        assert_eq!(open.state, "active");
        first = successor(&world, first).await;
        recovered(&world).await;
    }
    pace.ten_more().await;
    pace.stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut refused) = (BTreeSet::new(), BTreeSet::new());
    while let Some(outcome) = loads.join_next().await {
        let (ids, reasons) = outcome.unwrap();
        acknowledged.extend(ids);
        refused.extend(reasons);
    }
    let expected = [Reason::StoreUnavailable, Reason::StoreOutcomeUnknown, Reason::RequestTimeout];
    assert!(refused.iter().all(|reason| expected.contains(reason)), "{refused:?}");

    let mut transaction = world.running.replica.database.store.system().begin().await.unwrap();
    let rows = &world.running.replica.serving.clusters.all()[0].rows;
    for id in &acknowledged {
        let id = rap_types::TokenId::from_slice(id).unwrap();
        let row = rap_store::token_read(&mut transaction, rows, id).await.unwrap();
        assert!(row.is_some(), "{id} was acknowledged and is gone");
    }
    drop(transaction);

    // The node's stream survived, and distribution goes on.
    Host::new(&token, "two").enrol(&world).await;
    let ack = v1::SnapshotAck { leaf_hash: Vec::new(), version: 0, ..Default::default() };
    stream.say(v1::node_message::Body::Ack(ack)).await;
    stream
        .say(v1::node_message::Body::Nack(v1::SnapshotNack { need_full: true, ..Default::default() }))
        .await;
    let after = stream.update().await;
    assert_ne!(after.leaf, update.leaf);
    let Ok(world) = Arc::try_unwrap(world) else { panic!("the loads are gone") };
    world.stop().await;
}
