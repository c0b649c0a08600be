//! Verifier of the control plane: an authority known by its key, a leaf signed by it.
//!
//! The name under which the server was reached decides nothing: whoever holds the pin knows the key.

use std::collections::BTreeSet;

use rap_types::Digest;
use rustls::Error;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::tls13::tls13_only;
use super::{PeerReject, spki_sha256, trust};

/// SHA-256 of the subject public key info of each acceptable server authority. Empty trusts nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins(BTreeSet<Digest>);

impl Pins {
    /// One pin.
    pub fn one(pin: Digest) -> Self {
        Self(BTreeSet::from([pin]))
    }
}

impl FromIterator<Digest> for Pins {
    fn from_iter<I: IntoIterator<Item = Digest>>(pins: I) -> Self {
        Self(pins.into_iter().collect())
    }
}

/// Accepts a server that presents a leaf and the pinned authority that signed it.
#[derive(Debug)]
pub(super) struct PinnedServer {
    pub(super) pins: Pins,
}

impl PinnedServer {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerReject> {
        let [authority] = rest else { return Err(PeerReject::Chain) };
        if !self.pins.0.contains(&spki_sha256(authority)?) {
            return Err(PeerReject::PinMismatch);
        }
        trust::signed_by(leaf, authority, now)
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, rest, now)?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_only!();
}
