//! What the device knows of WireGuard messages and of the errors of its protocol.

use boringtun::noise::errors::WireGuardError;

use crate::counters::DropReason;

/// The counter of a protocol error.
pub(crate) fn drop_of(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex | WireGuardError::ConnectionExpired => {
            DropReason::NoSession
        }
        WireGuardError::InvalidAeadTag => DropReason::DecryptFailed,
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => DropReason::Replay,
        WireGuardError::InvalidMac => DropReason::BadMac,
        WireGuardError::UnderLoad => DropReason::UnderLoad,
        WireGuardError::DestinationBufferTooSmall => DropReason::TooBig,
        WireGuardError::UnexpectedPacket
        | WireGuardError::WrongPacketType
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::WrongTai64nTimestamp => DropReason::HandshakeRejected,
        WireGuardError::IncorrectPacketLength
        | WireGuardError::InvalidPacket
        | WireGuardError::LockFailed => DropReason::Malformed,
    }
}

/// Message type 1 (WireGuard paper section 5.4.2).
pub(crate) fn is_handshake_init(datagram: &[u8]) -> bool {
    datagram.starts_with(&[1, 0, 0, 0])
}

/// An initiation or a response: what a limiter may answer with a cookie.
pub(crate) fn is_handshake(datagram: &[u8]) -> bool {
    matches!(datagram, [1 | 2, 0, 0, 0, ..])
}

/// Length of header and tag of a data message.
pub(crate) const DATA_OVERHEAD: usize = 32;
