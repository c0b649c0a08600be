//! Paths through other nodes: install, carry, renew, fail, refuse. Cores alone, on a clock that the tests move.

mod hop;
mod life;
mod net;
mod properties;
