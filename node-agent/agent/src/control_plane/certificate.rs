//! Leaf certificates: a fresh TLS key each, certified on proof of the identity key, renewed at half life.
//!
//! Owns the check of what comes back: it must be for this node, this key and by the pinned CA.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::Signer;
use rap_runtime::tls::{self, ClusterTrust, TrustStore};
use rap_runtime::{Clock, Fault};
use rap_trust::certificate::{self, CertificateSubject};
use rap_types::{Digest, InstallationId, Mono, Reason};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{ControlPlane, TrustedTime};
use crate::config::Config;
use crate::membership::{Membership, StoredCertificate};

/// Who asks for certificates, and whom it believes.
#[derive(Clone)]
pub struct CertificateTask {
    /// Installation of the cluster.
    pub installation: InstallationId,
    /// Cluster and node.
    pub subject: CertificateSubject,
    /// Identity key.
    pub identity: Arc<Signer>,
    /// Where it asks.
    pub control: ControlPlane,
}

impl CertificateTask {
    /// Proofs of this membership's identity key, at `control`.
    pub fn of(membership: &Membership, control: ControlPlane) -> Self {
        Self {
            installation: membership.identity.installation_id,
            subject: CertificateSubject { cluster: membership.identity.cluster_id, node: membership.node },
            identity: Arc::new(Signer::from_seed(&membership.signer.seed())),
            control,
        }
    }

    /// The proofs of a membership that no agent runs.
    ///
    /// # Errors
    /// `contract.mismatch` if the contract names no control URL.
    pub fn standing_alone(membership: &Membership, config: &Config) -> Result<Self, Fault> {
        let time = TrustedTime::new(Clock::new(), membership.trust_floors().time);
        Ok(Self::of(membership, ControlPlane::of(membership, time, config)?))
    }

    /// Keeps a leaf in force: issues one if there is none and renews it at half life, until cancelled.
    /// `authority` is the cluster's CA of the present snapshot; `leaves` gets every new leaf; `doubts`
    /// changes when the control plane refused the present one.
    pub async fn run(
        self,
        mut current: Option<(rap_types::Wall, rap_types::Wall)>,
        authority: watch::Receiver<Vec<u8>>,
        leaves: mpsc::Sender<StoredCertificate>,
        failed: watch::Sender<Option<Fault>>,
        mut doubts: watch::Receiver<u64>,
        cancel: CancellationToken,
    ) {
        let clock = Clock::new();
        doubts.mark_unchanged();
        let (mut failures, mut retry_at) = (0, Mono(0));
        loop {
            let due = match current {
                None => Duration::ZERO,
                Some((from, until)) => certificate::renew_at(from, until).since(self.control.time.wall()),
            };
            let pause = due.max(retry_at.since(clock.now().mono));
            // Slept in slices: a host that was suspended notices soon after it wakes.
            if !pause.is_zero() {
                let doubted = tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(pause.min(SLICE)) => false,
                    Ok(()) = doubts.changed() => true,
                };
                if !doubted || retry_at > clock.now().mono {
                    continue;
                }
                // The control plane refuses the leaf: another one, or word of why there is none.
                retry_at = clock.now().mono.plus(DOUBT);
            }
            let authority = authority.borrow().clone();
            let issued = tokio::select! {
                () = cancel.cancelled() => return,
                issued = self.issue(&authority) => issued,
            };
            match issued {
                Ok(leaf) => {
                    failures = 0;
                    current = Some((leaf.not_before, leaf.not_after));
                    failed.send_replace(None);
                    tracing::info!(not_after_ms = leaf.not_after.0, "certificate issued");
                    if leaves.send(leaf).await.is_err() {
                        return;
                    }
                }
                Err(fault) => {
                    failures += 1;
                    retry_at = clock.now().mono.plus(certificate::retry_after(failures, fault.reason));
                    tracing::warn!(reason = %fault.reason, error = %fault, "no certificate; trying again");
                    failed.send_replace(Some(fault));
                }
            }
        }
    }

    /// Replaces keys at the first control URL that answers; returns the key generation.
    ///
    /// # Errors
    /// No URL answered, or the one that answered refused, which is final.
    pub async fn rotate_anywhere(&self, new: certificate::NewKeys<'_>) -> Result<u64, Fault> {
        let (mut line, _) = self.control.line().await?;
        let (subject, identity) = (self.subject, &self.identity);
        let request = certificate::rotation_request(subject, identity, new, &line.nonce, &line.exporter);
        Ok(self.control.answer(line.client.rotate_key(request)).await?.key_generation)
    }

    /// Leaves the cluster at the first control URL that answers.
    ///
    /// # Errors
    /// No URL answered, or the one that answered refused, which is final.
    pub async fn leave_anywhere(&self) -> Result<(), Fault> {
        let (mut line, _) = self.control.line().await?;
        let request = certificate::leave_request(self.subject, &self.identity, &line.nonce, &line.exporter);
        self.control.answer(line.client.leave(request)).await.map(drop)
    }

    /// Obtains one leaf at the first control URL that answers.
    ///
    /// # Errors
    /// No URL answered, or the one that answered refused; `certificate.invalid` and `certificate.identity` for a wrong answer.
    async fn issue(&self, authority: &[u8]) -> Result<StoredCertificate, Fault> {
        let (mut line, _) = self.control.line().await?;
        let fault = |error: rcgen::Error| Fault::new(Reason::CertificateInvalid, error.to_string());
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(fault)?;
        let csr = CertificateParams::default().serialize_request(&key).map_err(fault)?.der().to_vec();
        let request = certificate::request(self.subject, &self.identity, csr, &line.nonce, &line.exporter);
        let answer = self.control.answer(line.client.certificate(request)).await?;
        let leaf = self.check(&answer.leaf, authority, &key.subject_public_key_info())?;
        Ok(StoredCertificate {
            certificate: answer.leaf,
            private_key: Zeroizing::new(key.serialize_der()),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })
    }

    fn check(&self, der: &[u8], authority: &[u8], spki: &[u8]) -> Result<tls::NodeCertificate, Fault> {
        let trust = TrustStore::new();
        trust.replace(
            self.subject.cluster,
            ClusterTrust {
                installation: self.installation,
                authorities: vec![CertificateDer::from(authority.to_vec())],
                revoked: std::collections::BTreeMap::new(),
            },
        );
        let millis = u64::try_from(self.control.time.wall().0).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_millis(millis));
        let leaf = trust
            .verify(&CertificateDer::from(der.to_vec()), &[], now)
            .map_err(|reject| Fault::new(reject.reason(), reject.to_string()))?;
        if leaf.identity.node != self.subject.node || leaf.spki != Digest::of(&[spki]) {
            let text = "the certificate is for another node or key";
            return Err(Fault::new(Reason::CertificateIdentity, text));
        }
        Ok(leaf)
    }
}

const SLICE: Duration = Duration::from_secs(30);
/// A leaf that is refused again and again is not asked for anew more often than this.
const DOUBT: Duration = Duration::from_secs(60);
