//! The streams of a replica that is not ready: they are ended once another replica is ready to take them.
//!
//! Owns the question and the slices. If no replica is ready every stream stays: leaving helps nobody.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use rap_rpc::dial::{ControlUrl, Dial};
use rap_rpc::v1::admin_client::AdminClient;
use rap_runtime::tls::{self, Pins};
use rap_runtime::{Clock, Fault};
use rap_types::Reason;
use rap_wire::v1;

use crate::replica::Replica;

/// Runs until the group is cancelled.
pub async fn hand_over_streams(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if is_ready(&replica) {
            continue;
        }
        let left = tokio::select! {
            () = shutdown.cancelled() => return,
            another = another_is_ready(&replica) => another,
        };
        let pause = async {
            match left {
                Some(url) => end_streams(&replica, &url).await,
                None => tokio::time::sleep(ASK_EVERY).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = pause => {}
        }
    }
}

fn is_ready(replica: &Replica) -> bool {
    replica.watch.readiness.check(replica.watch.clock.now().mono).is_ok()
}

/// A control URL under which a replica answers that it is ready. This one answers under its own URL that it is not.
async fn another_is_ready(replica: &Replica) -> Option<String> {
    let mut asked = tokio::task::JoinSet::new();
    for url in &replica.config.control_urls {
        let (pin, url) = (replica.keys.installation.facts.tls_ca_pin, url.clone());
        asked.spawn(async move {
            let answer = tokio::time::timeout(ASK_EVERY, ask(&url, pin)).await;
            matches!(answer, Ok(Ok(true))).then_some(url)
        });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(url)) = answer {
            return Some(url);
        }
    }
    None
}

async fn ask(url: &str, pin: rap_types::Digest) -> Result<bool, Fault> {
    let config = tls::operator_client(Pins::one(pin), Arc::new(Clock::new()))
        .map_err(Fault::of(Reason::ServerInternal))?;
    let dial = Dial::new(config, tls::ALPN_OPERATOR, ASK_EVERY);
    let channel = dial.open(&ControlUrl::parse(url)?, |_| Ok(())).await?;
    let answer = AdminClient::new(channel).installation(v1::InstallationRequest {}).await;
    answer
        .map(|answer| answer.into_inner().ready)
        .map_err(|status| Fault::new(Reason::ServerUnavailable, status.message().to_owned()))
}

/// Ends the streams in slices, so that the replicas that take them over are not asked by all nodes at once. Stops
/// when this replica is ready again.
async fn end_streams(replica: &Replica, url: &str) {
    let mut streams = replica.serving.sessions.all();
    if streams.is_empty() {
        return tokio::time::sleep(ASK_EVERY).await;
    }
    tracing::warn!(streams = streams.len(), url, "not ready: the nodes are sent to another replica");
    streams.shuffle(&mut rand::rng());
    let slice = streams.len().div_ceil(SLICES);
    let pause = replica.config.pushing.reconnect_window / SLICES as u32;
    for slice in streams.chunks(slice) {
        if is_ready(replica) {
            return;
        }
        for (cluster, node) in slice {
            replica.serving.sessions.end(*cluster, *node);
        }
        tokio::time::sleep(pause).await;
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);

const ASK_EVERY: Duration = Duration::from_secs(5);

const SLICES: usize = 20;
