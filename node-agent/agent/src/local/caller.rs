//! One connection of a local caller: it holds a place among a bounded number, and must begin to speak in time.
//!
//! Owns those two bounds. Refuses to own who may call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// A caller's stream.
pub struct Caller {
    stream: UnixStream,
    opening: Option<Opening>,
    _place: OwnedSemaphorePermit,
}

/// HTTP/2 notices a silent caller by pings, but only after the connection preface.
struct Opening {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Caller {
    /// A caller that gives its place back when it goes.
    pub fn new(stream: UnixStream, place: OwnedSemaphorePermit) -> Self {
        let deadline = Box::pin(tokio::time::sleep(PREFACE_DEADLINE));
        Self { stream, opening: Some(Opening { missing: PREFACE, deadline }), _place: place }
    }
}

impl Connected for Caller {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Caller {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(opening) = &mut self.opening else { return read };
        opening.missing = opening.missing.saturating_sub(buffer.filled().len() - before);
        if opening.missing == 0 {
            self.opening = None;
        } else if read.is_pending() && opening.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Caller {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Length of the HTTP/2 connection preface (RFC 9113, 3.4).
const PREFACE: usize = 24;
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
