//! One accepted connection: who is there, what binds proofs to it, and its nonces.
//!
//! Owns facts of the TLS session only. No header or message ever changes them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rand_core::CryptoRng;
use rap_contract::Reject;
use rap_rpc::{Accepted, Readers};
use rap_runtime::source_budget::Ticket;
use rap_runtime::tls::ProvenNode;
use rap_types::Reason;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What kind of connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Operators and applicants: no client certificate was asked for.
    Operator,
    /// A node, named by its leaf certificate alone.
    Node(ProvenNode),
}

/// What every request on a connection knows about it. Clones are the same channel.
#[derive(Debug, Clone)]
pub struct Channel(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    peer: SocketAddr,
    kind: ChannelKind,
    exporter: [u8; 32],
    nonces: Mutex<VecDeque<[u8; 32]>>,
    readers: Readers,
}

/// Most unused nonces a connection may hold; a further one displaces the oldest.
const NONCES: usize = 16;

impl Channel {
    /// A channel with no nonces yet.
    pub fn new(peer: SocketAddr, kind: ChannelKind, exporter: [u8; 32]) -> Self {
        Self(Arc::new(Facts { peer, kind, exporter, nonces: Mutex::default(), readers: Readers::default() }))
    }

    /// Address of the other end.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Kind of connection.
    pub fn kind(&self) -> &ChannelKind {
        &self.0.kind
    }

    /// The answers on this connection.
    pub fn readers(&self) -> &Readers {
        &self.0.readers
    }

    /// 32 bytes only the two ends of this TLS session know.
    pub fn exporter(&self) -> &[u8; 32] {
        &self.0.exporter
    }

    /// Gives out a nonce that holds once, on this connection.
    pub fn nonce_issue(&self, generator: &mut dyn CryptoRng) -> [u8; 32] {
        let mut nonce = [0; 32];
        generator.fill_bytes(&mut nonce);
        let mut nonces = self.0.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() == NONCES {
            nonces.pop_front();
        }
        nonces.push_back(nonce);
        nonce
    }

    /// Takes a nonce back; it never holds again.
    ///
    /// # Errors
    /// `enrollment.nonce` if this connection did not give it out, or it was used.
    pub fn nonce_consume(&self, nonce: &[u8]) -> Result<[u8; 32], Reject> {
        let mut nonces = self.0.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        let place = nonces.iter().position(|known| known == nonce);
        place.and_then(|place| nonces.remove(place)).ok_or(Reject::new(Reason::EnrollmentNonce, "nonce"))
    }
}

/// The encrypted stream of one accepted connection.
pub type Connection = Accepted<TlsStream<TcpStream>, Channel, Ticket>;

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel::new(([127, 0, 0, 1], 1).into(), ChannelKind::Operator, [0; 32])
    }

    #[test]
    fn a_nonce_holds_once_and_on_its_own_connection() {
        let (one, two) = (channel(), channel());
        let nonce = one.nonce_issue(&mut rand::rng());
        assert_eq!(two.nonce_consume(&nonce).unwrap_err().reason, Reason::EnrollmentNonce);
        assert_eq!(one.nonce_consume(&nonce), Ok(nonce));
        assert_eq!(one.nonce_consume(&nonce).unwrap_err().reason, Reason::EnrollmentNonce);
    }

    #[test]
    fn unused_nonces_are_bounded() {
        let channel = channel();
        let first = channel.nonce_issue(&mut rand::rng());
        for _ in 0..NONCES {
            channel.nonce_issue(&mut rand::rng());
        }
        assert!(channel.nonce_consume(&first).is_err());
        assert_eq!(channel.0.nonces.lock().unwrap().len(), NONCES);
    }
}
