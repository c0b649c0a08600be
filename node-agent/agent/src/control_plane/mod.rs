//! The control plane as seen from the node: connections, certificates, the sync stream.

mod certificate;
mod dial;
mod resolve;
mod second_stream;
mod time;
mod uplink;
mod url_order;

pub use certificate::{CertificateTask, Doubts, InForce};
pub use dial::{ControlPlane, EnrollmentLine};
pub use resolve::{literal, resolve};
pub use time::TrustedTime;
pub use uplink::{Pause, Stream, UplinkEvent, UplinkTask};
