//! What a session says on its stream.
//!
//! Owns the deadline of each message.

use rap_types::Reason;
use rap_wire::v1;
use v1::control_message::Body;

use crate::grpc::sync::hello;
use crate::grpc::sync::identity::AWAY;
use crate::grpc::sync::session::Session;
use crate::grpc::sync::stream_end::{End, refused};

impl Session {
    pub(super) async fn greet(&self) -> Result<(), End> {
        let hello = v1::ControlHello {
            protocol: hello::PROTOCOL,
            server_time_ms: self.replica.watch.clock.now().wall.0,
            report_interval_ms: u32::try_from(self.replica.config.pushing.report_interval.as_millis())
                .unwrap_or(u32::MAX),
            newest: self.member.cluster.feed.newest().map(|published| hello::order_of(published.order)),
        };
        self.send(Body::Hello(hello)).await
    }

    /// Tells the node what is doubted about its identity.
    pub(super) async fn notice(&self, doubt: Option<Reason>) -> Result<(), End> {
        let reason = doubt.map(|reason| reason.code().to_owned()).unwrap_or_default();
        self.send(Body::IdentityNotice(v1::IdentityNotice { reason })).await
    }

    /// Asks a node whose identity is in two places to stay away; what is signed was sent before.
    pub(super) async fn keep_away(&self) -> End {
        let reconnect_after_ms = u32::try_from(AWAY.as_millis()).unwrap_or(u32::MAX);
        let _ = self.send(Body::GoingAway(v1::GoingAway { reconnect_after_ms, not_ready: false })).await;
        End::Gone
    }

    /// Says when to come back, if the node still listens.
    pub(super) async fn part(&self) -> End {
        let window =
            u32::try_from(self.replica.config.pushing.reconnect_window.as_millis()).unwrap_or(u32::MAX);
        let reconnect_after_ms = if window == 0 { 0 } else { rand::random_range(0..window) };
        // Streams of a replica that is not ready are ended one after the other already.
        let not_ready = self.replica.require_ready().is_err();
        let reconnect_after_ms = if not_ready { 0 } else { reconnect_after_ms };
        let _ = self.send(Body::GoingAway(v1::GoingAway { reconnect_after_ms, not_ready })).await;
        End::Gone
    }

    pub(super) async fn send(&self, body: Body) -> Result<(), End> {
        let message = Ok(v1::ControlMessage { body: Some(body) });
        match tokio::time::timeout(self.replica.config.pushing.write_timeout, self.out.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(refused(Reason::RequestTimeout, "the node does not read")),
        }
    }
}
