//! The call that rotates a cluster's data key.
//!
//! Refuses to own how: that is [`crate::dek_rotation`].

use std::sync::Arc;

use rap_wire::v1;

use super::find;
use crate::control::Control;
use crate::dek_rotation::{self, Author, Stage};
use crate::grpc::{Actor, Failure};

pub(super) async fn rotate(
    control: &Arc<Control>,
    actor: &Actor,
    request: v1::DataKeyRotateRequest,
) -> Result<v1::DataKeyRotateAnswer, Failure> {
    let id = find(control, &request.cluster).await?;
    let author = Author {
        actor: actor.audit_name(),
        pen: actor.pen.clone(),
        call: actor.call,
        reason: request.reason,
    };
    let rotated = dek_rotation::rotate(control, id, &author, Stage::Retired).await?;
    Ok(v1::DataKeyRotateAnswer {
        cluster_id: id.to_vec(),
        version: rotated.version,
        replaced: rotated.replaced,
        resumed: rotated.resumed,
        secrets: rotated.secrets,
        rows: rotated.rows,
    })
}
