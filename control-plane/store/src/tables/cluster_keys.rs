//! Keys of a cluster: authority records, wrapped data keys, certificate authorities. Private keys
//! arrive sealed and leave sealed.

use rap_types::ClusterId;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};

use crate::StoreError;
use crate::columns::{bytes32, counter, id, statements, unsigned};

/// Life of a key: `prepared`, `active`, `tainted`, `revoked`, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyState {
    /// Made, not yet used.
    Prepared,
    /// Signs.
    Active,
    /// Replaced; no longer signs.
    Tainted,
    /// Not trusted.
    Revoked,
}

impl KeyState {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }

    fn of(row: &PgRow) -> sqlx::Result<Self> {
        let word: &str = row.try_get("state")?;
        let known = [Self::Prepared, Self::Active, Self::Tainted, Self::Revoked];
        known.into_iter().find(|state| state.as_str() == word).ok_or_else(|| sqlx::Error::ColumnDecode {
            index: "state".to_owned(),
            source: "unknown key state".into(),
        })
    }
}

/// One link of a cluster's authority chain.
#[derive(Debug, Clone)]
pub struct AuthorityRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Place in the chain, from 1.
    pub sequence: u64,
    /// Encoded authority record.
    pub record: Vec<u8>,
    /// Key it names.
    pub public_key: [u8; 32],
    /// Its private half, sealed for (`cluster_authorities`, `sealed_private_key`); erased when revoked.
    pub sealed_private_key: Option<Vec<u8>>,
    /// Its life.
    pub state: KeyState,
}

/// A data key of a cluster.
#[derive(Debug, Clone)]
pub struct DekRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Version, from 1.
    pub key_version: u64,
    /// The key, wrapped by the key encryption key for (`cluster_deks`, `wrapped_dek`).
    pub wrapped_dek: Vec<u8>,
}

/// A certificate authority of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterCaRow {
    /// Cluster.
    pub cluster: ClusterId,
    /// Generation, from 1.
    pub generation: u64,
    /// DER certificate.
    pub cert_der: Vec<u8>,
    /// Its key, sealed for (`cluster_cas`, `sealed_key`).
    pub sealed_key: Vec<u8>,
    /// Its life.
    pub state: KeyState,
}

impl FromRow<'_, PgRow> for AuthorityRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: id(row, "cluster_id")?,
            sequence: unsigned(row, "sequence")?,
            record: row.try_get("record")?,
            public_key: bytes32(row, "public_key")?,
            sealed_private_key: row.try_get("sealed_private_key")?,
            state: KeyState::of(row)?,
        })
    }
}

impl FromRow<'_, PgRow> for DekRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: id(row, "cluster_id")?,
            key_version: unsigned(row, "key_version")?,
            wrapped_dek: row.try_get("wrapped_dek")?,
        })
    }
}

impl FromRow<'_, PgRow> for ClusterCaRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            cluster: id(row, "cluster_id")?,
            generation: unsigned(row, "generation")?,
            cert_der: row.try_get("cert_der")?,
            sealed_key: row.try_get("sealed_key")?,
            state: KeyState::of(row)?,
        })
    }
}

