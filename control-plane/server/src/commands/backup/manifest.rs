//! What a backup says of itself: the part that is authenticated, and whose digests cover the rest.

use rap_authority::ReplicaFloors;
use rap_types::{ClusterId, Digest, InstallationId, Reason};
use serde::{Deserialize, Serialize};

use crate::commands::backup::altered;
use crate::failure::Failure;

/// The manifest of a backup, schema `rap.backup.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `rap.backup.v1`.
    pub schema: String,
    /// The installation.
    pub installation_id: InstallationId,
    /// strict or dev.
    pub mode: String,
    /// Version of the program that made it.
    pub version: String,
    /// Newest migration of the database it was made from.
    pub schema_version: i64,
    /// When it was made.
    pub created_at_ms: i64,
    /// Public Product Root keys, as a key file.
    pub product_root: String,
    /// Every cluster as it was.
    pub clusters: Vec<ClusterAt>,
    /// Floors of the replica that made it.
    pub floors: Option<ReplicaFloors>,
    /// Every table, in the order of the file.
    pub tables: Vec<BackupTable>,
}

/// A cluster's place in its own history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterAt {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// Its version.
    pub config_seq: u64,
}

/// A table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupTable {
    /// Its name.
    pub name: String,
    /// How many rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

impl Manifest {
    /// The bytes that are authenticated.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self).map_err(Failure::of(Reason::ServerInternal))
    }

    /// Reads bytes that were authenticated.
    ///
    /// # Errors
    /// `state.schema` for another schema, `backup.altered` for what this program would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|_| altered("the manifest is not a document"))?;
        if value["schema"] != SCHEMA {
            return Err(Failure::new(Reason::StateSchema, "the backup was made by a newer version"));
        }
        serde_json::from_value(value).map_err(|_| altered("the manifest lacks a field"))
    }
}

/// Schema of the manifest.
pub(crate) const SCHEMA: &str = "rap.backup.v1";
