//! One cluster with its keys unsealed.
//!
//! Refuses to trust a stored key that the cluster's records do not end in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use rap_authority::{AuthorityLife, ClusterTiming, Floor, InstallationFacts, RowKeys};
use rap_contract::{AuthorityChain, Document as _, Envelope, KeyState, Signer};
use rap_planner::MapKey;
use rap_runtime::tls::{ClusterTrust, TrustStore};
use rap_store::{AuthorityRow, NewClusterRow, PgConnection, cluster_cas_trusted, cluster_read, keys_stamp};
use rap_types::{ClusterId, KeyId, NodeId, Reason, Wall};
use rap_wire::v1;

use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::data_keys::DataKeyOpener;
use crate::keys::seal_context::Sealed;
use crate::serve::authority_chain::StoredAuthority;
use crate::serve::cluster_cas::{ClusterCas, issuing};
use crate::serve::feed::Feed;
use crate::serve::known_revocations::Revocations;
use crate::serve::wake::Wake;

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Cluster id.
    pub id: ClusterId,
    /// Cluster name, unique in the installation.
    pub name: String,
    /// Keys of the MACs of the cluster's rows.
    pub rows: RowKeys,
    /// The key that signs for the cluster now.
    pub authority: Signer,
    /// The verified authority records, first to newest.
    pub chain: AuthorityChain,
    /// State of each authority key: active, tainted or revoked.
    pub life: AuthorityLife,
    /// Replaced keys that still answer to the join tokens they signed.
    pub earlier: Vec<Signer>,
    /// Changes whenever a key does: what a poll compares.
    pub keys: u64,
    /// Below it no data key counts.
    pub data_key_floor: Floor,
    /// Issues the link certificates of nodes.
    pub ca: CertificateAuthority,
    /// Every CA that its nodes trust.
    pub cas: ClusterCas,
    /// Key of its Merkle map.
    pub map_key: MapKey,
    /// How long heads are fresh, degraded mode lasts and certificates live.
    pub timing: ClusterTiming,
    /// The IPv4 network that nodes get their overlay addresses from.
    pub ipv4_pool: Ipv4Net,
    /// When the cluster was created.
    pub created_at: Wall,
    /// The newest signed version.
    pub feed: Feed,
    /// Rings when its rows may have changed.
    pub wake: Arc<Wake>,
    /// The chain of revocations, as far as this process verified it.
    pub revocations: Arc<Revocations>,
}

impl Cluster {
    /// Reads, unseals and verifies a stored cluster; `None` if there is no such cluster.
    pub async fn load(
        connection: &mut PgConnection,
        installation: &InstallationFacts,
        keyring: &DataKeyOpener,
        id: ClusterId,
    ) -> Result<Option<Self>, Failure> {
        let Some(keys) = keyring.find(connection, id).await? else { return Ok(None) };
        let rows = keyring.rows(id, &keys);
        let Some(row) = cluster_read(connection, &rows).await? else { return Ok(None) };
        if row.cluster.dev != installation.dev {
            return Err(Failure::new(Reason::RowTampered, "cluster mode"));
        }
        let StoredAuthority { chain, life, rows: links } =
            StoredAuthority::read(connection, installation, &rows).await?;
        let signer = |row: &AuthorityRow| -> Result<Signer, Failure> {
            let sealed = row.sealed_private_key.as_deref().unwrap_or_default();
            let secret = Sealed::ClusterAuthority(id, row.sequence);
            let signer = Signer::from_seed(&*secret.open32(&keys, installation.id, sealed)?);
            if signer.public().as_bytes() == &row.public_key {
                Ok(signer)
            } else {
                Err(Failure::new(Reason::RowTampered, "cluster authority key"))
            }
        };
        let (newest, earlier) = links
            .split_last()
            .ok_or_else(|| Failure::new(Reason::RowTampered, "the cluster has no authority"))?;
        let authority = signer(newest)?;
        let earlier = earlier.iter().filter(|row| row.state != KeyState::Revoked);
        let earlier = earlier.map(signer).collect::<Result<_, _>>()?;
        let ca_rows = cluster_cas_trusted(connection, &rows).await?;
        let map_key = Sealed::MapKey(id).open32(&keys, installation.id, &row.cluster.sealed_map_key)?;
        Ok(Some(Self {
            id,
            name: row.cluster.name.clone(),
            rows,
            authority,
            chain,
            life,
            earlier,
            keys: keys_stamp(connection, id).await?,
            data_key_floor: keys.floor(),
            ca: issuing(&ca_rows, id, &keys, installation.id)?,
            cas: ClusterCas::of(&ca_rows, (row.cluster.incarnation, row.config_seq))?,
            map_key: MapKey::from_bytes(*map_key),
            timing: timing(&row.cluster),
            ipv4_pool: row.cluster.ipv4_pool,
            created_at: row.created_at,
            feed: Feed::default(),
            wake: Arc::default(),
            revocations: Arc::default(),
        }))
    }

