//! Payloads of the frames that a link itself uses after the hello: goodbye, probe, echo.
//!
//! Owns their encoding and size limits. Knows no session.

use prost::Message as _;
use rap_types::{ChannelClass, Mono, Reason};
use rap_wire::v1;

use crate::facts::Lane;
use crate::frame::{Frame, FrameKind, HEADER_LEN};

/// Largest payload of an echo, in bytes.
pub const ECHO_MAX: usize = 1024;
/// Longest echo or probe on the wire: header, payload and two fields of at most 11 bytes.
pub(crate) const ECHO_WIRE_MAX: usize = HEADER_LEN + ECHO_MAX + 2 * 11;

pub(crate) fn hello(payload: Vec<u8>) -> Frame {
    Frame::local(ChannelClass::Control, FrameKind::Hello, payload)
}

pub(crate) fn bye(reason: Reason) -> Frame {
    let payload = v1::LinkBye { reason: reason.code().to_owned() }.encode_to_vec();
    Frame::local(ChannelClass::Control, FrameKind::Bye, payload)
}

pub(crate) fn probe(seq: u64, now: Mono) -> Frame {
    let payload = v1::FabricProbe { seq, sender_mono_ns: now.0 }.encode_to_vec();
    Frame::local(ChannelClass::Control, FrameKind::Probe, payload)
}

pub(crate) fn probe_ack(probe: &v1::FabricProbe) -> Frame {
    let ack = v1::FabricProbeAck { seq: probe.seq, sender_mono_ns: probe.sender_mono_ns };
    Frame::local(ChannelClass::Control, FrameKind::ProbeAck, ack.encode_to_vec())
}

pub(crate) fn echo(class: ChannelClass, seq: u64, payload: &[u8]) -> Frame {
    let payload = v1::SyntheticEcho { seq, payload: payload.to_vec() }.encode_to_vec();
    Frame::local(class, FrameKind::Echo, payload)
}

pub(crate) fn echo_reply(class: ChannelClass, echo: &v1::SyntheticEcho) -> Frame {
    Frame::local(class, FrameKind::EchoReply, echo.encode_to_vec())
}

pub(crate) fn read_probe(payload: &[u8]) -> Result<v1::FabricProbe, Reason> {
    v1::FabricProbe::decode(payload).map_err(|_| Reason::LinkFrameMalformed)
}

pub(crate) fn read_probe_ack(payload: &[u8]) -> Result<v1::FabricProbeAck, Reason> {
    v1::FabricProbeAck::decode(payload).map_err(|_| Reason::LinkFrameMalformed)
}

pub(crate) fn read_echo(payload: &[u8]) -> Result<v1::SyntheticEcho, Reason> {
    let echo = v1::SyntheticEcho::decode(payload).map_err(|_| Reason::LinkFrameMalformed)?;
    if echo.payload.len() > ECHO_MAX { Err(Reason::LinkFrameTooLarge) } else { Ok(echo) }
}

/// The request of the dialled side to open a lane; lane A: to make the link anew.
pub fn lane_request(lane: Lane) -> Frame {
    let payload = v1::LaneRequest { lane: lane.code() }.encode_to_vec();
    Frame::local(ChannelClass::Control, FrameKind::LaneRequest, payload)
}

/// The lane that is asked for.
pub(crate) fn read_lane_request(payload: &[u8]) -> Result<Lane, Reason> {
    let request = v1::LaneRequest::decode(payload).map_err(|_| Reason::LinkFrameMalformed)?;
    v1::LinkLane::try_from(request.lane).ok().and_then(Lane::of_wire).ok_or(Reason::LinkState)
}

/// The reason in a goodbye. A code that this version does not know reads as `link.closed`.
pub(crate) fn read_bye(payload: &[u8]) -> Result<Reason, Reason> {
    let bye = v1::LinkBye::decode(payload).map_err(|_| Reason::LinkFrameMalformed)?;
    Ok(Reason::from_code(&bye.reason).unwrap_or(Reason::LinkClosed))
}
