//! Calls to services that this server does not have. Owns the answer; the guard before it counts the call.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

/// Answers everything with `UNIMPLEMENTED`; the guard adds reason and request id.
#[derive(Debug, Clone, Copy)]
pub struct Unknown;

impl Service<http::Request<Body>> for Unknown {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(Status::unimplemented("").into_http()))
    }
}
