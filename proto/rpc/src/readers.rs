//! Response bodies of one connection whose reader takes nothing.
//!
//! Owns since when each of them waits. HTTP/2 asks a body for its next piece once the reader's window has room for it: a
//! body that gave a piece, and is not asked again, makes no progress. A body that has nothing to give is not meant.
//! Refuses to own the end of the connection ([`Accepted`](crate::Accepted)).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Bytes, Frame};
use tokio::time::Instant;
use tonic::body::Body;

use crate::body::{NextFrame, Pass, passed, poll_frame};

/// The bodies of one connection. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Readers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Readers {
    /// The same body, given in pieces of at most [`PIECE`] bytes, so that a slow reader shows progress.
    pub fn watch(&self, body: Body) -> Body {
        let id = {
            let mut waiting = self.lock();
            waiting.next += 1;
            waiting.next
        };
        self.waits(id);
        passed(body, Watched { rest: Bytes::new(), readers: self.clone(), id })
    }

    /// Since when the body waits that has waited longest.
    pub(crate) fn longest(&self) -> Option<Instant> {
        self.lock().since.values().min().copied()
    }

    fn waits(&self, id: u64) {
        self.lock().since.insert(id, Instant::now());
    }

    fn asked(&self, id: u64) {
        self.lock().since.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    rest: Bytes,
    readers: Readers,
    id: u64,
}

impl Pass for Watched {
    fn poll(&mut self, inner: &mut Body, cx: &mut Context<'_>) -> NextFrame {
        self.readers.asked(self.id);
        if self.rest.is_empty() {
            match ready!(poll_frame(inner, cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end @ (None | Some(Err(_))) => return Poll::Ready(end),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.readers.waits(self.id);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn holds_back(&self) -> bool {
        !self.rest.is_empty()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.readers.asked(self.id);
    }
}

const PIECE: usize = 8 * 1024;

#[cfg(test)]
pub(crate) mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Waker;

    use hyper::body::Body as _;
    use tonic::Status;

    use super::*;

    /// A body of one frame of data.
    pub(crate) struct One(pub(crate) Option<Bytes>);

    impl hyper::body::Body for One {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            // Nothing more comes, and it does not end.
            self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
        }
    }

    #[tokio::test]
    async fn a_body_waits_from_each_piece_to_the_next_question_and_not_while_it_has_nothing() {
        let readers = Readers::default();
        let mut body = readers.watch(Body::new(One(Some(Bytes::from(vec![7; 20_000])))));
        let mut since = readers.longest().expect("nobody asked for the first piece");
        for expected in [8_192, 8_192, 3_616] {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap().len(), expected);
            let next = readers.longest().expect("it gave a piece");
            assert!(next > since, "each piece is progress");
            since = next;
        }
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut context).is_pending());
        assert_eq!(readers.longest(), None, "a body without anything to give");
        let other = readers.watch(Body::new(One(None)));
        assert!(readers.longest().is_some());
        drop(other);
        assert_eq!(readers.longest(), None);
    }
}