statements! {
    AUTHORITY_INSERT = "INSERT INTO cluster_authorities \
        (cluster_id, sequence, record, public_key, sealed_private_key, state) VALUES ($1, $2, $3, $4, $5, $6)";
    AUTHORITIES_LIST = "SELECT cluster_id, sequence, record, public_key, sealed_private_key, state \
        FROM cluster_authorities WHERE cluster_id = $1 ORDER BY sequence";
    AUTHORITY_SEQUENCE = "SELECT coalesce(max(sequence), 0) AS sequence FROM cluster_authorities \
        WHERE cluster_id = $1";
    AUTHORITY_STATE_SET = "UPDATE cluster_authorities SET state = $4::text, row_version = row_version + 1, \
            sealed_private_key = CASE WHEN $4::text = 'revoked' THEN NULL ELSE sealed_private_key END \
        WHERE cluster_id = $1 AND sequence = $2 AND state = $3";
    DEK_INSERT = "INSERT INTO cluster_deks (cluster_id, key_version, wrapped_dek) VALUES ($1, $2, $3)";
    DEKS_LIST = "SELECT cluster_id, key_version, wrapped_dek FROM cluster_deks \
        WHERE cluster_id = $1 AND retired_at IS NULL ORDER BY key_version";
    CLUSTER_CA_INSERT = "INSERT INTO cluster_cas (cluster_id, generation, cert_der, sealed_key, state) \
        VALUES ($1, $2, $3, $4, $5)";
    CLUSTER_CA_ACTIVE = "SELECT cluster_id, generation, cert_der, sealed_key, state FROM cluster_cas \
        WHERE cluster_id = $1 AND state = 'active'";
}

/// Adds a link to the chain. Two records of one sequence, or of one key, are refused with
/// [`StoreError::Exists`].
pub async fn authority_insert(connection: &mut PgConnection, new: &AuthorityRow) -> Result<(), StoreError> {
    sqlx::query(AUTHORITY_INSERT)
        .bind(new.cluster.uuid())
        .bind(counter("sequence", new.sequence)?)
        .bind(&new.record)
        .bind(new.public_key.as_slice())
        .bind(&new.sealed_private_key)
        .bind(new.state.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// The whole chain, sequence 1..n.
pub async fn authorities_list(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Vec<AuthorityRow>, StoreError> {
    Ok(sqlx::query_as(AUTHORITIES_LIST).bind(cluster.uuid()).fetch_all(connection).await?)
}

/// Place of the newest link; 0 without any.
pub async fn authority_sequence(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<u64, StoreError> {
    let row = sqlx::query(AUTHORITY_SEQUENCE).bind(cluster.uuid()).fetch_one(connection).await?;
    Ok(unsigned(&row, "sequence")?)
}

/// Moves a key from one state to another; revoking erases its private half. False if it is not in
/// state `from`.
pub async fn authority_state_set(
    connection: &mut PgConnection,
    cluster: ClusterId,
    sequence: u64,
    from: KeyState,
    to: KeyState,
) -> Result<bool, StoreError> {
    let done = sqlx::query(AUTHORITY_STATE_SET)
        .bind(cluster.uuid())
        .bind(counter("sequence", sequence)?)
        .bind(from.as_str())
        .bind(to.as_str())
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds a data key.
pub async fn dek_insert(connection: &mut PgConnection, new: &DekRow) -> Result<(), StoreError> {
    sqlx::query(DEK_INSERT)
        .bind(new.cluster.uuid())
        .bind(counter("key_version", new.key_version)?)
        .bind(&new.wrapped_dek)
        .execute(connection)
        .await?;
    Ok(())
}

/// Data keys that are not retired, oldest first; the last one seals.
pub async fn deks_list(connection: &mut PgConnection, cluster: ClusterId) -> Result<Vec<DekRow>, StoreError> {
    Ok(sqlx::query_as(DEKS_LIST).bind(cluster.uuid()).fetch_all(connection).await?)
}

/// Adds a certificate authority.
pub async fn cluster_ca_insert(connection: &mut PgConnection, new: &ClusterCaRow) -> Result<(), StoreError> {
    sqlx::query(CLUSTER_CA_INSERT)
        .bind(new.cluster.uuid())
        .bind(counter("generation", new.generation)?)
        .bind(&new.cert_der)
        .bind(&new.sealed_key)
        .bind(new.state.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// The certificate authority that issues.
pub async fn cluster_ca_active(
    connection: &mut PgConnection,
    cluster: ClusterId,
) -> Result<Option<ClusterCaRow>, StoreError> {
    Ok(sqlx::query_as(CLUSTER_CA_ACTIVE).bind(cluster.uuid()).fetch_optional(connection).await?)
}
