//! Protocol names. Owns which kind of connection a hello asks for; a hello asks for exactly one.

use rustls::CommonState;

use super::PeerReject;

/// Agent to control plane, gRPC, with a client certificate.
pub const ALPN_NODE: &[u8] = b"rap-node/1";
/// Node to node, with certificates on both sides.
pub const ALPN_LINK: &[u8] = b"rap-link/1";
/// Operators and enrollment, gRPC, without a client certificate.
pub const ALPN_OPERATOR: &[u8] = b"h2";

/// What a client hello asks a control-plane listener for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// [`ALPN_NODE`]: use the configuration that requires a client certificate.
    Node,
    /// [`ALPN_OPERATOR`]: use the configuration that asks for none.
    Operator,
}

impl Offer {
    /// Reads the protocols of a hello. A `rap-` name stands alone: mixed with another, or unknown,
    /// it is refused, so that nobody chooses between two kinds of identity.
    pub fn read<'a>(protocols: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, PeerReject> {
        let mut offer = None;
        let mut count = 0_usize;
        for protocol in protocols {
            count += 1;
            match protocol {
                ALPN_NODE => offer = Some(Self::Node),
                ALPN_OPERATOR if offer.is_none() => offer = Some(Self::Operator),
                other if other.starts_with(b"rap-") => return Err(PeerReject::Protocol),
                _ => {}
            }
        }
        match offer {
            Some(Self::Node) if count > 1 => Err(PeerReject::Protocol),
            Some(offer) => Ok(offer),
            None => Err(PeerReject::Protocol),
        }
    }
}

/// Refuses a finished handshake that did not agree on exactly this protocol: TLS itself goes on when
/// one side names none.
pub fn require_alpn(connection: &CommonState, protocol: &[u8]) -> Result<(), PeerReject> {
    match connection.alpn_protocol() {
        Some(agreed) if agreed == protocol => Ok(()),
        _ => Err(PeerReject::Protocol),
    }
}
