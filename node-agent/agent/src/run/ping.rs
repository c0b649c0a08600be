//! One ping through the data plane of a membership.
//!
//! Owns its deadline. Refuses to decide who may be pinged: the node does.

use std::time::Duration;

use rap_runtime::Fault;
use rap_types::{NodeId, Reason};
use rap_wire::v1;
use tokio::sync::mpsc;

use crate::dataplane::DataplaneCommand;
use crate::requests::ask;

/// A ping for the control plane ended.
pub(super) struct PingEnd(pub(super) [u8; 16], pub(super) Result<v1::PingOutcome, Reason>);

pub(super) async fn ping(
    commands: &mpsc::Sender<DataplaneCommand>,
    node: NodeId,
    count: u32,
    interval_ms: u32,
) -> Result<v1::PingOutcome, Fault> {
    let gone = || Fault::new(Reason::DataplaneUnavailable, "the data plane does not answer");
    let command = |reply| DataplaneCommand::Ping { node, count, interval_ms, reply };
    let spread = Duration::from_millis(u64::from(count) * u64::from(interval_ms));
    let exchange = async { ask(commands, command).await.ok_or_else(gone)? };
    tokio::time::timeout(spread + PING_GRACE, exchange)
        .await
        .unwrap_or_else(|_| Err(Fault::new(Reason::RequestTimeout, "the ping did not end in time")))
}

const PING_GRACE: Duration = Duration::from_secs(5);
