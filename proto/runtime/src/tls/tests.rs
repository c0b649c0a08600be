//! Attacks on the peer checks: each test makes its own authorities and, where it dials, real TLS.

mod handshake;
mod node_certificate;
mod pki;
mod trusted;
