//! What an agent talks to, played by the test: a control plane with real TLS and real signatures, and a
//! data plane behind its socket.
#![allow(dead_code)]

pub mod agent;
pub mod control;
pub mod local;
pub mod pki;
pub mod plane;
pub mod publish;
