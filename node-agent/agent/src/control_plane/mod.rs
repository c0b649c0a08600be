//! The control plane as seen from the node: connections, certificates, the sync stream.

mod certificate;
mod dial;
mod proofs;
mod time;
mod uplink;

pub use certificate::CertificateTask;
pub use dial::EnrollmentLine;
pub use proofs::{certificate_task, control_urls, standing_alone};
pub use time::TrustedTime;
pub use uplink::{Pause, Stream, UplinkEvent, UplinkTask};
