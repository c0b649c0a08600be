//! What stands before every service: kind of connection, rate, body size, body deadline, deadline of the answer.
//!
//! Owns the refusals a stranger meets before any handler runs. Refuses to own who a caller is:
//! sessions are looked up by the handlers; here a known one only lifts the stranger's limits.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Bytes;
use rap_authority::{SessionClaim, SessionKey, ids};
use rap_rpc::body::{NextFrame, Pass, passed, poll_frame};
use rap_rpc::refuse;
use rap_runtime::Clock;
use rap_types::{Reason, RequestId};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use crate::auth::call::{CalledMethod, bearer_claim};
use crate::auth::source_rates::SourceRates;
use crate::serve::operator_sessions::KnownSessions;
use crate::tls::channel::{Channel, ChannelKind};
use crate::watch::metrics::Metrics;

/// Which connections a service is offered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Operators and applicants.
    Operators,
    /// Nodes.
    Nodes,
    /// Both.
    All,
}

/// The rules of one service.
#[derive(Debug)]
pub struct GuardRules {
    /// Connections it is offered on.
    pub offered: Offered,
    /// Calls per source without a known session.
    pub rates: Arc<SourceRates>,
    /// Sessions seen lately.
    pub known: Arc<KnownSessions>,
    /// Key of session hashes.
    pub session_key: SessionKey,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Deadline of a stranger's whole body.
    pub body_timeout: Duration,
    /// Most bytes of a stranger's body.
    pub body_cap: usize,
    /// Deadline of an answer's beginning; `None` for none of this server's own.
    pub deadline: Option<Duration>,
    /// The clock.
    pub clock: Clock,
}

/// A service behind its rules.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    inner: S,
    rules: Arc<GuardRules>,
}

impl<S> Guard<S> {
    /// Puts `rules` before `inner`.
    pub fn new(inner: S, rules: GuardRules) -> Self {
        Self { inner, rules: Arc::new(rules) }
    }
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guard<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let request_id = request_id(&self.rules.clock);
        request.extensions_mut().insert(request_id);
        let method = CalledMethod(request.uri().path().to_owned());
        request.extensions_mut().insert(method);
        if let Some(claim) = bearer_claim(request.headers(), &self.rules.session_key) {
            request.extensions_mut().insert(claim);
        }
        let request = match self.rules.admit(&request, request_id) {
            Ok(Admitted::Known) => request,
            Ok(Admitted::Stranger) => {
                let deadline = Box::pin(tokio::time::sleep(self.rules.body_timeout));
                let bounds = Bounds { deadline, left: self.rules.body_cap, request_id };
                request.map(|body| passed(body, bounds))
            }
            Err(status) => {
                let response = status.into_http();
                return Box::pin(async move { Ok(response) });
            }
        };
        let readers = request.extensions().get::<Channel>().map(|channel| channel.readers().clone());
        let deadline = deadline(request.headers(), self.rules.deadline);
        let (answer, rules) = (self.inner.call(request), self.rules.clone());
        Box::pin(async move {
            let answer = match tokio::time::timeout(deadline.unwrap_or(NEVER), answer).await {
                Ok(answer) => rules.named(answer?, request_id),
                Err(_) => {
                    rules.metrics.rejected(Reason::RequestTimeout);
                    refuse(Reason::RequestTimeout, "the call was not done in time", request_id).into_http()
                }
            };
            Ok(match readers {
                Some(readers) => answer.map(|body| readers.watch(body)),
                None => answer,
            })
        })
    }
}

enum Admitted {
    Known,
    Stranger,
}

