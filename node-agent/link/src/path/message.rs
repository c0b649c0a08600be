//! The messages of paths: what is read from a frame, and what is written into one.
//!
//! Owns their limits. An install is verified here, outside of the core, because that takes a thousand times as long as
//! everything else.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use rap_contract::{LEAF_CAP, LeafKey, LeafTrust, PATH_HOPS_MAX, PathInstall, PathInstallExpectation};
use rap_types::{Mono, Now, Reason, Wall};
use rap_wire::v1;

/// Largest `PathRequest`, bytes.
pub const REQUEST_MAX: usize = 8 * 1024;
/// Largest payload of a frame of data, bytes.
pub(crate) const DATA_MAX: usize = 16 * 1024;
/// Largest other message, bytes.
const MESSAGE_MAX: usize = 1024;

/// A `PathRequest` that decodes and keeps the limits. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestText {
    pub(crate) request: u64,
    pub(crate) leaf: Vec<u8>,
    pub(crate) install: Vec<u8>,
    pub(crate) rest: Vec<Vec<u8>>,
}

/// A request after the signature of its first install was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedRequest {
    pub(crate) text: RequestText,
    pub(crate) install: PathInstall,
    pub(crate) key_generation: u64,
    /// End of the leaf of the source, on the boot clock.
    pub(crate) leaf_until: Mono,
}

impl RequestText {
    /// Reads a request.
    ///
    /// # Errors
    /// `path.malformed`.
    pub fn read(payload: &[u8]) -> Result<Self, Reason> {
        if payload.len() > REQUEST_MAX {
            return Err(Reason::PathMalformed);
        }
        let request = v1::PathRequest::decode(payload).map_err(|_| Reason::PathMalformed)?;
        let mut installs = request.installs.into_iter();
        let install = installs.next().ok_or(Reason::PathMalformed)?;
        let rest: Vec<_> = installs.collect();
        if rest.len() >= usize::from(PATH_HOPS_MAX) || request.source_leaf.len() > LEAF_CAP {
            return Err(Reason::PathMalformed);
        }
        Ok(Self { request: request.request_id, leaf: request.source_leaf, install, rest })
    }

    /// Verifies the first install.
    ///
    /// # Errors
    /// `path.signature`; `header.audience`, `header.critical`, `path.lifetime`, `path.kind`, `node.revoked`.
    pub fn open(
        self,
        trust: &dyn LeafTrust,
        expect: &PathInstallExpectation<'_>,
        now: Now,
    ) -> Result<OpenedRequest, (Self, Reason)> {
        match PathInstall::open(&self.install, &self.leaf, trust, expect) {
            Ok((install, LeafKey { key_generation, not_after, .. })) => {
                let leaf_until = now.mono.plus(not_after.since(now.wall));
                Ok(OpenedRequest { text: self, install, key_generation, leaf_until })
            }
            Err(reject) => Err((self, told(reject.reason))),
        }
    }

    pub(crate) fn onward(self, request: u64) -> Vec<u8> {
        v1::PathRequest { request_id: request, source_leaf: self.leaf, installs: self.rest }.encode_to_vec()
    }

    /// The answer that refuses this request before the core saw it.
    pub fn refusal(&self, reason: Reason) -> Vec<u8> {
        refusal(self.request, reason, 0, 0, Wall(0))
    }
}

/// What the source learns of why its signature was refused.
fn told(reason: Reason) -> Reason {
    let precise = [
        Reason::HeaderAudience,
        Reason::HeaderCritical,
        Reason::PathLifetime,
        Reason::PathKind,
        Reason::NodeRevoked,
    ];
    if precise.contains(&reason) { reason } else { Reason::PathSignature }
}

pub(crate) fn refusal(request: u64, reason: Reason, position: u8, generation: u64, wall: Wall) -> Vec<u8> {
    v1::PathAnswer {
        request_id: request,
        reason: reason.code().to_owned(),
        position: u32::from(position),
        hops: Vec::new(),
        generation,
        wall_ms: wall.0,
    }
    .encode_to_vec()
}

/// A request of this node.
pub fn request_payload(request: u64, leaf: &[u8], installs: Vec<Vec<u8>>) -> Vec<u8> {
    v1::PathRequest { request_id: request, source_leaf: leaf.to_vec(), installs }.encode_to_vec()
}

pub(crate) fn answer(request: u64, hops: Vec<v1::PathHop>) -> Vec<u8> {
    v1::PathAnswer { request_id: request, hops, ..v1::PathAnswer::default() }.encode_to_vec()
}

pub(crate) fn read_answer(payload: &[u8]) -> Result<v1::PathAnswer, Reason> {
    let answer: v1::PathAnswer = read(payload)?;
    if answer.hops.len() > usize::from(PATH_HOPS_MAX) { Err(Reason::PathMalformed) } else { Ok(answer) }
}

/// The reason in an answer or a fault; one that this version does not know reads as `fallback`.
pub(crate) fn reason(code: &str, fallback: Reason) -> Reason {
    Reason::from_code(code).unwrap_or(fallback)
}

pub(crate) fn withdraw(path_id: [u8; 16], generation: u64) -> Vec<u8> {
    v1::PathWithdraw { path_id: path_id.to_vec(), generation }.encode_to_vec()
}

pub(crate) fn read_withdraw(payload: &[u8]) -> Result<([u8; 16], u64), Reason> {
    let withdraw: v1::PathWithdraw = read(payload)?;
    let path_id = withdraw.path_id.try_into().map_err(|_| Reason::PathMalformed)?;
    Ok((path_id, withdraw.generation))
}

