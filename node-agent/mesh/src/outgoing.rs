//! The write side of one connection.
//!
//! Owns the bytes between the scheduler of the link and the socket: at most one chunk, larger on a lane of bulk. The next chunk is
//! requested after TLS and the socket took the one before. Refuses to choose what is sent. With
//! `TCP_NOTSENT_LOWAT` this bounds the bytes that an urgent frame cannot overtake.

use std::io;
use std::time::Duration;

use rap_link::Link;
use rap_types::{Mono, Now};
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Bytes under way to the socket.
pub(crate) struct Outgoing {
    write: WriteHalf<TlsStream<TcpStream>>,
    bytes: Vec<u8>,
    unflushed: bool,
    chunk: usize,
    /// Last time that bytes left, or that none waited.
    progress: Mono,
}

impl Outgoing {
    pub(crate) fn new(write: WriteHalf<TlsStream<TcpStream>>, now: Now) -> Self {
        Self { write, bytes: Vec::new(), unflushed: false, chunk: CHUNK, progress: now.mono }
    }

    /// For a lane whose frames nothing urgent waits behind.
    pub(crate) const fn carry_bulk(&mut self) {
        self.chunk = CHUNK_BULK;
    }

    /// True while bytes wait for the socket.
    pub(crate) const fn is_busy(&self) -> bool {
        !self.bytes.is_empty() || self.unflushed
    }

    /// When the peer counts as stalled, if bytes wait: `patience` after the last byte left.
    pub(crate) fn stalls_at(&self, patience: Duration) -> Option<Mono> {
        self.is_busy().then(|| self.progress.plus(patience))
    }

    /// Takes the next chunk from the link, if the one before is written and flushed.
    pub(crate) fn refill(&mut self, link: &mut Link, now: Now) {
        if !self.is_busy() {
            self.progress = now.mono;
            link.poll_transmit(self.chunk, now, &mut self.bytes);
        }
    }

    /// Writes some bytes, or flushes if all are written. Returns how many bytes were written; pass it to
    /// [`Self::wrote`]. Safe to cancel.
    pub(crate) async fn push(&mut self) -> io::Result<usize> {
        if self.bytes.is_empty() {
            self.write.flush().await?;
            return Ok(0);
        }
        match self.write.write(&self.bytes).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        }
    }

    /// Takes the result of [`Self::push`].
    pub(crate) fn wrote(&mut self, count: usize, now: Now) {
        self.unflushed = count > 0;
        self.bytes.drain(..count);
        self.bytes.shrink_to(self.chunk);
        self.progress = now.mono;
    }

    /// Writes all frames that still wait, then shuts this direction down.
    pub(crate) async fn finish(&mut self, link: &mut Link, now: Now) -> io::Result<()> {
        loop {
            self.write.write_all(&self.bytes).await?;
            self.bytes.clear();
            link.poll_transmit(self.chunk, now, &mut self.bytes);
            if self.bytes.is_empty() {
                return self.write.shutdown().await;
            }
        }
    }
}

/// One TLS record of the largest size.
const CHUNK: usize = 16 * 1024;
/// As much as the kernel of a lane of bulk holds unsent: fewer turns for the same bytes.
const CHUNK_BULK: usize = 64 * 1024;
