//! One connection of a local caller: it holds a place among a bounded number, and must begin to speak in time.
//!
//! Owns those two bounds. Refuses to own who may call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rap_runtime::opening::Opening;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tonic::transport::server::Connected;

/// A caller's stream.
pub struct Caller {
    stream: UnixStream,
    opening: Opening,
    _place: OwnedSemaphorePermit,
}

impl Caller {
    /// A caller that gives its place back when it goes.
    pub fn new(stream: UnixStream, place: OwnedSemaphorePermit) -> Self {
        Self { stream, opening: Opening::new(PREFACE_DEADLINE), _place: place }
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
        let this = &mut *self;
        this.opening.poll_read(Pin::new(&mut this.stream), cx, buffer)
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

const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
