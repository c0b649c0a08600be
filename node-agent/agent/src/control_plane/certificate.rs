//! Leaf certificates: a fresh TLS key each, certified on proof of the identity key, renewed at half life.
//!
//! Owns the check of what comes back: it must be for this node, this key and by the pinned CA.

use std::sync::Arc;
use std::time::Duration;

use rap_contract::Signer;
use rap_node::TrustedCas;
use rap_runtime::tls::{self, ClusterTrust, PeerReject, TrustStore};
use rap_runtime::{Clock, Fault};
use rap_trust::certificate::{self, CertificateSubject};
use rap_types::{Digest, InstallationId, Mono, Reason, Wall};
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
    /// `cas` are those of the present snapshot; `leaves` gets every new leaf; `doubts` changes when the control plane
    /// refused the present one, or took it after a request was refused.
    pub async fn run(
        self,
        mut current: Option<InForce>,
        mut cas: watch::Receiver<TrustedCas>,
        leaves: mpsc::Sender<StoredCertificate>,
        failed: watch::Sender<Option<Fault>>,
        mut doubts: watch::Receiver<Doubts>,
        cancel: CancellationToken,
    ) {
        let clock = Clock::new();
        let mut known = *doubts.borrow_and_update();
        let (mut failures, mut retry_at) = (0, Mono(0));
        // When a leaf of a CA that stops signing is replaced.
        let mut moves_at: Option<Mono> = None;
        loop {
            let trusted = cas.borrow_and_update().clone();
            let now = clock.now().mono;
            let moves = current.as_ref().is_some_and(|current| current.moves(&trusted));
            moves_at = moves.then(|| moves_at.unwrap_or_else(|| now.plus(SPREAD.mul_f64(rand::random()))));
            let due = match (&current, moves_at) {
                (None, _) => Duration::ZERO,
                (Some(_), Some(at)) => at.since(now),
                (Some(current), None) => {
                    certificate::renew_at(current.from, current.until).since(self.control.time.wall())
                }
            };
            let pause = due.max(retry_at.since(clock.now().mono));
            // Slept in slices: a host that was suspended notices soon after it wakes.
            if !pause.is_zero() {
                let doubted = tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(pause.min(SLICE)) => false,
                    Ok(()) = cas.changed() => false,
                    Ok(()) = doubts.changed() => {
                        let told = *doubts.borrow_and_update();
                        if told.accepted != known.accepted {
                            // What the last request was refused for holds no more.
                            (failures, retry_at) = (0, Mono(0));
                            failed.send_replace(None);
                        }
                        told.refused != std::mem::replace(&mut known, told).refused
                    }
                };
                if !doubted || retry_at > clock.now().mono {
                    continue;
                }
                // The control plane refuses the leaf: another one, or word of why there is none.
                retry_at = clock.now().mono.plus(DOUBT);
            }
            let issued = tokio::select! {
                () = cancel.cancelled() => return,
                issued = self.issue(&trusted) => issued,
            };
            match issued {
                Ok(leaf) => {
                    failures = 0;
                    let issued = InForce { asked_under: Some(trusted.clone()), ..InForce::of(&leaf) };
                    if issued.moves(&trusted) {
                        // The replica that answered has yet to hear which CA signs.
                        retry_at = clock.now().mono.plus(AGAIN);
                    }
                    current = Some(issued);
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
    async fn issue(&self, cas: &TrustedCas) -> Result<StoredCertificate, Fault> {
        let (mut line, _) = self.control.line().await?;
        let fault = |error: rcgen::Error| Fault::new(Reason::CertificateInvalid, error.to_string());
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(fault)?;
        let csr = CertificateParams::default().serialize_request(&key).map_err(fault)?.der().to_vec();
        let request = certificate::request(self.subject, &self.identity, csr, &line.nonce, &line.exporter);
        let answer = self.control.answer(line.client.certificate(request)).await?;
        let spki = key.subject_public_key_info();
        let (leaf, authority) = match self.check(&answer.leaf, cas, &spki) {
            // The CA was rotated while this node was away: only the control plane is shown such a leaf, until a
            // snapshot names its CA.
            Err(fault) if !cas.trusts(&answer.cluster_ca) => {
                tracing::info!(error = %fault, "a certificate of a CA that no snapshot named yet");
                let named = TrustedCas { issuing: answer.cluster_ca, other: None };
                self.check(&answer.leaf, &named, &spki)?
            }
            checked => checked?,
        };
        Ok(StoredCertificate {
            certificate: answer.leaf,
            private_key: Zeroizing::new(key.serialize_der()),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            authority,
        })
    }

    /// The leaf, and the CA that signed it.
    fn check(
        &self,
        der: &[u8],
        cas: &TrustedCas,
        spki: &[u8],
    ) -> Result<(tls::NodeCertificate, Vec<u8>), Fault> {
        let trust = TrustStore::new();
        trust.replace(
            self.subject.cluster,
            ClusterTrust {
                installation: self.installation,
                authorities: cas.all().map(|ca| CertificateDer::from(ca.clone())).collect(),
                revoked: std::collections::BTreeMap::new(),
            },
        );
        let millis = u64::try_from(self.control.time.wall().0).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_millis(millis));
        let (der, fault) = (CertificateDer::from(der.to_vec()), |reject: PeerReject| {
            Fault::new(reject.reason(), reject.to_string())
        });
        let leaf = trust.verify(&der, &[], now).map_err(fault)?;
        let signer = trust.proven(&der).map_err(fault)?.authority;
        if leaf.identity.node != self.subject.node || leaf.spki != Digest::of(&[spki]) {
            let text = "the certificate is for another node or key";
            return Err(Fault::new(Reason::CertificateIdentity, text));
        }
        let signed = |ca: &&Vec<u8>| Digest::of(&[ca]) == signer;
        Ok((leaf, cas.all().find(signed).cloned().unwrap_or_default()))
    }
}

/// What the control plane made of the certificate on streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts {
    /// How often it refused it.
    pub refused: u64,
    /// How often it took it though the last request for another one had been refused.
    pub accepted: u64,
}

