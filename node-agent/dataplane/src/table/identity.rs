//! The leaf that links are made with: whose it is, who signed it, and that the key belongs to it.

use std::collections::BTreeMap;

use rap_runtime::Fault;
use rap_runtime::tls::{
    CertificateCell, ClusterTrust, NodeCertificate, NodeIdentity, PeerReject, TrustStore, fingerprint,
};
use rap_types::sense::certificate;
use rap_types::{Digest, Mono};
use rap_wire::v1::LinkIdentity;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use zeroize::Zeroizing;

use super::field::{deadline, refused};
use super::member::Member;

/// Own leaf, its authority and its key.
pub(crate) struct LinkCertificate {
    chain: [CertificateDer<'static>; 2],
    key: Zeroizing<Vec<u8>>,
    /// Further CAs that vouch for peers.
    further: Vec<CertificateDer<'static>>,
    /// The one of them whose links are made anew.
    pub(super) former: Option<Digest>,
    pub(crate) deadline: Option<Mono>,
}

impl LinkCertificate {
    /// Checks that the leaf names `member`, that the authority signed it and that the key is its own.
    /// Times are not checked: the deadline ends the links of a leaf that expired.
    pub(super) fn read(
        identity: LinkIdentity,
        key: Zeroizing<Vec<u8>>,
        member: Member,
    ) -> Result<Self, Fault> {
        let LinkIdentity {
            certificate: own,
            private_key: _,
            cluster_ca,
            deadline_ns,
            next_cluster_ca,
            former_cluster_ca,
        } = identity;
        let bad = |what: &str, reject: &dyn std::fmt::Display| refused(format!("identity: {what}: {reject}"));
        let leaf = CertificateDer::from(own);
        let authority = CertificateDer::from(cluster_ca);
        let read = NodeCertificate::from_der(&leaf).map_err(|reject| bad("certificate", &reject))?;
        let NodeIdentity { installation, cluster, node, key_generation: _ } = read.identity;
        if (Member { installation, cluster, node }) != member {
            return Err(bad("certificate", &"names somebody else"));
        }
        let trust = TrustStore::new();
        let authorities = vec![authority.clone()];
        trust.replace(cluster, ClusterTrust { installation, authorities, revoked: BTreeMap::new() });
        let begin = u64::try_from(read.not_before.0 / 1000).unwrap_or(0);
        let within = UnixTime::since_unix_epoch(std::time::Duration::from_secs(begin));
        match trust.verify(&leaf, &[], within) {
            Ok(_) | Err(PeerReject::Expired) => {}
            Err(reject) => return Err(bad("cluster_ca", &reject)),
        }
        // One that is no certificate vouches for nobody, and is no reason to do without this table.
        let given = |der: Vec<u8>| certificate(&der).is_ok().then(|| CertificateDer::from(der));
        let (next, former) = (given(next_cluster_ca), given(former_cluster_ca));
        let read = Self {
            chain: [leaf, authority],
            key,
            former: former.as_ref().map(fingerprint),
            further: next.into_iter().chain(former).collect(),
            deadline: deadline(deadline_ns),
        };
        let (chain, key) = read.credentials();
        CertificateCell::new().set(chain, key).map_err(|error| bad("private_key", &error))?;
        Ok(read)
    }

    /// Every CA that vouches for peers.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.chain[1]).chain(&self.further)
    }

    /// Chain and key for handshakes.
    pub(crate) fn credentials(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.to_vec(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec())))
    }
}
