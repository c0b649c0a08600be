//! The chain of revocations for operators: signed records, to be verified by whoever asks.

use std::sync::Arc;

use rap_store::revocations_from;
use rap_wire::v1;

use crate::control::Control;
use crate::grpc::{Actor, Failure};

/// Most records of one answer.
const PAGE: u32 = 1000;

pub(super) async fn list(
    control: &Arc<Control>,
    _: &Actor,
    request: v1::RevocationListRequest,
) -> Result<v1::RevocationListAnswer, Failure> {
    let cluster = control.cluster_named(&request.cluster).await?;
    let known = cluster.revocations.known();
    let mut transaction = control.store.system().begin_snapshot().await?;
    let chain = control.revocations(&mut transaction, &cluster, &known).await?.chain;
    let from = request.after.saturating_add(1);
    let rows = revocations_from(&mut transaction, cluster.id, from, PAGE).await?;
    Ok(v1::RevocationListAnswer {
        records: rows.into_iter().map(|row| row.record).collect(),
        sequence: chain.sequence(),
        digest: chain.digest().map(rap_types::Digest::to_vec).unwrap_or_default(),
        authority_records: cluster.chain.envelopes(),
    })
}
