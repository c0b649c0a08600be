//! Whom a verifier trusts now: per cluster its authority certificates and its revocations.
//!
//! Owns the check of a chain against that. Refuses to own where it comes from: callers put in what
//! a verified snapshot, or the control plane's own database, says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rap_types::{ClusterId, Digest, InstallationId, NodeId};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{NodeCertificate, NodeIdentity, PeerReject, ProvenNode, identity, provider};

/// What vouches for the nodes of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTrust {
    /// The installation that the cluster belongs to.
    pub installation: InstallationId,
    /// Authority certificates of the cluster; two while it changes.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Highest revoked key generation per node; it and all below are refused.
    pub revoked: BTreeMap<NodeId, u64>,
}

impl ClusterTrust {
    /// Whether the authority with this certificate's SHA-256 vouches for nodes.
    pub fn vouches(&self, authority: Digest) -> bool {
        self.authorities.iter().any(|known| fingerprint(known) == authority)
    }
}

/// SHA-256 of an authority's certificate.
pub fn fingerprint(authority: &CertificateDer<'_>) -> Digest {
    Digest::of(&[authority])
}

/// Trust in any number of clusters, replaced as a whole while verifiers read it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct TrustStore(Arc<ArcSwap<Clusters>>);

type Clusters = BTreeMap<ClusterId, Arc<ClusterTrust>>;

impl TrustStore {
    /// Trust in nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts `cluster` from now on as `trust` says. Running connections are not touched: their
    /// owners ask [`Self::check`] again.
    pub fn replace(&self, cluster: ClusterId, trust: ClusterTrust) {
        let trust = Arc::new(trust);
        self.0.rcu(|clusters| {
            let mut clusters = Clusters::clone(clusters);
            clusters.insert(cluster, trust.clone());
            clusters
        });
    }

    /// Trusts `cluster` no more.
    pub fn remove(&self, cluster: ClusterId) {
        self.0.rcu(|clusters| {
            let mut clusters = Clusters::clone(clusters);
            clusters.remove(&cluster);
            clusters
        });
    }

    /// What is trusted for `cluster` at this moment.
    pub fn cluster(&self, cluster: ClusterId) -> Option<Arc<ClusterTrust>> {
        self.0.load().get(&cluster).cloned()
    }

    /// Whether this node is still acceptable: cluster, installation, revocation, authority. For connections
    /// whose chain was verified when they began.
    pub fn check(&self, node: &ProvenNode) -> Result<(), PeerReject> {
        let trust = self.trust_of(&node.identity)?;
        if trust.vouches(node.authority) { Ok(()) } else { Err(PeerReject::Untrusted) }
    }

    /// Which trusted authority signed a leaf whose chain was verified. Times are not looked at.
    pub fn proven(&self, leaf: &CertificateDer<'_>) -> Result<ProvenNode, PeerReject> {
        let read = NodeCertificate::from_der(leaf)?;
        let trust = self.trust_of(&read.identity)?;
        let begin =
            UnixTime::since_unix_epoch(Duration::from_millis(read.not_before.0.try_into().unwrap_or(0)));
        let signed = |authority: &&CertificateDer<'_>| {
            matches!(signed_by(leaf, authority, begin), Ok(()) | Err(PeerReject::Expired))
        };
        let authority = trust.authorities.iter().find(signed).ok_or(PeerReject::Untrusted)?;
        let NodeCertificate { identity, not_after, .. } = read;
        Ok(ProvenNode { identity, not_after, authority: fingerprint(authority) })
    }

    /// Reads a leaf and checks it: shape, cluster, installation, revocation, signature of the
    /// cluster's authority, times at `now`. `rest` is what the peer sent after the leaf: nothing, or
    /// that authority.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<NodeCertificate, PeerReject> {
        let read = NodeCertificate::from_der(leaf)?;
        let trust = self.trust_of(&read.identity)?;
        match rest {
            [] => {}
            [authority] if trust.authorities.contains(authority) => {}
            _ => return Err(PeerReject::Chain),
        }
        let mut why = PeerReject::Untrusted;
        for authority in &trust.authorities {
            match signed_by(leaf, authority, now) {
                Ok(()) => return Ok(read),
                // What is wrong with one authority says nothing of the other.
                Err(reject) if why == PeerReject::Untrusted => why = reject,
                Err(_) => {}
            }
        }
        Err(why)
    }

    fn trust_of(&self, identity: &NodeIdentity) -> Result<Arc<ClusterTrust>, PeerReject> {
        let NodeIdentity { installation, cluster, node, key_generation } = *identity;
        let trust = self.cluster(cluster).ok_or(PeerReject::Cluster(cluster))?;
        if trust.installation != installation {
            return Err(PeerReject::Installation);
        }
        if trust.revoked.get(&node).is_some_and(|revoked| key_generation <= *revoked) {
            return Err(PeerReject::Revoked { node, generation: key_generation });
        }
        Ok(trust)
    }
}

/// Checks that `authority` is one, that it signed `leaf`, and that both are valid at `now`.
pub(super) fn signed_by(
    leaf: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<(), PeerReject> {
    check_authority(authority, now)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).map_err(|_| PeerReject::Malformed)?;
    let leaf = ParsedCertificate::try_from(leaf).map_err(|_| PeerReject::Malformed)?;
    let algorithms = provider().signature_verification_algorithms.all;
    // Checks signature, times, that the leaf is no authority and may authenticate servers. It asks
    // for no DNS name, which is why clients' leaves go through it too; their key usage has both.
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &[], now, algorithms).map_err(path_reject)
}

/// A trust anchor's own fields are not looked at by path building, so they are looked at here.
fn check_authority(authority: &CertificateDer<'_>, now: UnixTime) -> Result<(), PeerReject> {
    let certificate = identity::parse(authority)?;
    let signs = match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => return Err(PeerReject::Malformed),
    };
    if !certificate.is_ca() || !signs {
        return Err(PeerReject::Authority);
    }
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return Err(PeerReject::Expired);
    }
    Ok(())
}

fn path_reject(error: rustls::Error) -> PeerReject {
    let rustls::Error::InvalidCertificate(error) = error else { return PeerReject::Untrusted };
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => PeerReject::Expired,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            PeerReject::Usage
        }
        CertificateError::BadEncoding => PeerReject::Malformed,
        _ => PeerReject::Untrusted,
    }
}
