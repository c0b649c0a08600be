//! Floors of single clusters, shown beside what the database holds, and a person's word for them.
//!
//! Owns what lowering one means: records above the new floor never happened, and whoever they put out
//! is a member again until it is put out again. Refuses to lower what the database still proves.

use std::fmt;

use rap_authority::{Floor, FloorOf, InstallationFacts, ReplicaFloors, RowKeys, SealingKey, known_features};
use rap_contract::RevocationChain;
use rap_store::{
    PgConnection, REVOCATIONS_MOST, StoreError, cluster_names, cluster_read, nodes_and_tampered,
    revocations_from,
};
use rap_types::{ClusterId, Digest, IdentityStatus, NodeId, Reason};

use crate::failure::Failure;
use crate::keys::data_keys::DataKeyOpener;
use crate::serve::authority_chain::StoredAuthority;

/// A floor and what the database holds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Beside {
    /// The floor of this replica.
    pub floor: Option<Floor>,
    /// End of the chain in the database; sequence 0 for an empty one.
    pub newest: Floor,
    /// The chain is at or above the floor, and is the one that this replica saw.
    pub holds: bool,
}

/// Both floors of one cluster.
#[derive(Debug, serde::Serialize)]
pub struct ClusterFloors {
    /// Cluster.
    pub cluster_id: ClusterId,
    /// Its name, if its own row says so under its MAC.
    pub name: Option<String>,
    /// Its chain of revocations.
    pub revocations: Option<Beside>,
    /// Its chain of authority records.
    pub authority: Option<Beside>,
    /// Nodes whose rows are of gone members and that no record in the database puts out.
    pub put_out_by_lost_records: Vec<PutOut>,
    /// Nodes whose rows do not hold: whether a lost record put them out is not known.
    pub unknown_nodes: Vec<String>,
    /// Why the chains do not read.
    pub refused: Option<Reason>,
}

/// A node that is known to have been put out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PutOut {
    /// Node.
    pub node_id: NodeId,
    /// Its name.
    pub name: String,
}

/// Which floor of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Its chain of revocations.
    Revocations,
    /// Its chain of authority records.
    Authority,
}

impl Which {
    /// The floor's name.
    pub const fn of(self, cluster: ClusterId) -> FloorOf {
        match self {
            Self::Revocations => FloorOf::Revocations(cluster),
            Self::Authority => FloorOf::Authority(cluster),
        }
    }

    /// What the audit log calls it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Revocations => "revocations",
            Self::Authority => "authority",
        }
    }

    /// What it means that records above `kept` are void.
    pub fn meaning(self, kept: u64, floor: u64) -> String {
        let first = kept + 1;
        let range = if first == floor { format!("{first} is") } else { format!("{first} to {floor} are") };
        match self {
            Self::Revocations => format!(
                "revocation {range} void: whoever was put out by it is a member again until revoked again"
            ),
            Self::Authority => format!(
                "authority record {range} void: nodes that took its key follow this control plane no more and have to join anew"
            ),
        }
    }
}

impl ClusterFloors {
    /// One of the two.
    pub fn one(&self, which: Which) -> Option<Beside> {
        match which {
            Which::Revocations => self.revocations,
            Which::Authority => self.authority,
        }
    }
}

/// Every cluster's floors beside its chains, each verified.
pub(crate) async fn look(
    connection: &mut PgConnection,
    installation: &InstallationFacts,
    kek: &SealingKey,
    floors: &ReplicaFloors,
) -> Result<Vec<ClusterFloors>, Failure> {
    let mut all = Vec::new();
    for (id, _) in cluster_names(connection).await? {
        let mut shown = ClusterFloors {
            cluster_id: id,
            name: None,
            revocations: None,
            authority: None,
            put_out_by_lost_records: Vec::new(),
            unknown_nodes: Vec::new(),
            refused: None,
        };
        if let Err(failure) = fill(connection, installation, kek, floors, &mut shown).await {
            if failure.reason == Reason::StoreUnavailable {
                return Err(failure);
            }
            shown.refused = Some(failure.reason);
        }
        all.push(shown);
    }
    Ok(all)
}

