//! What others may look at: the metrics endpoint, and what a support bundle takes from the running agent.

mod metrics;

use std::time::Duration;

use rap_runtime::{TaskGroup, telemetry};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::host::Directory;
use crate::requests::{Request, ask};

/// Name and status document of every membership; none for one that does not answer in time.
async fn statuses(directory: &Directory) -> Vec<(String, Option<Value>)> {
    let asked = directory.all().into_iter().map(|(name, driver)| async move {
        let answered = async { Some(ask(&driver.ok()?, Request::Status).await?.document) };
        (name, tokio::time::timeout(ANSWER_DEADLINE, answered).await.ok().flatten())
    });
    futures_util::future::join_all(asked).await
}

/// Serves the metrics of every membership until the group is cancelled.
///
/// # Errors
/// None.
pub async fn serve(listener: TcpListener, tasks: TaskGroup, directory: Directory) -> std::io::Result<()> {
    let render = move || {
        let directory = directory.clone();
        async move { metrics::text(&statuses(&directory).await) }
    };
    // An agent works without anybody else: that it answers is all there is to know.
    rap_rpc::serve_metrics(listener, tasks, render, || async { Ok(()) }).await
}

/// What a support bundle takes from this process: statuses, metrics, the last log lines. Document of schema
/// `rap.support.v1`.
pub async fn support(directory: &Directory) -> Value {
    let statuses = statuses(directory).await;
    let metrics = metrics::text(&statuses);
    let memberships: Vec<Value> =
        statuses.into_iter().map(|(name, status)| json!({ "membership": name, "status": status })).collect();
    json!({
        "schema": "rap.support.v1",
        "agent_version": env!("CARGO_PKG_VERSION"),
        "agent_pid": std::process::id(),
        "memberships": memberships,
        "listed": directory.list(),
        "metrics": metrics,
        "log": telemetry::recent(),
    })
}

const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
