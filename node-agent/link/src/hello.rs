//! The hello: protocol range, session name, lane, features, newest head.
//!
//! Owns the limits of a hello. The newest head is bytes here; the agent verifies it.

use prost::Message as _;
use rap_types::Reason;
use rap_wire::v1;

use crate::facts::{Lane, Local, Side};

/// Oldest link protocol spoken.
pub(crate) const PROTOCOL_MIN: u32 = 1;
/// Newest link protocol spoken.
pub(crate) const PROTOCOL_MAX: u32 = 1;
/// Most features in a hello.
pub(crate) const FEATURES_MAX: usize = 32;
/// Feature of a hello: this node takes path messages and labelled data. Both hellos must have it before either side
/// sends such a frame, because a peer without it closes the connection.
pub const FEATURE_FABRIC: &str = "fabric.1";
/// Largest newest head in a hello, in bytes.
pub const HEAD_MAX: usize = 32 * 1024;

const FEATURE_LEN_MAX: usize = 64;

/// What the peer said in its hello, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerHello {
    /// Newest protocol that both sides speak.
    pub protocol: u32,
    /// Name of the session, chosen by the dialling side.
    pub session_id: [u8; 16],
    /// Which connection of the link this is.
    pub lane: Lane,
    /// Features that the peer offers. Both sides may use those that this side offers too.
    pub features: Vec<String>,
    /// Signed cluster head, not verified. May be empty; at most [`HEAD_MAX`].
    pub newest_head: Vec<u8>,
}

/// True if both sides offer [`FEATURE_FABRIC`].
pub(crate) fn is_fabric(local: &Local, peer: &PeerHello) -> bool {
    let offers = |features: &[String]| features.iter().any(|feature| feature == FEATURE_FABRIC);
    offers(&local.features) && offers(&peer.features)
}

/// Encodes this side's hello.
pub(crate) fn encode(local: &Local, lane: Lane, session_id: [u8; 16]) -> Vec<u8> {
    v1::LinkHello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        lane: lane.code(),
        session_id: session_id.to_vec(),
        features: local.features.clone(),
        newest_head: local.newest_head.clone(),
    }
    .encode_to_vec()
}

/// Checks the hello of the peer. If this side dialled, the hello must name the same session and lane.
pub(crate) fn read(payload: &[u8], side: &Side) -> Result<PeerHello, Reason> {
    let hello = v1::LinkHello::decode(payload).map_err(|_| Reason::LinkFrameMalformed)?;
    let protocol = hello.protocol_max.min(PROTOCOL_MAX);
    if hello.protocol_min > hello.protocol_max || protocol < hello.protocol_min.max(PROTOCOL_MIN) {
        return Err(Reason::LinkVersion);
    }
    let session_id =
        <[u8; 16]>::try_from(hello.session_id.as_slice()).map_err(|_| Reason::LinkFrameMalformed)?;
    let fits = hello.features.len() <= FEATURES_MAX
        && hello.features.iter().all(|feature| feature.len() <= FEATURE_LEN_MAX)
        && hello.newest_head.len() <= HEAD_MAX;
    if !fits {
        return Err(Reason::LinkFrameTooLarge);
    }
    let lane = v1::LinkLane::try_from(hello.lane).ok().and_then(Lane::of_wire).ok_or(Reason::LinkState)?;
    let named = match side {
        Side::Dialer { session_id: ours, lane: dialled, .. } => (*ours, *dialled) == (session_id, lane),
        Side::Acceptor => true,
    };
    if !named {
        return Err(Reason::LinkState);
    }
    Ok(PeerHello { protocol, session_id, lane, features: hello.features, newest_head: hello.newest_head })
}
