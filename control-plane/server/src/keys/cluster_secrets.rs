//! Every secret that a cluster's data key seals, all together.
//!
//! Owns which they are: whoever adds one adds it here. Refuses to seal one anew that does not open, or
//! whose public half is not the one stored beside it.

use rap_authority::{DataKeys, RowKeys, sealed_version};
use rap_contract::Signer;
use rap_store::{
    AuthorityRow, ClusterCaRow, ClusterRow, PgConnection, PreparedAuthorityRow, SystemTransaction,
    authorities_list, authority_hold, authority_prepared_read, authority_prepared_rewrap, authority_write,
    cluster_ca_hold, cluster_ca_write, cluster_cas_list, cluster_hold, cluster_read, cluster_write,
};
use rap_types::{InstallationId, Reason};

use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::seal_context::Sealed;

/// The rows that hold them.
#[derive(Debug)]
pub struct SecretsOf {
    cluster: ClusterRow,
    authorities: Vec<AuthorityRow>,
    prepared: Option<PreparedAuthorityRow>,
    cas: Vec<ClusterCaRow>,
}

impl SecretsOf {
    /// Reads and verifies the rows of one cluster.
    ///
    /// # Errors
    /// `row.tampered`.
    pub async fn read(connection: &mut PgConnection, rows: &RowKeys) -> Result<Self, Failure> {
        let unknown = || Failure::new(Reason::ResourceNotFound, "no such cluster");
        Ok(Self {
            cluster: cluster_read(connection, rows).await?.ok_or_else(unknown)?,
            authorities: authorities_list(connection, rows).await?,
            prepared: authority_prepared_read(connection, rows.cluster()).await?,
            cas: cluster_cas_list(connection, rows).await?,
        })
    }

    /// True if every one names the newest key.
    pub fn are_under_newest(&self, keys: &DataKeys) -> bool {
        self.sealed().iter().all(|(_, sealed)| !is_older(sealed, keys))
    }

    /// Opens every one and compares it with its public half.
    ///
    /// # Errors
    /// `secret.unseal`, `row.tampered`.
    pub fn open_all(&self, installation: InstallationId, keys: &DataKeys) -> Result<(), Failure> {
        let id = self.cluster.cluster.cluster;
        Sealed::MapKey(id).open32_by(keys, installation, &self.cluster.cluster.sealed_map_key)?;
        for row in &self.authorities {
            let Some(sealed) = &row.sealed_private_key else { continue };
            let seed = Sealed::ClusterAuthority(id, row.sequence).open32_by(keys, installation, sealed)?;
            same(&seed, &row.public_key, "cluster authority key")?;
        }
        if let Some(row) = &self.prepared {
            let seed =
                Sealed::PreparedAuthority(id).open32_by(keys, installation, &row.sealed_private_key)?;
            same(&seed, &row.public_key, "prepared authority key")?;
        }
        for row in &self.cas {
            let Some(sealed) = &row.sealed_key else { continue };
            let key = Sealed::ClusterCa(id, row.generation).open_by(keys, installation, sealed)?;
            CertificateAuthority::open(&row.cert_der, &key)?;
        }
        Ok(())
    }

    /// Each with its place.
    fn sealed(&self) -> Vec<(Sealed, &[u8])> {
        let id = self.cluster.cluster.cluster;
        let mut all = vec![(Sealed::MapKey(id), self.cluster.cluster.sealed_map_key.as_slice())];
        for row in &self.authorities {
            let place = Sealed::ClusterAuthority(id, row.sequence);
            all.extend(row.sealed_private_key.as_deref().map(|sealed| (place, sealed)));
        }
        all.extend(
            self.prepared
                .iter()
                .map(|row| (Sealed::PreparedAuthority(id), row.sealed_private_key.as_slice())),
        );
        for row in &self.cas {
            let place = Sealed::ClusterCa(id, row.generation);
            all.extend(row.sealed_key.as_deref().map(|sealed| (place, sealed)));
        }
        all
    }
}

/// Seals every secret of the cluster that is under an older key under the newest one; returns how many.
/// The caller holds the cluster's row.
///
/// # Errors
/// As [`SecretsOf::open_all`]; nothing is written then.
pub(crate) async fn reseal_secrets(
    transaction: &mut SystemTransaction,
    installation: InstallationId,
    keys: &DataKeys,
    rows: &RowKeys,
) -> Result<u64, Failure> {
    let secrets = SecretsOf::read(transaction, rows).await?;
    secrets.open_all(installation, keys)?;
    let mut count = 0;
    for (place, sealed) in secrets.sealed() {
        if !is_older(sealed, keys) {
            continue;
        }
        let sealed = place.seal_by(keys, installation, &place.open_by(keys, installation, sealed)?);
        write(transaction, rows, place, sealed).await?;
        count += 1;
    }
    Ok(count)
}

async fn write(
    transaction: &mut SystemTransaction,
    rows: &RowKeys,
    place: Sealed,
    sealed: Vec<u8>,
) -> Result<(), Failure> {
    let gone = || Failure::new(Reason::RequestConflict, "a key of the cluster was removed meanwhile");
    match place {
        Sealed::MapKey(_) => {
            let mut row = cluster_hold(transaction, rows).await?.ok_or_else(gone)?;
            row.cluster.sealed_map_key = sealed;
            cluster_write(transaction, rows, row).await?;
        }
        Sealed::ClusterAuthority(_, sequence) => {
            let mut row = authority_hold(transaction, rows, sequence).await?.ok_or_else(gone)?;
            row.sealed_private_key = Some(sealed);
            authority_write(transaction, rows, row).await?;
        }
        Sealed::ClusterCa(_, generation) => {
            let mut row = cluster_ca_hold(transaction, rows, generation).await?.ok_or_else(gone)?;
            row.sealed_key = Some(sealed);
            cluster_ca_write(transaction, rows, row).await?;
        }
        Sealed::PreparedAuthority(cluster) => {
            authority_prepared_rewrap(transaction, cluster, &sealed).await?;
        }
        Sealed::InstallationAuthority | Sealed::TlsAuthority | Sealed::DataKey(..) | Sealed::LogKey(_) => {
            return Err(Failure::new(Reason::ServerInternal, "not a secret of a cluster"));
        }
    }
    Ok(())
}

fn is_older(sealed: &[u8], keys: &DataKeys) -> bool {
    sealed_version(sealed) != Some(keys.newest().0)
}

fn same(seed: &[u8; 32], public_key: &[u8; 32], what: &str) -> Result<(), Failure> {
    if Signer::from_seed(seed).public().as_bytes() == public_key {
        Ok(())
    } else {
        Err(Failure::new(Reason::RowTampered, what))
    }
}
