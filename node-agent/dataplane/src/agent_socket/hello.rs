//! The first exchange: the other end's user, the protocol version, the one controller.

use std::sync::Arc;
use std::time::Duration;

use rap_runtime::Fault;
use rap_types::Reason;
use rap_wire::v1::agent_message::Body as Asked;
use rap_wire::v1::dataplane_message::Body as Answered;
use rap_wire::v1::{DataplaneHello, DataplaneHelloAnswer};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::plane::Plane;

/// The agent must be root or of this process's user.
pub(super) fn check_peer(stream: &UnixStream) -> Result<(), Fault> {
    let peer = stream.peer_cred().map_err(Fault::of(Reason::DataplanePeer))?;
    let own = nix::unistd::geteuid().as_raw();
    if may_control(peer.uid(), own) {
        return Ok(());
    }
    Err(Fault::new(Reason::DataplanePeer, format!("user {} may not control user {own}", peer.uid())))
}

fn may_control(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// The version to speak.
pub(super) fn negotiate(first: Option<&Asked>, membership: &str) -> Result<u32, Fault> {
    let Some(Asked::Hello(hello)) = first else {
        return Err(Fault::new(Reason::RequestInvalid, "the first message is a hello"));
    };
    let DataplaneHello { protocol_min, protocol_max, agent_version, membership: asked } = hello;
    let protocol = (*protocol_max).min(PROTOCOL_MAX);
    if protocol < PROTOCOL_MIN || protocol < *protocol_min {
        let text = format!(
            "agent {agent_version:.64} speaks {protocol_min} to {protocol_max}, this data plane {PROTOCOL_MIN} to {PROTOCOL_MAX}"
        );
        return Err(Fault::new(Reason::DataplaneVersion, text));
    }
    if asked != membership {
        let text = format!("this is the data plane of membership {membership}");
        return Err(Fault::new(Reason::RequestInvalid, text));
    }
    Ok(protocol)
}

/// Becomes the controller. An agent that just ended may not be noticed yet, hence the wait.
pub(super) async fn take_control(controller: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    match timeout(TAKE_OVER, controller.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => {
            Err(Fault::new(Reason::DataplaneBusy, "another agent controls this data plane"))
        }
    }
}

pub(super) fn answer(plane: &Plane, protocol: u32) -> Answered {
    Answered::Hello(DataplaneHelloAnswer {
        protocol,
        instance_id: plane.instance().to_vec(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        table_version: plane.facts().version,
        tun: plane.interface().is_some(),
        interface: plane.interface().unwrap_or_default().to_owned(),
        features: vec![PATHS.to_owned()],
    })
}

/// Tables may name relays and paths.
const PATHS: &str = "paths";
const PROTOCOL_MIN: u32 = 1;
/// The highest that is spoken. 1 is kept for agents of the release before.
const PROTOCOL_MAX: u32 = 2;
/// Longest first message. It is read before anything is known of the other end.
pub(super) const CAP: usize = 4096;
/// How long a connection may be silent before its hello.
pub(super) const WAIT: Duration = Duration::from_secs(5);
const TAKE_OVER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(protocol_min: u32, protocol_max: u32) -> Asked {
        let (agent_version, membership) = ("0.1.0".to_owned(), "m".to_owned());
        Asked::Hello(DataplaneHello { protocol_min, protocol_max, agent_version, membership })
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(negotiate(Some(&hello(1, 1)), "m"), Ok(1));
        assert_eq!(negotiate(Some(&hello(1, 2)), "m"), Ok(2));
        assert_eq!(negotiate(Some(&hello(0, 9)), "m"), Ok(2));
        for (min, max) in [(3, 9), (0, 0), (2, 1)] {
            let fault = negotiate(Some(&hello(min, max)), "m").unwrap_err();
            assert_eq!(fault.reason, Reason::DataplaneVersion, "{min} {max}");
        }
    }

    #[test]
    fn only_root_and_the_same_user_may_control() {
        assert!(may_control(1000, 1000) && may_control(0, 1000) && may_control(0, 0));
        assert!(!may_control(1001, 1000) && !may_control(1000, 0));
    }
}
