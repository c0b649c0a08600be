//! A second stream to another control URL, while the head that the first one brings is stale.
//!
//! Owns when and whom to ask. The second stream ends with its answer: the node has one stream, and goes to where
//! a newer head is.

use std::time::Duration;

use futures_util::StreamExt as _;
use rap_runtime::Fault;
use rap_types::{HeadOrder, Reason};
use rap_wire::v1;
use tokio_stream::wrappers::ReceiverStream;

use super::uplink::{UplinkTask, stream_fault};

impl UplinkTask {
    /// Completes with the index of a URL where the newest head is newer than the one here, which must be stale.
    /// Asks one URL at a time. `here` is the index of the URL that the stream leads to; `moved` says that it leads there
    /// because a newer head was there: the next look is not hurried.
    pub(super) async fn newer_elsewhere(&self, here: usize, moved: bool) -> usize {
        let (mut stale, mut asked) = (self.stale_head.clone(), here);
        let next = || LOOK_EVERY.mul_f64(1.0 + rand::random::<f64>() / 2.0);
        let mut pause = if moved { next() } else { LOOK_EVERY.mul_f64(rand::random::<f64>() / 2.0) };
        loop {
            let is_stale = stale.wait_for(Option::is_some).await.is_ok();
            asked = (asked + 1) % self.control.urls.len();
            if !is_stale || self.control.urls.len() == 1 {
                // Nowhere to go, or the agent ends.
                return std::future::pending().await;
            }
            if asked == here {
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = next();
            let Some(held) = *stale.borrow() else { continue };
            match self.newest_at(asked).await {
                Ok(newest) if newest > held => return asked,
                Ok(_) => {}
                Err(fault) => {
                    tracing::debug!(url = %self.control.urls[asked], error = %fault, "no answer about heads")
                }
            }
        }
    }

    /// The order of the newest head that a control URL has.
    async fn newest_at(&self, url: usize) -> Result<HeadOrder, Fault> {
        let mut client = self.client(&self.control.urls[url]).await?;
        let hello = v1::NodeHello {
            protocol_min: 1,
            protocol_max: 1,
            features: self.features.clone(),
            second: true,
            ..Default::default()
        };
        let hello = v1::NodeMessage { body: Some(v1::node_message::Body::Hello(hello)) };
        let (queue, receiver) = tokio::sync::mpsc::channel(1);
        let late = || Fault::new(Reason::RequestTimeout, "no answer in time");
        // The queue has room for it.
        let _queued = queue.try_send(hello);
        let answer = async {
            let mut messages = client
                .sync(ReceiverStream::new(receiver))
                .await
                .map_err(|status| stream_fault(&status))?
                .into_inner();
            match messages.next().await {
                Some(Ok(v1::ControlMessage { body: Some(v1::control_message::Body::Hello(hello)) })) => {
                    let newest = hello.newest.unwrap_or_default();
                    Ok(HeadOrder::new(newest.incarnation, newest.version, newest.refresh))
                }
                Some(Err(status)) => Err(stream_fault(&status)),
                Some(Ok(_)) | None => Err(Fault::new(Reason::RequestInvalid, "no hello")),
            }
        };
        tokio::time::timeout(self.control.timeout, answer).await.map_err(|_| late())?
    }
}

/// Shortest time between two looks, so that there are at most two a minute; each is up to one and a half of it.
const LOOK_EVERY: Duration = Duration::from_secs(30);
