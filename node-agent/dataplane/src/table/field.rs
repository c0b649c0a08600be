//! Readers of single fields of a table, each with its refusal.

use ipnet::IpNet;
use rap_runtime::Fault;
use rap_types::{Mono, Reason};
use zeroize::Zeroizing;

use crate::bounds::Bounds;

/// A table that is malformed, contradicts itself or is not newer.
pub(crate) fn refused(message: impl Into<String>) -> Fault {
    Fault::new(Reason::DataplaneTable, message)
}

/// A table above a limit.
pub(crate) fn too_large(what: &str, limit: usize) -> Fault {
    Fault::new(Reason::DataplaneTableTooLarge, format!("{what}: at most {limit}"))
}

/// A table with a field that this version knows and cannot obey.
pub(super) fn unsupported(what: &str) -> Fault {
    Fault::new(Reason::DataplaneTableUnsupported, format!("{what}: not supported by this version"))
}

pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(refused(otherwise())) }
}

pub(super) fn id<T, E: std::fmt::Display>(read: Result<T, E>, field: &str) -> Result<T, Fault> {
    read.map_err(|error| refused(format!("{field}: {error}")))
}

/// An address with a prefix length. Multicast is refused.
pub(super) fn prefix(text: &str) -> Result<IpNet, Fault> {
    let parsed = text.parse::<IpNet>().ok();
    parsed.filter(|net| !net.addr().is_multicast()).ok_or_else(|| refused(format!("{text:?}: not a prefix")))
}

/// Refuses a prefix that the membership may not use on this host.
pub(super) fn within(net: IpNet, bounds: &Bounds) -> Result<IpNet, Fault> {
    let outside =
        || Fault::new(Reason::DataplaneOutsidePool, format!("{net}: not in a pool of this membership"));
    if bounds.hold(&net) { Ok(net) } else { Err(outside()) }
}

/// 32 bytes of a secret, not all zero. The message names the field only.
pub(super) fn secret(bytes: &[u8], field: &str) -> Result<Zeroizing<[u8; 32]>, Fault> {
    let key: Option<Zeroizing<[u8; 32]>> = bytes.try_into().ok().map(Zeroizing::new);
    key.filter(|key| **key != [0; 32]).ok_or_else(|| refused(format!("{field}: 32 bytes, not all zero")))
}

/// Nanoseconds of BOOTTIME; 0 is none.
pub(super) fn deadline(nanos: u64) -> Option<Mono> {
    (nanos > 0).then_some(Mono(nanos))
}

pub(super) fn earliest(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
