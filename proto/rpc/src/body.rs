//! Bodies that pass on what another body gives.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame};
use tonic::Status;
use tonic::body::Body;

/// The next frame of a body; `None` at its end.
pub type NextFrame = Poll<Option<Result<Frame<Bytes>, Status>>>;

/// What happens to the frames of a body on their way.
pub trait Pass: Send + Unpin + 'static {
    /// The next frame, made of what `inner` gives.
    fn poll(&mut self, inner: &mut Body, cx: &mut Context<'_>) -> NextFrame;

    /// True while something that the inner body gave is still to be passed on.
    fn holds_back(&self) -> bool {
        false
    }
}

/// The body whose frames `pass` makes of those of `inner`.
pub fn passed(inner: Body, pass: impl Pass) -> Body {
    Body::new(Passed { inner, pass })
}

/// The next frame of `body`.
pub fn poll_frame(body: &mut Body, cx: &mut Context<'_>) -> NextFrame {
    Pin::new(body).poll_frame(cx)
}

struct Passed<P> {
    inner: Body,
    pass: P,
}

impl<P: Pass> HttpBody for Passed<P> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> NextFrame {
        let this = &mut *self;
        this.pass.poll(&mut this.inner, cx)
    }

    fn is_end_stream(&self) -> bool {
        !self.pass.holds_back() && self.inner.is_end_stream()
    }
}