impl GuardRules {
    fn admit(&self, request: &http::Request<Body>, request_id: RequestId) -> Result<Admitted, Box<Status>> {
        let refuse = |reason, message| {
            self.metrics.rejected(reason);
            Box::new(refuse(reason, message, request_id))
        };
        let Some(channel) = request.extensions().get::<Channel>() else {
            return Err(refuse(Reason::ChannelWrong, "connection without a channel"));
        };
        match (self.offered, channel.kind()) {
            (Offered::Nodes | Offered::All, ChannelKind::Node(_)) => return Ok(Admitted::Known),
            (Offered::Operators | Offered::All, ChannelKind::Operator) => {}
            (Offered::Nodes, ChannelKind::Operator) | (Offered::Operators, ChannelKind::Node(_)) => {
                return Err(refuse(Reason::ChannelWrong, "this service is not offered on this connection"));
            }
        }
        let claim = request.extensions().get::<SessionClaim>();
        if claim.is_some_and(|claim| self.known.contains(&claim.hash, self.clock.now().wall)) {
            return Ok(Admitted::Known);
        }
        if self.rates.admit(channel.peer().ip()) {
            Ok(Admitted::Stranger)
        } else {
            Err(refuse(Reason::RateLimited, "too many requests from this source"))
        }
    }
}

impl GuardRules {
    /// The transport refuses bodies that are no message and methods that do not exist before a handler
    /// sees them, without a code of ours: they get one here.
    fn named(&self, response: http::Response<Body>, request_id: RequestId) -> http::Response<Body> {
        let headers = response.headers();
        let reason = match headers.get(Status::GRPC_STATUS).map(http::HeaderValue::as_bytes) {
            Some(b"11") => Reason::RequestTooLarge,
            Some(b"12") => Reason::RequestUnimplemented,
            Some(b"13") => Reason::RequestInvalid,
            _ => return response,
        };
        if headers.contains_key("grpc-status-details-bin") {
            return response;
        }
        self.metrics.rejected(reason);
        let said = Status::from_header_map(headers).map(|status| status.message().to_owned());
        let said = match said.unwrap_or_default() {
            // Of a method that does not exist nothing is said; of an encoding that is not read, its name.
            nothing if nothing.is_empty() && reason == Reason::RequestUnimplemented => {
                "this server has no such service or method".to_owned()
            }
            said => said,
        };
        refuse(reason, said, request_id).into_http()
    }
}

/// When an answer is given up: a while before the caller gives up or the server's own deadline passes, so that the
/// refusal arrives.
fn deadline(headers: &http::HeaderMap, own: Option<Duration>) -> Option<Duration> {
    let asked = headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    let sooner = asked.map(|asked| asked - asked / 8);
    [sooner, own].into_iter().flatten().min()
}

/// A gRPC timeout: at most eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| plain)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Longer than any call waits.
const NEVER: Duration = Duration::from_secs(366 * 86_400);

/// A fresh id for one call.
pub fn request_id(clock: &Clock) -> RequestId {
    RequestId::from_parts(ids::millis(clock.now().wall), ids::random(&mut rand::rng()))
}

/// Ends a body in a refusal when it is too long or comes too slowly.
struct Bounds {
    deadline: Pin<Box<Sleep>>,
    left: usize,
    request_id: RequestId,
}

impl Pass for Bounds {
    fn poll(&mut self, inner: &mut Body, cx: &mut Context<'_>) -> NextFrame {
        let request_id = self.request_id;
        let refused = move |reason, message| Some(Err(refuse(reason, message, request_id)));
        let Poll::Ready(frame) = poll_frame(inner, cx) else {
            let late = |()| refused(Reason::RequestTimeout, "the body did not come in time");
            return self.deadline.as_mut().poll(cx).map(late);
        };
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => 0,
        };
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(frame)
            }
            None => Poll::Ready(refused(Reason::RequestTooLarge, "the body exceeds the limit")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_given_up_before_its_caller_gives_up() {
        let of = |text: &str, own: Option<u64>| {
            let headers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                http::HeaderValue::from_str(text).unwrap(),
            )]);
            deadline(&headers, own.map(Duration::from_secs)).map(|deadline| deadline.as_millis())
        };
        for (text, millis) in [("8S", 7_000), ("800m", 700), ("1M", 52_500), ("1H", 3_150_000), ("8000u", 7)]
        {
            assert_eq!(of(text, None), Some(millis), "{text}");
        }
        for text in ["", "S", "8", "8X", "123456789S", "-1S", "+1S", "1 S"] {
            assert_eq!(of(text, None), None, "{text}");
            assert_eq!(of(text, Some(15)), Some(15_000), "{text}");
        }
        assert_eq!((of("8S", Some(15)), of("80S", Some(15))), (Some(7_000), Some(15_000)));
    }
}
