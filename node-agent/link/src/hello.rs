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
/// Feature of a hello: this node carries each class on its lane. Both hellos must have it, beside [`FEATURE_FABRIC`];
/// without it lane A carries every class.
pub const FEATURE_LANES: &str = "lanes.1";
/// Feature of a hello: this node takes rows of relays. Both hellos must have it, beside [`FEATURE_FABRIC`].
pub const FEATURE_ROWS: &str = "rows.1";
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
    /// What both sides offer.
    pub agreed: Agreed,
}

/// Features that both sides of a connection offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreed {
    /// [`FEATURE_FABRIC`].
    pub fabric: bool,
    /// [`FEATURE_LANES`] beside [`FEATURE_FABRIC`].
    pub lanes: bool,
    /// [`FEATURE_ROWS`] beside [`FEATURE_FABRIC`].
    pub rows: bool,
}

impl Agreed {
    fn between(ours: &[String], theirs: &[String]) -> Self {
        let both = |name: &str| [ours, theirs].iter().all(|side| side.iter().any(|feature| feature == name));
        let fabric = both(FEATURE_FABRIC);
        Self { fabric, lanes: fabric && both(FEATURE_LANES), rows: fabric && both(FEATURE_ROWS) }
    }
}

/// Encodes this side's hello. The newest head is told over lane A alone.
pub(crate) fn encode(local: &Local, lane: Lane, session_id: [u8; 16]) -> Vec<u8> {
    v1::LinkHello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        lane: lane.code(),
        session_id: session_id.to_vec(),
        features: local.features.clone(),
        newest_head: if lane == Lane::A { local.newest_head.clone() } else { Vec::new() },
    }
    .encode_to_vec()
}

/// Checks the hello of the peer. If this side dialled, the hello must name the same session and lane.
pub(crate) fn read(payload: &[u8], side: &Side, local: &Local) -> Result<PeerHello, Reason> {
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
    let agreed = Agreed::between(&local.features, &hello.features);
    let v1::LinkHello { features, newest_head, .. } = hello;
    Ok(PeerHello { protocol, session_id, lane, features, newest_head, agreed })
}
