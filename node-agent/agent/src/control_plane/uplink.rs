//! The sync stream: dials the control URLs in turn, holds one stream, comes back after losing it.
//!
//! Owns dialling, backoff and the two queues of a stream. Refuses to read messages: the driver does.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use rap_rpc::Refusal;
use rap_rpc::dial::ControlUrl;
use rap_rpc::v1::node_sync_client::NodeSyncClient;
use rap_runtime::Fault;
use rap_runtime::tls::{self, CertificateCell, Pins};
use rap_types::{HeadOrder, Reason};
use rap_wire::v1;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

use super::ControlPlane;
use super::resolve::resolve;
use super::url_order::UrlOrder;

/// An open stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct Stream {
    queue: mpsc::Sender<v1::NodeMessage>,
    _end: DropGuard,
}

impl Stream {
    /// A stream whose messages go into `queue`; `end` ends it.
    pub const fn new(queue: mpsc::Sender<v1::NodeMessage>, end: DropGuard) -> Self {
        Self { queue, _end: end }
    }

    /// Queues a message; `false` if the queue is full or the stream has ended.
    pub fn send(&self, message: v1::NodeMessage) -> bool {
        self.queue.try_send(message).is_ok()
    }
}

/// What the uplink tells the driver.
#[derive(Debug)]
pub enum UplinkEvent {
    /// The names of the control URLs have these addresses.
    Resolved(BTreeSet<IpAddr>),
    /// A stream is up at this URL.
    Opened(String, Stream),
    /// The control plane said something.
    Message(Box<v1::ControlMessage>),
    /// The stream ended, or could not be opened, at this URL.
    Lost(String, Fault),
    /// The control plane took the connection and then ended it without a word, as it does with a certificate that it refuses.
    Doubted,
}

/// Holds the stream of one membership.
pub struct UplinkTask {
    /// The control plane; its first URL is preferred.
    pub control: ControlPlane,
    /// The node's leaf.
    pub leaf: CertificateCell,
    /// True once there is a leaf.
    pub ready: watch::Receiver<bool>,
    /// What the control plane asked last: how long to stay away, and over which time to spread the return.
    pub pause: watch::Receiver<Pause>,
    /// Order of the head in use while it is stale.
    pub stale_head: watch::Receiver<Option<HeadOrder>>,
    /// Critical features of signed objects that this agent knows.
    pub features: Vec<String>,
}

/// How to come back after a lost stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pause {
    /// Not before this has passed.
    pub after: Duration,
    /// Spread over this.
    pub window: Duration,
    /// The replica that the stream led to cannot work: its URL comes last for a minute.
    pub not_ready: bool,
}

/// How the time with one URL ended.
struct Held {
    was_open: bool,
    fault: Fault,
    /// Index of the URL that has a newer head.
    newer_at: Option<usize>,
}

impl Held {
    const fn open(fault: Fault) -> Self {
        Self { was_open: true, fault, newer_at: None }
    }
}

impl Pause {
    fn drawn(self) -> Duration {
        self.after + random_part(self.window)
    }
}

/// Whether the node is thrown out after a stream that ended so. It is told once; afterwards TLS only says that the
/// certificate is no good. A stream that was open, or a new certificate, ends it.
fn stays_out(before: bool, was_open: bool, reason: Reason) -> bool {
    reason == Reason::NodeRevoked || (before && !was_open)
}

