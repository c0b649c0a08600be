//! How long a new connection may be silent: HTTP/2 notices a silent peer by pings, but only after the
//! connection preface.
//!
//! Owns that one deadline. Refuses to own who may connect.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// The connection preface that has not come yet.
#[derive(Debug)]
pub struct Opening(Option<(usize, Pin<Box<Sleep>>)>);

impl Opening {
    /// The whole preface must come `within`, from now on.
    pub fn new(within: Duration) -> Self {
        Self(Some((PREFACE, Box::pin(tokio::time::sleep(within)))))
    }

    /// Reads from `stream`; `TimedOut` once the preface is late.
    pub fn poll_read(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = stream.poll_read(cx, buffer);
        let Some((missing, deadline)) = &mut self.0 else { return read };
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            self.0 = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

/// Length of the HTTP/2 connection preface (RFC 9113, 3.4).
const PREFACE: usize = 24;
