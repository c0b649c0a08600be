//! Attacks on the peer checks: each test makes its own authorities and, where it dials, real TLS.

mod handshake;
mod leaf;
mod pki;
mod trusted;
