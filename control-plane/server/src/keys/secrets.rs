//! Every secret that one ring of keys seals, all together: those of a cluster, or those of the installation.
//!
//! Owns which they are: whoever adds one adds it here. Refuses to seal one anew that does not open, or
//! whose public half is not the one stored beside it.

use rap_authority::{ReplicaFloors, RowKeys};
use rap_contract::Signer;
use rap_store::{
    PgConnection, SystemTransaction, authorities_list, authority_hold, authority_prepared_read,
    authority_prepared_rewrap, authority_write, cluster_ca_hold, cluster_ca_write, cluster_cas_list,
    cluster_hold, cluster_read, cluster_write, dek_rewrap, installation_authority_rewrap, installation_read,
    installation_tls_rewrap, log_key_rewrap, log_keys_sealed,
};
use rap_types::{InstallationId, Reason};
use zeroize::Zeroizing;

use crate::failure::{Failure, unknown_cluster};
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::key_encryption_key::live_deks;
use crate::keys::key_ring::KeyRing;
use crate::keys::seal_context::Sealed;

/// The secrets of one ring, as they are stored.
#[derive(Debug)]
pub struct Secrets {
    installation: InstallationId,
    all: Vec<(Sealed, Vec<u8>, Shape)>,
}

/// What a secret has to be like.
#[derive(Debug)]
enum Shape {
    Any,
    Length32,
    KeyOf([u8; 32]),
    Certified(Vec<u8>),
}

impl Secrets {
    /// Reads and verifies the rows of one cluster.
    ///
    /// # Errors
    /// `row.tampered`.
    pub async fn of_cluster(
        connection: &mut PgConnection,
        installation: InstallationId,
        rows: &RowKeys,
    ) -> Result<Self, Failure> {
        let id = rows.cluster();
        let cluster = cluster_read(connection, rows).await?.ok_or_else(unknown_cluster)?.cluster;
        let mut all = vec![(Sealed::MapKey(id), cluster.sealed_map_key, Shape::Length32)];
        for row in authorities_list(connection, rows).await? {
            let (secret, shape) = (Sealed::ClusterAuthority(id, row.sequence), Shape::KeyOf(row.public_key));
            all.extend(row.sealed_private_key.map(|sealed| (secret, sealed, shape)));
        }
        if let Some(row) = authority_prepared_read(connection, id).await? {
            all.push((Sealed::PreparedAuthority(id), row.sealed_private_key, Shape::KeyOf(row.public_key)));
        }
        for row in cluster_cas_list(connection, rows).await? {
            let (secret, shape) = (Sealed::ClusterCa(id, row.generation), Shape::Certified(row.cert_der));
            all.extend(row.sealed_key.map(|sealed| (secret, sealed, shape)));
        }
        Ok(Self { installation, all })
    }

    /// Reads those of the installation: its own, the data keys that count, and the audit log's.
    ///
    /// # Errors
    /// `config.invalid` without an installation; `floor.rollback`.
    pub async fn of_installation(
        connection: &mut PgConnection,
        floors: &ReplicaFloors,
    ) -> Result<Self, Failure> {
        let absent = || Failure::new(Reason::ConfigInvalid, "the database has no installation; run init");
        let stored = installation_read(connection).await?.ok_or_else(absent)?.installation;
        let mut all = vec![
            (Sealed::InstallationAuthority, stored.sealed_private_key, Shape::Any),
            (Sealed::TlsAuthority, stored.sealed_tls_ca_key, Shape::Any),
        ];
        for dek in live_deks(connection, floors).await? {
            let out_of_range =
                |_| Failure::new(Reason::SecretUnseal, "the version of a data key is out of range");
            let version = u32::try_from(dek.key_version).map_err(out_of_range)?;
            all.push((Sealed::DataKey(dek.cluster, version), dek.wrapped_dek, Shape::Any));
        }
        for (generation, sealed) in log_keys_sealed(connection).await? {
            all.push((Sealed::LogKey(generation), sealed, Shape::Any));
        }
        Ok(Self { installation: stored.installation, all })
    }

    /// True if every one is under the newest key.
    pub fn are_under_newest(&self, keys: KeyRing<'_>) -> bool {
        self.all.iter().all(|(secret, sealed, _)| secret.is_under_newest(keys, self.installation, sealed))
    }

    /// Opens every one and compares it with its public half.
    ///
    /// # Errors
    /// `secret.unseal`, `row.tampered`.
    pub fn open_all(&self, keys: KeyRing<'_>) -> Result<Vec<Zeroizing<Vec<u8>>>, Failure> {
        let open = |(secret, sealed, shape): &(Sealed, Vec<u8>, Shape)| {
            let plaintext = secret.open(keys, self.installation, sealed).map_err(|error| match secret {
                Sealed::DataKey(cluster, version) => Failure::new(
                    Reason::SecretUnseal,
                    format!("version {version} of the data key of cluster {cluster} does not open"),
                ),
                _ => error.into(),
            })?;
            match shape {
                Shape::Any => {}
                Shape::Length32 => drop(secret.exactly32(&plaintext)?),
                Shape::KeyOf(public) => {
                    let signer = Signer::from_seed(&*secret.exactly32(&plaintext)?);
                    if signer.public().as_bytes() != public {
                        return Err(Failure::new(
                            Reason::RowTampered,
                            match secret {
                                Sealed::PreparedAuthority(_) => "prepared authority key",
                                _ => "cluster authority key",
                            },
                        ));
                    }
                }
                Shape::Certified(der) => drop(CertificateAuthority::open(der, &plaintext)?),
            }
            Ok(plaintext)
        };
        self.all.iter().map(open).collect()
    }

    /// Seals every one that is under an older key under the newest; returns how many. The caller holds the row of
    /// the cluster, whose keys `rows` are, or that of the installation.
    ///
    /// # Errors
    /// As [`Self::open_all`]; nothing is written then.
    pub(crate) async fn reseal(
        &self,
        transaction: &mut SystemTransaction,
        keys: KeyRing<'_>,
        rows: &RowKeys,
    ) -> Result<u64, Failure> {
        let mut count = 0;
        for ((secret, sealed, _), plaintext) in self.all.iter().zip(self.open_all(keys)?) {
            if !secret.is_under_newest(keys, self.installation, sealed) {
                let sealed = secret.seal(keys, self.installation, &plaintext);
                write(transaction, rows, *secret, sealed).await?;
                count += 1;
            }
        }
        Ok(count)
    }
}

async fn write(
    transaction: &mut SystemTransaction,
    rows: &RowKeys,
    secret: Sealed,
    sealed: Vec<u8>,
) -> Result<(), Failure> {
    let gone = || Failure::new(Reason::RequestConflict, "a key of the cluster was removed meanwhile");
    match secret {
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
        Sealed::InstallationAuthority => installation_authority_rewrap(transaction, &sealed).await?,
        Sealed::TlsAuthority => installation_tls_rewrap(transaction, &sealed).await?,
        Sealed::DataKey(cluster, version) => {
            dek_rewrap(transaction, cluster, version.into(), &sealed).await?;
        }
        Sealed::LogKey(generation) => log_key_rewrap(transaction, generation, &sealed).await?,
    }
    Ok(())
}
