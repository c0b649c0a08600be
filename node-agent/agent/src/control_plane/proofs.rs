//! Proofs by the identity key of one membership, for a running one and for one that no agent runs.
//!
//! Owns which control URLs are asked. Refuses to send proofs: `CertificateTask` does.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::Signer;
use rap_rpc::dial::ControlUrl;
use rap_runtime::{Clock, Fault};
use rap_trust::certificate::CertificateSubject;
use rap_types::Reason;

use super::{CertificateTask, TrustedTime};
use crate::config::Config;
use crate::membership::Membership;

/// Proofs of this membership's identity key, at its control URLs.
pub fn certificate_task(
    membership: &Membership,
    urls: Vec<ControlUrl>,
    time: TrustedTime,
    timeout: Duration,
) -> CertificateTask {
    CertificateTask {
        installation: membership.identity.installation_id,
        subject: CertificateSubject { cluster: membership.identity.cluster_id, node: membership.node },
        identity: Arc::new(Signer::from_seed(&membership.signer.seed())),
        pin: membership.identity.server_trust_pin,
        urls,
        time,
        timeout,
    }
}

/// The proofs of a membership that no agent runs.
///
/// # Errors
/// `contract.mismatch` if it names no control URL.
pub fn standing_alone(membership: &Membership, config: &Config) -> Result<CertificateTask, Fault> {
    let time = TrustedTime::new(Clock::new(), membership.trust_floors().time);
    Ok(certificate_task(membership, control_urls(membership)?, time, config.call_timeout))
}

/// The contract's URLs are signed; the identity's are a copy of them.
pub fn control_urls(membership: &Membership) -> Result<Vec<ControlUrl>, Fault> {
    let urls = &membership.bootstrap.contract.control_urls;
    let urls: Vec<ControlUrl> = urls.iter().filter_map(|url| ControlUrl::parse(url).ok()).collect();
    if urls.is_empty() {
        return Err(Fault::new(Reason::ContractMismatch, "the contract names no control URL"));
    }
    Ok(urls)
}
