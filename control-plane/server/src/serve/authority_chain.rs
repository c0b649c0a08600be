//! The authority records of a cluster as its rows say them, verified.
//!
//! Refuses to open a private key.

use rap_authority::{AuthorityLife, InstallationFacts, RowKeys, reopen_cluster};
use rap_contract::{AuthorityChain, PublicKey};
use rap_store::{AuthorityRow, PgConnection, authorities_list, authority_prepared_read};
use rap_types::Reason;

use crate::failure::Failure;

/// A cluster's authority as its rows and records say, without any private key.
pub(crate) struct StoredAuthority {
    /// The verified authority records.
    pub chain: AuthorityChain,
    /// State of each key.
    pub life: AuthorityLife,
    /// The rows, first link first.
    pub rows: Vec<AuthorityRow>,
}

impl StoredAuthority {
    /// Reads and verifies them.
    ///
    /// # Errors
    /// Those of the chain; `row.tampered`.
    pub async fn read(
        connection: &mut PgConnection,
        installation: &InstallationFacts,
        keys: &RowKeys,
    ) -> Result<Self, Failure> {
        let cluster = keys.cluster();
        let tampered = |what: &str| Failure::new(Reason::RowTampered, what);
        let rows = authorities_list(connection, keys).await?;
        let newest = rows.last().ok_or_else(|| tampered("the cluster has no authority"))?;
        let envelopes: Vec<Vec<u8>> = rows.iter().map(|row| row.record.clone()).collect();
        let chain = reopen_cluster(
            installation.id,
            &installation.authority,
            installation.dev,
            cluster,
            &envelopes,
            &PublicKey::from_slice(&newest.public_key)?,
        )?;
        if !rows.iter().map(|row| row.public_key).eq(chain.keys_ever().map(|key| *key.as_bytes())) {
            return Err(tampered("cluster authority key"));
        }
        let prepared = authority_prepared_read(connection, cluster).await?.is_some();
        let life = AuthorityLife::of(rows.iter().map(|row| row.state).collect(), prepared)?;
        Ok(Self { chain, life, rows })
    }
}
