//! Paths through other nodes: install, carry, renew, fail, refuse. Cores alone, on a clock that the tests move.

mod hop;
mod installs;
mod life;
mod limits;
mod net;
mod properties;
