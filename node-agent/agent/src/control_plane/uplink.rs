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
use rap_types::Reason;
use rap_wire::v1;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ControlPlane;
use super::resolve::resolve;

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
}

/// How to come back after a lost stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pause {
    /// Not before this has passed.
    pub after: Duration,
    /// Spread over this.
    pub window: Duration,
}

impl Pause {
    fn drawn(self) -> Duration {
        self.after + random_part(self.window)
    }
}

impl UplinkTask {
    /// Runs until cancelled.
    pub async fn run(mut self, events: mpsc::Sender<UplinkEvent>, cancel: CancellationToken) {
        let ready = async { self.ready.wait_for(|ready| *ready).await.is_ok() };
        tokio::select! {
            () = cancel.cancelled() => return,
            ready = ready => if !ready { return },
        }
        let (mut next, mut failures, mut thrown_out) = (0, 0_u32, false);
        let mut addresses = BTreeSet::new();
        self.ready.mark_unchanged();
        loop {
            let url = self.control.urls[next % self.control.urls.len()].clone();
            let begun = Instant::now();
            let held = tokio::select! {
                () = cancel.cancelled() => return,
                held = self.hold_and_tell(&url, &mut addresses, &events) => held,
            };
            let (was_open, fault) = held;
            // Told once; afterwards TLS only says that the certificate is no good. A new one ends it.
            thrown_out |= fault.reason == Reason::NodeRevoked;
            if events.send(UplinkEvent::Lost(url.as_str().to_owned(), fault)).await.is_err() {
                return;
            }
            let asked = match was_open {
                true => self.pause.borrow().drawn(),
                false => Duration::ZERO,
            };
            let pause = if was_open && begun.elapsed() >= STEADY {
                failures = 0;
                asked
            } else {
                // Also for a stream that ends as soon as it is open: it is no reason to hurry.
                failures = failures.saturating_add(1);
                next = next.wrapping_add(1);
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
        url: &ControlUrl,
        addresses: &mut BTreeSet<IpAddr>,
        events: &mpsc::Sender<UplinkEvent>,
    ) -> (bool, Fault) {
        let mut held = std::pin::pin!(self.hold(url, events));
        tokio::select! {
            held = &mut held => return held,
            () = resolve(&self.control.urls, addresses) => {}
        }
        // Nobody listens: the stream ends by itself.
        let _gone = events.send(UplinkEvent::Resolved(addresses.clone())).await;
        held.await
    }

    /// Opens a stream and passes its messages on until it ends. Says whether it was open.
    async fn hold(&self, url: &ControlUrl, events: &mpsc::Sender<UplinkEvent>) -> (bool, Fault) {
        let left = CancellationToken::new();
        match self.open(url, events, left.clone()).await {
            Err(fault) => (false, fault),
            Ok(mut messages) => loop {
                let message = tokio::select! {
                    () = left.cancelled() => {
                        return (true, Fault::new(Reason::ServerUnavailable, "the stream was left"));
                    }
                    message = messages.next() => message,
                };
                match message {
                    Some(Ok(message)) => {
                        tracing::trace!(way = "a message arrived");
                        if events.send(UplinkEvent::Message(Box::new(message))).await.is_err() {
                            return (true, Fault::new(Reason::ServerUnreachable, "the agent ends"));
                        }
                    }
                    Some(Err(status)) => return (true, stream_fault(&status)),
                    None => return (true, Fault::new(Reason::ServerUnreachable, "the stream ended")),
                }
            },
        }
    }

    async fn open(
        &self,
        url: &ControlUrl,
        events: &mpsc::Sender<UplinkEvent>,
        left: CancellationToken,
    ) -> Result<tonic::Streaming<v1::ControlMessage>, Fault> {
        let unreachable = |text: String| Fault::new(Reason::ServerUnreachable, text);
        let config =
            tls::node_client(Pins::one(self.control.pin), &self.leaf, Arc::new(self.control.time.clone()))
                .map_err(|error| unreachable(error.to_string()))?;
        let channel = self.control.dial(config, tls::ALPN_NODE).open(url, |_| Ok(())).await?;
        let mut client = NodeSyncClient::new(channel)
            .max_decoding_message_size(MESSAGE_CAP)
            .max_encoding_message_size(MESSAGE_CAP);
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
fn stream_fault(status: &tonic::Status) -> Fault {
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
const THROWN_OUT: Duration = Duration::from_secs(60);
const LAST_RETRY: Duration = Duration::from_secs(5);
const QUEUE: usize = 64;
const MESSAGE_CAP: usize = 4 * 1024 * 1024;