pub(crate) fn fault(label: u64, reason: Reason) -> Vec<u8> {
    v1::PathFault { label, reason: reason.code().to_owned() }.encode_to_vec()
}

pub(crate) fn read_fault(payload: &[u8]) -> Result<(u64, Reason), Reason> {
    let fault: v1::PathFault = read(payload)?;
    Ok((fault.label, reason(&fault.reason, Reason::PathUnknown)))
}

fn read<M: prost::Message + Default>(payload: &[u8]) -> Result<M, Reason> {
    if payload.len() > MESSAGE_MAX {
        return Err(Reason::PathMalformed);
    }
    M::decode(payload).map_err(|_| Reason::PathMalformed)
}

/// First byte of a frame of data that holds WireGuard datagrams.
const WIREGUARD: u8 = 1;

/// The payload of a frame with one WireGuard datagram.
///
/// # Errors
/// `path.malformed` if it is empty or too long.
pub fn wireguard_payload(datagram: &[u8]) -> Result<Bytes, Reason> {
    wireguard_group(&[datagram])
}

/// The payload of a frame with these WireGuard datagrams, in this order.
///
/// # Errors
/// `path.malformed` if there is none, one is empty, or they are too long for one frame.
pub fn wireguard_group(datagrams: &[&[u8]]) -> Result<Bytes, Reason> {
    let bytes = 1 + datagrams.iter().map(|datagram| datagram.len() + 2).sum::<usize>();
    if datagrams.is_empty() || bytes > DATA_MAX {
        return Err(Reason::PathMalformed);
    }
    let mut payload = BytesMut::with_capacity(bytes);
    payload.put_u8(WIREGUARD);
    for datagram in datagrams {
        let length = u16::try_from(datagram.len()).ok().filter(|length| *length > 0);
        payload.put_u16(length.ok_or(Reason::PathMalformed)?);
        payload.put_slice(datagram);
    }
    Ok(payload.freeze())
}

/// The datagrams of a frame of data.
///
/// # Errors
/// `path.malformed`.
pub(crate) fn datagrams(payload: &Bytes) -> Result<Vec<Bytes>, Reason> {
    if payload.len() > DATA_MAX || payload.first() != Some(&WIREGUARD) {
        return Err(Reason::PathMalformed);
    }
    let mut rest = payload.slice(1..);
    let mut found = Vec::new();
    while let Some(length) = rest.first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let body = rest.slice(2..);
        if length == 0 || body.len() < length {
            return Err(Reason::PathMalformed);
        }
        found.push(body.slice(..length));
        rest = body.slice(length..);
    }
    if rest.is_empty() && !found.is_empty() { Ok(found) } else { Err(Reason::PathMalformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_as_they_went_in_and_nonsense_is_refused() {
        let one = wireguard_payload(b"abc").unwrap();
        assert_eq!(&one[..], b"\x01\x00\x03abc");
        assert_eq!(datagrams(&one), Ok(vec![Bytes::from_static(b"abc")]));
        let two = Bytes::from_static(b"\x01\x00\x01a\x00\x02bc");
        assert_eq!(wireguard_group(&[b"a", b"bc"]), Ok(two.clone()));
        assert_eq!(wireguard_group(&[]), Err(Reason::PathMalformed));
        assert_eq!(wireguard_group(&[b"a", b""]), Err(Reason::PathMalformed));
        assert!(wireguard_group(&[&[0; 8_189], &[0; 8_190]]).is_ok());
        assert_eq!(wireguard_group(&[&[0; 8_190], &[0; 8_190]]), Err(Reason::PathMalformed));
        assert_eq!(datagrams(&two), Ok(vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]));
        for bad in [
            &b""[..],
            b"\x01",
            b"\x02\x00\x01a",
            b"\x01\x00",
            b"\x01\x00\x00",
            b"\x01\x00\x02a",
            b"\x01\x00\x01ab",
        ] {
            assert_eq!(datagrams(&Bytes::copy_from_slice(bad)), Err(Reason::PathMalformed), "{bad:?}");
        }
        assert_eq!(wireguard_payload(&[]), Err(Reason::PathMalformed));
        assert!(wireguard_payload(&vec![0; DATA_MAX - 3]).is_ok());
        assert_eq!(wireguard_payload(&vec![0; DATA_MAX - 2]), Err(Reason::PathMalformed));
    }

    #[test]
    fn oversize_and_senseless_messages_are_refused() {
        let reads = |bytes: &[u8]| {
            [
                read_answer(bytes).err(),
                read_withdraw(bytes).err(),
                read_fault(bytes).err(),
                RequestText::read(bytes).err(),
            ]
        };
        assert_eq!(reads(&[0xff; 20]), [Some(Reason::PathMalformed); 4]);
        assert_eq!(reads(&[0; REQUEST_MAX + 1]), [Some(Reason::PathMalformed); 4]);
        let many = v1::PathRequest { installs: vec![vec![1]; 5], ..v1::PathRequest::default() };
        assert_eq!(RequestText::read(&many.encode_to_vec()), Err(Reason::PathMalformed));
        let big =
            v1::PathRequest { source_leaf: vec![1; LEAF_CAP + 1], installs: vec![vec![1]], request_id: 1 };
        assert_eq!(RequestText::read(&big.encode_to_vec()), Err(Reason::PathMalformed));
        let short = v1::PathWithdraw { path_id: vec![1; 15], generation: 1 };
        assert_eq!(read_withdraw(&short.encode_to_vec()), Err(Reason::PathMalformed));
    }
}
