//! Rotates the CA of a cluster, step by step.

use rap_authority::{CaStage, CaStep, RowKeys, ids};
use rap_contract::KeyState;
use rap_store::{
    ClusterCaRow, StoreError, SystemTransaction, cluster_ca_hold, cluster_ca_insert, cluster_ca_write,
    cluster_cas_list, cluster_cas_trusted,
};
use rap_types::{ClusterId, Digest, Reason, Wall};

use crate::acts::lock_cluster::LockedCluster;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::keys::certificate_authority::CertificateAuthority;
use crate::keys::seal_context::Sealed;
use crate::serve::cluster_cas::{ClusterCas, members};
use crate::serve::handle::Serving;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum CaOrder<'a> {
    /// With this CA as the newer one.
    Begin(&'a CertificateAuthority),
    /// Onwards from this stage, if no node is missing.
    Follow(CaStage),
    /// Onwards without the nodes that are missing.
    Force,
    Abort,
}

/// A CA for a cluster.
///
/// # Errors
/// `server.internal`.
pub(crate) fn new_ca(id: ClusterId, now: Wall) -> Result<CertificateAuthority, Failure> {
    let serial = ids::random(&mut rand::rng());
    Ok(CertificateAuthority::generate(&format!("RAP cluster {id}"), now, serial)?)
}

/// Takes the step in the transaction; returns the stage after it.
pub(crate) async fn write_ca_step(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    id: ClusterId,
    order: CaOrder<'_>,
) -> Result<CaStage, Failure> {
    let held = LockedCluster::lock(&serving.keys, &serving.database, transaction, id).await?;
    let rows = cluster_cas_trusted(transaction, &held.rows).await?;
    let read_at = (held.row.cluster.incarnation, held.row.config_seq);
    let mut cas = ClusterCas::of(&rows, read_at)?;
    if let Some(served) = serving.clusters.by_id(id) {
        cas.counts_from(&served.cas);
    }
    if matches!(order, CaOrder::Follow(from) if from != cas.stage) {
        return Err(Failure::new(Reason::RequestConflict, "the rotation went on meanwhile"));
    }
    let missing = cas.missing(members(transaction, &held.rows).await?);
    let (step, action) = match order {
        CaOrder::Begin(_) => (CaStep::Begin, "cluster_ca.rotate"),
        CaOrder::Follow(_) => {
            (CaStep::Advance { missing: missing.len(), force: false }, "cluster_ca.advance")
        }
        CaOrder::Force => (CaStep::Advance { missing: missing.len(), force: true }, "cluster_ca.advance"),
        CaOrder::Abort => (CaStep::Abort, "cluster_ca.abort"),
    };
    let next = cas.stage.after(step)?;
    let certificate = if let CaOrder::Begin(fresh) = order {
        let all = cluster_cas_list(transaction, &held.rows).await?;
        let generation = all.iter().map(|row| row.generation).max().unwrap_or(0) + 1;
        let sealed = Sealed::ClusterCa(id, generation);
        let sealed = sealed.seal(&held.keys, serving.keys.installation.facts.id, &fresh.private_key());
        let row = ClusterCaRow {
            cluster: id,
            generation,
            cert_der: fresh.certificate().to_vec(),
            sealed_key: Some(sealed),
            state: KeyState::Prepared,
        };
        cluster_ca_insert(transaction, &held.rows, &row).await?;
        row.cert_der
    } else {
        put_states(transaction, &held.rows, &rows, (cas.stage, next)).await?
    };
    let reason = match (order, missing.len()) {
        (CaOrder::Force, count @ 1..) => format!("without {count} nodes {}", acting.reason),
        _ => acting.reason.clone(),
    };
    let change = Change::of(action, format!("cluster/{id}")).inside(id).after(Digest::of(&[&certificate]));
    let change = change.because(format!("{} {reason}", next.as_str()).trim());
    change.touches(id, ["trust"], true).record(transaction, acting).await?;
    Ok(next)
}

/// Gives both CAs their states in `next`; returns the certificate of the one that signs from now on.
async fn put_states(
    transaction: &mut SystemTransaction,
    keys: &RowKeys,
    rows: &[ClusterCaRow],
    (now, next): (CaStage, CaStage),
) -> Result<Vec<u8>, Failure> {
    let [older, newer] = rows else {
        return Err(Failure::new(Reason::RowTampered, "a rotation has two CAs"));
    };
    let states = match (now, next) {
        (CaStage::Moving, CaStage::Single) => (KeyState::Revoked, KeyState::Active),
        (_, next) => next.states(),
    };
    // At most one signs at any moment: the one that stops is written first.
    let mut wanted = [(older, states.0), (newer, states.1)];
    wanted.sort_by_key(|(_, state)| *state == KeyState::Active);
    for (row, state) in wanted {
        let mut held = cluster_ca_hold(transaction, keys, row.generation).await?.ok_or(StoreError::Absent)?;
        held.state = state;
        if state == KeyState::Revoked {
            held.sealed_key = None;
        }
        cluster_ca_write(transaction, keys, held).await?;
    }
    let signs = if states.1 == KeyState::Active { newer } else { older };
    Ok(signs.cert_der.clone())
}
