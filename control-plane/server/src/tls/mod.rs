//! The listener: TLS, accept budget, and what is known about each connection.

pub mod accept;
pub mod channel;
pub mod listeners;
pub mod server_certificate;