/// The leaf in force, as far as its renewal depends on it.
pub struct InForce {
    from: Wall,
    until: Wall,
    authority: Vec<u8>,
    /// The CAs that were known when it was issued; `None` for one from the disk.
    asked_under: Option<TrustedCas>,
}

impl InForce {
    /// A leaf from the disk.
    pub fn of(leaf: &StoredCertificate) -> Self {
        let authority = leaf.authority.clone();
        Self { from: leaf.not_before, until: leaf.not_after, authority, asked_under: None }
    }

    /// Whether a leaf of the CA that signs now is due: this one is of another trusted CA, or of one that newer CAs
    /// replaced. One whose CA no snapshot named yet stays until a snapshot does.
    fn moves(&self, cas: &TrustedCas) -> bool {
        let of_issuing =
            if self.authority.is_empty() { cas.other.is_none() } else { self.authority == cas.issuing };
        !of_issuing && (cas.trusts(&self.authority) || self.asked_under.as_ref() != Some(cas))
    }
}

/// Nodes of a cluster that rotates its CA ask over this time.
const SPREAD: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(5);
const SLICE: Duration = Duration::from_secs(30);
/// A leaf that is refused again and again is not asked for anew more often than this.
const DOUBT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force(authority: &[u8], asked_under: Option<&TrustedCas>) -> InForce {
        let authority = authority.to_vec();
        InForce { from: Wall(0), until: Wall(1), authority, asked_under: asked_under.cloned() }
    }

    #[test]
    fn a_leaf_is_replaced_when_another_ca_signs_and_one_that_is_ahead_of_the_snapshot_is_kept() {
        let cas = |issuing: &[u8], other: Option<&[u8]>| TrustedCas {
            issuing: issuing.to_vec(),
            other: other.map(<[u8]>::to_vec),
        };
        let (single, both, ended) = (cas(b"old", None), cas(b"new", Some(b"old")), cas(b"new", None));
        assert!(!in_force(b"old", None).moves(&single));
        assert!(!in_force(b"old", None).moves(&cas(b"old", Some(b"new"))), "the other one does not sign yet");
        assert!(in_force(b"old", Some(&single)).moves(&both));
        assert!(in_force(b"old", Some(&both)).moves(&both), "a replica that had not heard of it signed");
        assert!(!in_force(b"new", Some(&both)).moves(&both));
        assert!(in_force(b"old", Some(&both)).moves(&ended));
        // Issued while this node's snapshot names the old CA only: it waits for a newer snapshot, not for another leaf.
        assert!(!in_force(b"new", Some(&single)).moves(&single));
        assert!(!in_force(b"new", Some(&single)).moves(&ended));
        assert!(in_force(b"new", Some(&single)).moves(&cas(b"third", None)));
        // A file of before CAs were rotated does not say.
        assert!(!in_force(b"", None).moves(&single));
        assert!(in_force(b"", None).moves(&both));
    }
}
