//! The read side of one connection.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};

/// Waits for bytes, then takes what more has come, until the buffer is full: TLS gives one record at a time. Returns how
/// many bytes were read, 0 at the end. An error after some bytes is that of the next call. Safe to cancel.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<usize> {
    let mut taken = ReadBuf::new(buffer);
    poll_fn(|context| {
        loop {
            let before = taken.filled().len();
            match Pin::new(&mut *from).poll_read(context, &mut taken) {
                Poll::Ready(Ok(())) if taken.filled().len() > before && taken.remaining() > 0 => {}
                Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Ready(_) | Poll::Pending => return Poll::Ready(Ok(taken.filled().len())),
            }
        }
    })
    .await
}

/// One TLS record of the largest size.
pub(crate) const CHUNK: usize = 16 * 1024;
/// On a lane of bulk: fewer turns for the same bytes.
pub(crate) const CHUNK_BULK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    /// Gives at most three bytes at a time; `ends`: then the end, else nothing yet.
    struct Pieces(&'static [u8], bool);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let count = self.0.len().min(3).min(into.remaining());
            if count == 0 && !self.1 {
                return Poll::Pending;
            }
            into.put_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_has_come_is_read_at_once_up_to_the_buffer_and_the_end_is_zero() {
        let mut from = Pieces(b"abcdefgh", true);
        let mut buffer = [0; 7];
        assert_eq!(read(&mut from, &mut buffer).await.unwrap(), 7);
        assert_eq!(&buffer, b"abcdefg");
        assert_eq!(read(&mut from, &mut buffer).await.unwrap(), 1);
        assert_eq!(read(&mut from, &mut buffer).await.unwrap(), 0);
        assert_eq!(read(&mut Pieces(b"abcd", false), &mut buffer).await.unwrap(), 4, "nobody waits for more");
    }
}
