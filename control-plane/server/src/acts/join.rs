//! Records a join request; approves it at once if its token says so.

use rap_authority::{TokenTerms, check_endpoints, check_token_row, refusal_of_row};
use rap_store::{
    JoinOutcome, JoinRequestRow, NewJoinRequestRow, PgConnection, SystemTransaction, cluster_turn,
    join_request_read, join_request_upsert, node_by_key, nodes_gone_by_key, token_read,
};
use rap_types::sense::Loopback;
use rap_types::{ApprovalMode, JoinState, KeyId, Reason};
use rap_wire::v1;

use crate::acts::approve::approve_request;
use crate::acts::readmit::require_key;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::cluster::Cluster;
use crate::serve::handle::Serving;
use crate::serve::revoked_tokens::{is_put_back, put_back};

/// Everything a join writes.
pub(crate) async fn write_join(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    cluster: &Cluster,
    (terms, presented): (&TokenTerms, &[u8]),
    new: &NewJoinRequestRow,
) -> Result<JoinRequestRow, Failure> {
    tracing::trace!(way = "a request is written");
    if terms.approval == ApprovalMode::Auto {
        cluster_turn(transaction, &cluster.rows).await?;
    }
    let token = token_read(transaction, &cluster.rows, terms.id).await?.ok_or_else(no_such_token)?;
    check_token_row(terms, presented, &token.terms())?;
    let row = match join_request_upsert(transaction, &cluster.rows, new).await? {
        JoinOutcome::Created(row) => row,
        JoinOutcome::Again(row) => return again(serving, transaction, cluster, row).await,
        JoinOutcome::Refused(token) => {
            return Err(refusal_of_row(&token.terms(), serving.watch.clock.now().wall).into());
        }
        JoinOutcome::Unknown => return Err(no_such_token()),
    };
    // Rolling back gives the use back.
    if is_put_back(&serving.database.floors.current().unwrap_or_default(), &token) {
        serving.watch.alarm(Reason::FloorRollback, &put_back(&token));
        return Err(Failure::new(Reason::TokenRevoked, "token"));
    }
    let known = serving.revocations_now(transaction, cluster).await?;
    require_key(&known.chain, &new.node_public_key)?;
    if node_by_key(transaction, &cluster.rows, &new.node_public_key).await?.is_some() {
        return Err(Failure::new(Reason::EnrollmentKeyInUse, "the key belongs to a node of this cluster"));
    }
    let change = Change::of("node.join", format!("join-request/{}", row.request.request)).inside(cluster.id);
    change.owned_by(terms.organization).record(transaction, acting).await?;
    // The key of a node that went is an operator's to decide, whatever the token says.
    let was_here = !nodes_gone_by_key(transaction, &cluster.rows, &new.node_public_key).await?.is_empty();
    if terms.approval == ApprovalMode::Manual || was_here {
        return Ok(row);
    }
    let acting = &Acting { reason: "by the token".to_owned(), ..acting.clone() };
    approve_request(&serving.watch, transaction, acting, cluster, known, &row, false).await?;
    let row = join_request_read(transaction, &cluster.rows, row.request.request).await?.unwrap_or(row);
    debug_assert_eq!(row.state, JoinState::Approved);
    Ok(row)
}

/// One answer for every token that is not known, whatever its cluster.
pub(crate) fn no_such_token() -> Failure {
    Failure::new(Reason::TokenUnknown, "no such token")
}

/// The request that this key made before. One whose node is gone admits nobody any more.
async fn again(
    serving: &Serving,
    connection: &mut PgConnection,
    cluster: &Cluster,
    row: JoinRequestRow,
) -> Result<JoinRequestRow, Failure> {
    if let Some(node) = row.node {
        let known = serving.revocations_now(connection, cluster).await?;
        if known.chain.bars(&KeyId::of(&row.request.node_public_key)) {
            return Err(Failure::new(
                Reason::NodeRevoked,
                "this key was banned or replaced and never returns",
            ));
        }
        if known.chain.gone(node).is_some() {
            let text = "this token admitted this key before, and that node is gone; use another token";
            return Err(Failure::new(Reason::EnrollmentDecided, text));
        }
    }
    Ok(row)
}

pub(crate) fn check_facts(request: &v1::JoinRequest, loopback: Loopback) -> Result<(), Failure> {
    let invalid = |what: &str| Err(Failure::new(Reason::RequestInvalid, what));
    check_endpoints(&request.link_endpoints, loopback)?;
    check_endpoints(&request.wireguard_endpoints, loopback)?;
    let printable = |text: &str, cap: usize| text.len() <= cap && text.chars().all(|c| !c.is_control());
    if !printable(&request.name, 253) {
        return invalid("name");
    }
    if !printable(&request.agent_version, 64) || !printable(&request.region, 63) {
        return invalid("agent_version or region");
    }
    if request.capabilities.len() > 32 || !request.capabilities.iter().all(|word| printable(word, 64)) {
        return invalid("capabilities");
    }
    Ok(())
}

/// The wished name as one DNS label; the approval finds a free one.
pub(crate) fn label(wished: &str) -> String {
    let first = wished.split('.').next().unwrap_or_default().to_ascii_lowercase();
    if rap_authority::check_name(&first).is_ok() { first } else { "node".to_owned() }
}
