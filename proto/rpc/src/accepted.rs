//! One accepted connection as a gRPC server takes it: what is known about it, its part of a budget, how long it may be
//! silent first, and how long an answer may wait for its reader. HTTP/2 notices a silent peer by pings, but only after
//! the connection preface, and never a peer that answers pings and takes no answers. It answers frames that carry no call,
//! however many come.
//!
//! Owns those two deadlines and the end of a flood. Refuses to own who may connect.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use crate::frames::Frames;
use crate::readers::Readers;

/// A stream `S`, the facts `I` that every request on it gets, and a ticket `T` that is dropped when it closes.
pub struct Accepted<S, I, T> {
    stream: S,
    facts: I,
    /// Bytes of the preface that are missing, and until when they may be.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    stall: Option<Stall>,
    frames: Frames,
    _ticket: T,
}

/// How long an answer may wait for its reader, and when to look next.
struct Stall {
    readers: Readers,
    within: Duration,
    look: Pin<Box<Sleep>>,
}

impl Stall {
    /// True once an answer has waited for too long. Else the task is woken for the next look.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.look.as_mut().poll(cx).is_ready() {
            if self.readers.longest().is_some_and(|since| since.elapsed() >= self.within) {
                return true;
            }
            self.look.as_mut().reset(Instant::now() + self.within / 4);
        }
        false
    }
}

impl<S, I, T> Accepted<S, I, T> {
    /// The whole connection preface must come `within`, from now on; reads end with `TimedOut` once it is late.
    pub fn new(stream: S, facts: I, ticket: T, within: Duration) -> Self {
        let preface = Some((PREFACE, Box::pin(tokio::time::sleep(within))));
        Self {
            stream,
            facts,
            preface,
            stall: None,
            frames: Frames::after(PREFACE, Instant::now()),
            _ticket: ticket,
        }
    }

    /// Reads end with `TimedOut` once one of these bodies made no progress for `within`.
    #[must_use]
    pub fn ending_stalled(mut self, readers: Readers, within: Duration) -> Self {
        let look = Box::pin(tokio::time::sleep(within / 4));
        self.stall = Some(Stall { readers, within, look });
        self
    }
}

impl<S, I: Clone + Send + Sync + 'static, T> Connected for Accepted<S, I, T> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.facts.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin, T: Unpin> AsyncRead for Accepted<S, I, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.stall.as_mut().is_some_and(|stall| stall.poll_over(cx)) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if !this.frames.read(&buffer.filled()[before..], Instant::now()) {
            return Poll::Ready(Err(io::Error::other("too many frames without a call")));
        }
        let Some((missing, deadline)) = &mut this.preface else { return read };
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            this.preface = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin, T: Unpin> AsyncWrite for Accepted<S, I, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &written {
            this.frames.written(*written);
        }
        written
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tonic::body::Body;

    use super::*;
    use crate::readers::tests::One;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_connection_that_sends_part_of_the_preface_ends_and_gives_its_ticket_back() {
        let (mut far, near) = tokio::io::duplex(64);
        let ticket = Arc::new(());
        let mut accepted = Accepted::new(near, 7, ticket.clone(), SHORT);
        assert_eq!(accepted.connect_info(), 7);
        far.write_all(&[0; PREFACE - 1]).await.unwrap();
        let error = accepted.read_exact(&mut [0; PREFACE]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(accepted);
        assert_eq!(Arc::strong_count(&ticket), 1);
    }

    #[tokio::test]
    async fn a_connection_ends_when_an_answer_waits_for_its_reader_for_too_long() {
        let (mut far, near) = tokio::io::duplex(64);
        let readers = Readers::default();
        let mut accepted =
            Accepted::new(near, (), (), SHORT * 100).ending_stalled(readers.clone(), SHORT * 4);
        far.write_all(&[0; PREFACE]).await.unwrap();
        accepted.read_exact(&mut [0; PREFACE]).await.unwrap();
        // Bodies that end, one after the other, are progress.
        for _ in 0..6 {
            let body = readers.watch(Body::new(One(None)));
            let silent = tokio::time::timeout(SHORT, accepted.read_u8()).await;
            assert!(silent.is_err(), "{silent:?}");
            drop(body);
        }
        let _body = readers.watch(Body::new(One(None)));
        let ended = tokio::time::timeout(SHORT * 100, accepted.read_u8()).await;
        let error = ended.expect("the connection ends").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn after_the_preface_a_connection_may_be_silent() {
        let (mut far, near) = tokio::io::duplex(64);
        let mut accepted = Accepted::new(near, (), (), SHORT);
        far.write_all(&[0; PREFACE]).await.unwrap();
        accepted.read_exact(&mut [0; PREFACE]).await.unwrap();
        let silent = tokio::time::timeout(SHORT * 3, accepted.read_u8()).await;
        assert!(silent.is_err(), "{silent:?}");
        far.write_all(b"x").await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), b'x');
    }
}