impl UplinkTask {
    /// Runs until cancelled.
    pub async fn run(mut self, events: mpsc::Sender<UplinkEvent>, cancel: CancellationToken) {
        let ready = async { self.ready.wait_for(|ready| *ready).await.is_ok() };
        tokio::select! {
            () = cancel.cancelled() => return,
            ready = ready => if !ready { return },
        }
        let (mut order, mut failures, mut thrown_out) =
            (UrlOrder::new(self.control.urls.len()), 0_u32, false);
        let mut moved = false;
        let mut addresses = BTreeSet::new();
        self.ready.mark_unchanged();
        loop {
            let chosen = order.choose(Instant::now());
            let url = self.control.urls[chosen].clone();
            let begun = Instant::now();
            let held = tokio::select! {
                () = cancel.cancelled() => return,
                held = self.hold_and_tell((chosen, moved), &mut addresses, &events) => held,
            };
            let Held { was_open, fault, newer_at } = held;
            thrown_out = stays_out(thrown_out, was_open, fault.reason);
            if events.send(UplinkEvent::Lost(url.as_str().to_owned(), fault)).await.is_err() {
                return;
            }
            moved = newer_at.is_some();
            if let Some(newer_at) = newer_at {
                order.turn_to(newer_at);
                continue;
            }
            let said = if was_open { *self.pause.borrow() } else { Pause::default() };
            let asked = said.drawn();
            if said.not_ready {
                order.put_last(chosen, Instant::now() + NOT_READY);
            }
            let pause = if was_open && begun.elapsed() >= STEADY {
                failures = 0;
                asked
            } else {
                // Also for a stream that ends as soon as it is open: it is no reason to hurry.
                failures = failures.saturating_add(1);
                order.pass(chosen);
                // A whole round over the URLs goes fast; then it slows down.
                let rounds = failures / u32::try_from(self.control.urls.len()).unwrap_or(u32::MAX).max(1);
                let most = (FIRST_RETRY * (1 << rounds.min(8))).min(LAST_RETRY);
                asked.max(most / 2 + random_part(most / 2))
            };
            let pause = if thrown_out { THROWN_OUT } else { pause };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.ready.changed() => thrown_out = false,
            }
        }
    }

    /// The same as [`Self::hold`]; meanwhile the control URLs are resolved and told: the data plane keeps the overlay
    /// away from them.
    async fn hold_and_tell(
        &self,
        (chosen, moved): (usize, bool),
        addresses: &mut BTreeSet<IpAddr>,
        events: &mpsc::Sender<UplinkEvent>,
    ) -> Held {
        let mut held = std::pin::pin!(self.hold(chosen, moved, events));
        tokio::select! {
            held = &mut held => return held,
            () = resolve(&self.control.urls, addresses) => {}
        }
        // Nobody listens: the stream ends by itself.
        let _gone = events.send(UplinkEvent::Resolved(addresses.clone())).await;
        held.await
    }

    /// Opens a stream and passes its messages on until it ends, or a newer head is elsewhere.
    async fn hold(&self, chosen: usize, moved: bool, events: &mpsc::Sender<UplinkEvent>) -> Held {
        let left = CancellationToken::new();
        let mut messages = match self.open(&self.control.urls[chosen], events, left.clone()).await {
            Err(fault) => return Held { was_open: false, fault, newer_at: None },
            Ok(messages) => messages,
        };
        let ended = |reason, text| Held::open(Fault::new(reason, text));
        let mut elsewhere = std::pin::pin!(self.newer_elsewhere(chosen, moved));
        loop {
            let message = tokio::select! {
                () = left.cancelled() => return ended(Reason::ServerUnavailable, "the stream was left"),
                newer_at = &mut elsewhere => {
                    let url = &self.control.urls[newer_at];
                    tracing::info!(%url, "the head is stale here and newer there: the stream moves");
                    let held = ended(Reason::SnapshotStale, "another control URL has a newer head");
                    return Held { newer_at: Some(newer_at), ..held };
                }
                message = messages.next() => message,
            };
            match message {
                Some(Ok(message)) => {
                    tracing::trace!(way = "a message arrived");
                    if events.send(UplinkEvent::Message(Box::new(message))).await.is_err() {
                        return ended(Reason::ServerUnreachable, "the agent ends");
                    }
                }
                Some(Err(status)) => return Held::open(stream_fault(&status)),
                None => return ended(Reason::ServerUnreachable, "the stream ended"),
            }
        }
    }

    /// A connection to this URL.
    pub(super) async fn client(&self, url: &ControlUrl) -> Result<NodeSyncClient<Channel>, Fault> {
        let config =
            tls::node_client(Pins::one(self.control.pin), &self.leaf, Arc::new(self.control.time.clone()))
                .map_err(Fault::of(Reason::ServerUnreachable))?;
        let channel = self.control.dial(config, tls::ALPN_NODE).open(url, |_| Ok(())).await?;
        Ok(NodeSyncClient::new(channel)
            .max_decoding_message_size(MESSAGE_CAP)
            .max_encoding_message_size(MESSAGE_CAP))
    }

    async fn open(
        &self,
        url: &ControlUrl,
        events: &mpsc::Sender<UplinkEvent>,
        left: CancellationToken,
    ) -> Result<tonic::Streaming<v1::ControlMessage>, Fault> {
        let unreachable = |text: String| Fault::new(Reason::ServerUnreachable, text);
        let mut client = self.client(url).await?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        let stream = Stream::new(queue, left.drop_guard());
        let opened = UplinkEvent::Opened(url.as_str().to_owned(), stream);
        events.send(opened).await.map_err(|_| unreachable("the agent ends".to_owned()))?;
        match tokio::time::timeout(self.control.timeout, client.sync(ReceiverStream::new(receiver))).await {
            Err(_) => Err(Fault::new(Reason::RequestTimeout, "the stream did not open in time")),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                let refusal = Refusal::from(&status);
                if refusal.request_id.is_none() {
                    events
                        .send(UplinkEvent::Doubted)
                        .await
                        .map_err(|_| unreachable("the agent ends".to_owned()))?;
                }
                Err(refusal.fault)
            }
        }
    }
}

/// Why an open stream ended. A status that the control plane did not write itself is a lost connection.
pub(super) fn stream_fault(status: &tonic::Status) -> Fault {
    let refusal = Refusal::from(status);
    match refusal.reason {
        Reason::ServerInternal if refusal.request_id.is_none() => {
            Fault::new(Reason::ServerUnreachable, refusal.fault.message)
        }
        _ => refusal.fault,
    }
}

fn random_part(of: Duration) -> Duration {
    of.mul_f64(rand::random::<f64>())
}

/// A stream that lasted for this long was a good one.
const STEADY: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// How long the URL of a replica that cannot work comes last.
const NOT_READY: Duration = Duration::from_secs(60);
const THROWN_OUT: Duration = Duration::from_secs(60);
const LAST_RETRY: Duration = Duration::from_secs(5);
const QUEUE: usize = 64;
const MESSAGE_CAP: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_let_in_again_is_not_thrown_out_any_more() {
        let out = stays_out(false, true, Reason::NodeRevoked);
        assert!(out && stays_out(out, false, Reason::CertificateInvalid), "it is told once");
        assert!(!stays_out(out, true, Reason::ServerUnreachable), "a stream was open since");
        assert!(!stays_out(false, false, Reason::ServerUnreachable));
    }
}