async fn fill(
    connection: &mut PgConnection,
    installation: &InstallationFacts,
    kek: &SealingKey,
    floors: &ReplicaFloors,
    shown: &mut ClusterFloors,
) -> Result<(), Failure> {
    let id = shown.cluster_id;
    let keyring = DataKeyOpener::of_database(installation.id, kek, floors);
    let rows = keyring.rows(id, &keyring.read(connection, id).await?);
    let row = cluster_read(connection, &rows).await?.ok_or(StoreError::Absent)?;
    shown.name = Some(row.cluster.name.clone());
    let authority = StoredAuthority::read(connection, installation, &rows).await?;
    let beside = |of, sequence, digest_at: &dyn Fn(u64) -> Option<Digest>| {
        let floor = floors.of(of);
        let digest = digest_at(sequence).unwrap_or(NOTHING);
        let holds = floor.is_none_or(|floor| digest_at(floor.sequence) == Some(floor.digest));
        Beside { floor, newest: Floor { sequence, digest }, holds }
    };
    let chain = &authority.chain;
    let digest_at = |sequence| chain.digest_at(sequence);
    shown.authority = Some(beside(FloorOf::Authority(id), chain.sequence(), &digest_at));
    let revoked = revocations(connection, installation.dev, id, &authority).await?;
    let digest_at = |sequence| revoked.digest_at(sequence);
    shown.revocations = Some(beside(FloorOf::Revocations(id), revoked.sequence(), &digest_at));
    (shown.put_out_by_lost_records, shown.unknown_nodes) = put_out(connection, &rows, &revoked).await?;
    Ok(())
}

/// The chain of revocations in the database.
async fn revocations(
    connection: &mut PgConnection,
    dev: bool,
    id: ClusterId,
    authority: &StoredAuthority,
) -> Result<RevocationChain, Failure> {
    let mut chain = RevocationChain::default();
    loop {
        let rows = revocations_from(connection, id, chain.sequence() + 1, REVOCATIONS_MOST).await?;
        let records: Vec<&[u8]> = rows.iter().map(|row| row.record.as_slice()).collect();
        chain = chain.extended(&records, &authority.chain, known_features(dev))?;
        if rows.len() < REVOCATIONS_MOST as usize {
            return Ok(chain);
        }
    }
}

async fn put_out(
    connection: &mut PgConnection,
    rows: &RowKeys,
    chain: &RevocationChain,
) -> Result<(Vec<PutOut>, Vec<String>), Failure> {
    let (nodes, tampered) = nodes_and_tampered(connection, rows).await?;
    let gone = |status| matches!(status, IdentityStatus::Revoked | IdentityStatus::Left);
    let lost =
        nodes.into_iter().filter(|row| gone(row.identity_status) && chain.gone(row.node.node).is_none());
    let lost = lost.map(|row| PutOut { node_id: row.node.node, name: row.node.name }).collect();
    Ok((lost, tampered.into_iter().map(|row| row.key).collect()))
}

impl fmt::Display for ClusterFloors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("(its name is not verified)");
        writeln!(f, "cluster       {name} {}", self.cluster_id)?;
        if let Some(reason) = self.refused {
            writeln!(f, "  does not read: {reason}")?;
        }
        for which in [Which::Revocations, Which::Authority] {
            let Some(Beside { floor, newest, holds }) = self.one(which) else { continue };
            let floor_at = floor.map_or_else(|| "none".to_owned(), |floor| floor.sequence.to_string());
            let word = if holds { "" } else { "  BELOW THE FLOOR or another chain" };
            writeln!(f, "  {:<12}floor {floor_at}, database {}{word}", which.word(), newest.sequence)?;
        }
        for node in &self.put_out_by_lost_records {
            writeln!(f, "  put out by a record that is lost: {} {}", node.node_id, node.name)?;
        }
        for node in &self.unknown_nodes {
            writeln!(f, "  not known whether a lost record put it out, its row does not hold: {node}")?;
        }
        Ok(())
    }
}

/// Digest of an empty chain.
pub(crate) const NOTHING: Digest = Digest::from_bytes([0; 32]);
