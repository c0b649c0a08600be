//! The CAs that the nodes of a cluster trust: one, or two while it is rotated.

use rap_authority::{CaFollower, CaStage, DataKeys, RowKeys};
use rap_contract::KeyState;
use rap_planner::NextCa;
use rap_runtime::tls::fingerprint;
use rap_store::{ClusterCaRow, NodeRow, PgConnection, nodes_list};
use rap_types::{ClusterId, Digest, IdentityStatus, InstallationId, Reason};
use rustls_pki_types::CertificateDer;

use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::seal_context::Sealed;

/// The trusted CAs of one cluster.
#[derive(Debug)]
pub struct ClusterCas {
    /// Where their rotation is.
    pub stage: CaStage,
    /// (generation, certificate), older first: one or two.
    trusted: Vec<(u64, CertificateDer<'static>)>,
    /// (incarnation, version) of the rows that these were read with.
    read_at: (u64, u64),
}

impl ClusterCas {
    /// Of verified rows, older first, read at `(incarnation, version)`.
    ///
    /// # Errors
    /// `row.tampered`.
    pub(crate) fn of(rows: &[ClusterCaRow], read_at: (u64, u64)) -> Result<Self, Failure> {
        Ok(Self {
            stage: stage(rows)?,
            trusted: rows.iter().map(|row| (row.generation, row.cert_der.clone().into())).collect(),
            read_at,
        })
    }

    /// What nodes acknowledged counts from when the same CAs were read first.
    pub(crate) fn counts_from(&mut self, before: &Self) {
        if self.trusted == before.trusted {
            self.read_at = before.read_at;
        }
    }

    /// Every certificate.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.trusted.iter().map(|(_, certificate)| certificate.clone()).collect()
    }

    /// The generation of the trusted CA with this fingerprint; 0 without one.
    pub fn generation_of(&self, authority: Digest) -> u64 {
        let found = self.trusted.iter().find(|(_, certificate)| fingerprint(certificate) == authority);
        found.map_or(0, |(generation, _)| *generation)
    }

    /// What this node is known to have of a rotation.
    pub(crate) fn follower(&self, row: &NodeRow) -> CaFollower {
        let known = row.contact.as_ref().map(|contact| &contact.known);
        CaFollower {
            trusts: known.is_some_and(|known| known.acked >= self.read_at),
            certificate_ca: known.map_or(0, |known| known.certificate_ca),
        }
    }

    /// The nodes of `members` that have not confirmed the present stage; the rotation waits for them.
    pub(crate) fn missing(&self, mut members: Vec<NodeRow>) -> Vec<NodeRow> {
        members.retain(|row| self.waits_for(row));
        members
    }

    /// Whether the rotation waits for this node.
    pub(crate) fn waits_for(&self, row: &NodeRow) -> bool {
        let generation = |ca: Option<&(u64, _)>| ca.map_or(0, |(generation, _)| *generation);
        let (older, newer) = (generation(self.trusted.first()), generation(self.trusted.last()));
        self.stage.waits_for(self.follower(row), (older, newer))
    }
}

/// The present nodes of a cluster.
///
/// # Errors
/// `row.tampered`, an error of the database.
pub(crate) async fn members(connection: &mut PgConnection, keys: &RowKeys) -> Result<Vec<NodeRow>, Failure> {
    let mut rows = nodes_list(connection, keys).await?;
    rows.retain(|row| matches!(row.identity_status, IdentityStatus::Active | IdentityStatus::Draining));
    Ok(rows)
}

/// The stage that these rows of trusted CAs are of.
///
/// # Errors
/// `row.tampered`.
pub(crate) fn stage(rows: &[ClusterCaRow]) -> Result<CaStage, Failure> {
    let states: Vec<KeyState> = rows.iter().map(|row| row.state).collect();
    Ok(CaStage::of(&states)?)
}

/// The CA that signs, with its key.
///
/// # Errors
/// `row.tampered`, `secret.unseal`.
pub(crate) fn issuing(
    rows: &[ClusterCaRow],
    id: ClusterId,
    keys: &DataKeys,
    installation: InstallationId,
) -> Result<CertificateAuthority, Failure> {
    let row = rows.iter().find(|row| row.state == KeyState::Active);
    let row =
        row.ok_or_else(|| Failure::new(Reason::RowTampered, "the cluster has no certificate authority"))?;
    let sealed = row.sealed_key.as_deref().unwrap_or_default();
    let key = Sealed::ClusterCa(id, row.generation).open(keys, installation, sealed)?;
    Ok(CertificateAuthority::open(&row.cert_der, &key)?)
}

/// The older CA, and the newer one while they are two, as the planner takes them.
///
/// # Errors
/// `row.tampered`.
pub(crate) fn planned(rows: &[ClusterCaRow]) -> Result<(Vec<u8>, Option<NextCa>), Failure> {
    let stage = stage(rows)?;
    let older = rows.first().map(|row| row.cert_der.clone()).unwrap_or_default();
    let newer =
        rows.get(1).map(|row| NextCa { certificate: row.cert_der.clone(), issues: stage.newer_issues() });
    Ok((older, newer))
}