    /// Place in the chain of the authority with this key id.
    pub fn sequence_of(&self, key: KeyId) -> Option<u64> {
        self.chain.keys_ever().position(|known| known.id() == key).map(|index| index as u64 + 1)
    }

    /// The authority that signed a join token, while its tokens count: it also signs the answers to them,
    /// because that is the key their holders know.
    ///
    /// # Errors
    /// `token.authority_revoked`, `key.unknown`.
    pub fn token_authority(&self, key: KeyId) -> Result<&Signer, Failure> {
        let unknown = || Failure::new(Reason::KeyUnknown, "no authority of this cluster signed the token");
        self.life.admits_tokens_of(self.sequence_of(key).ok_or_else(unknown)?)?;
        let mut signers = std::iter::once(&self.authority).chain(&self.earlier);
        signers.find(|signer| signer.id() == key).ok_or_else(unknown)
    }

    /// Makes its nodes acceptable on node connections, except revoked ones.
    pub fn announce(
        &self,
        installation: &InstallationFacts,
        trust: &TrustStore,
        revoked: BTreeMap<NodeId, u64>,
    ) {
        let trusted =
            ClusterTrust { installation: installation.id, authorities: self.cas.certificates(), revoked };
        trust.replace(self.id, trusted);
    }

    /// How a refreshed head is spread over the nodes, so that none goes stale waiting for it.
    pub fn head_window(&self, within: Duration) -> Duration {
        within.min((self.timing.fresh_for / 2).saturating_sub(self.timing.refresh_every))
    }
}

pub(crate) fn timing(row: &NewClusterRow) -> ClusterTiming {
    ClusterTiming {
        fresh_for: Duration::from_millis(row.fresh_for_ms),
        degraded_for: Duration::from_millis(row.degraded_for_ms),
        refresh_every: Duration::from_millis(row.refresh_every_ms),
        leaf_lifetime: Duration::from_millis(row.leaf_lifetime_ms),
    }
}

/// What is wrong with one cluster and leaves the others whole.
pub(crate) const BREAKS_ONE: [Reason; 8] = [
    Reason::FloorRollback,
    Reason::FloorEquivocation,
    Reason::SecretUnseal,
    Reason::RowTampered,
    Reason::ChainBroken,
    Reason::KeyUnknown,
    Reason::SignatureInvalid,
    Reason::EnvelopeMalformed,
];

/// The authority that signed a stored token: the key that its holder pinned, and so the one that signs
/// the answer.
pub(crate) fn token_signer<'a>(cluster: &'a Cluster, envelope: &[u8]) -> Result<&'a Signer, Failure> {
    let tampered = || Failure::new(Reason::RowTampered, "token envelope");
    let envelope = Envelope::decode(envelope, v1::JoinToken::SIZE_CAP).map_err(|_| tampered())?;
    cluster.token_authority(envelope.key_ids().next().ok_or_else(tampered)?)
}
