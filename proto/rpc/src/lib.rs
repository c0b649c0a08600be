//! gRPC and HTTP as the programs with an API use them: generated stubs, dialling, accepted connections, refusals, the metrics endpoint.
//!
//! Owns everything in proto/ that needs tonic or hyper, so that the privileged data plane links neither. Refuses to own
//! TLS (rap-runtime), messages (rap-wire) and every decision to call, retry or refuse.

mod accepted;
pub mod body;
pub mod dial;
mod endpoint;
mod frames;
mod readers;
mod refusal;
mod request_key;
mod warning;

/// Generated gRPC clients and servers, one module per service and side. Their messages are `rap_wire::v1`.
#[allow(clippy::all, missing_docs, rust_2018_idioms)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/rap.fabric.v1.rs"));
}

pub use accepted::Accepted;
pub use endpoint::serve_metrics;
pub use readers::Readers;
pub use refusal::{Refusal, refuse};
pub use request_key::{MalformedRequestKey, RequestKey};
pub use warning::{warn, warning};
