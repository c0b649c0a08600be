//! Taints and revokes a replaced authority of a cluster.

use rap_authority::{AuthorityLife, AuthorityStep};
use rap_contract::KeyState;
use rap_store::{SystemTransaction, authority_confirmations, authority_state_set};
use rap_types::{ClusterId, Reason};
use rap_wire::v1;

use crate::acts::lock_cluster::LockedCluster;
use crate::database::change::{Acting, Change};
use crate::failure::Failure;
use crate::serve::confirmations::is_awaited;
use crate::serve::handle::Serving;

pub(crate) async fn write_step(
    serving: &Serving,
    transaction: &mut SystemTransaction,
    acting: &Acting,
    id: ClusterId,
    request: &v1::AuthorityStepRequest,
    (from, to): (KeyState, KeyState),
) -> Result<(), Failure> {
    let held = LockedCluster::lock(&serving.keys, &serving.database, transaction, id).await?;
    let wanted = match request.sequence {
        0 => oldest(&held.stored.life, from)?,
        sequence => sequence,
    };
    let (legal, action) = match to {
        KeyState::Revoked => (AuthorityStep::Revoke { sequence: wanted }, "authority.revoke"),
        _ => {
            let nodes = authority_confirmations(transaction, id).await?;
            let now = serving.watch.clock.now().wall;
            let awaited = nodes.iter().filter(|node| is_awaited(serving, node, id, wanted + 1, now));
            let unconfirmed = awaited.count() as u64;
            let step = AuthorityStep::Taint { sequence: wanted, unconfirmed, force: request.force };
            (step, "authority.taint")
        }
    };
    held.stored.life.after(legal)?;
    if !authority_state_set(transaction, &held.rows, wanted, from, to).await? {
        return Err(Failure::new(Reason::RequestConflict, "the key's state changed meanwhile"));
    }
    let digest = held.stored.chain.digest_at(wanted);
    let forced = if request.force { " (forced)" } else { "" };
    let reason = format!("record {wanted}{forced} {}", acting.reason);
    let change = Change::of(action, format!("cluster/{id}")).inside(id).after(digest);
    change.because(reason.trim()).record(transaction, acting).await?;
    Ok(())
}

/// The oldest key in a state, the one that signs aside.
fn oldest(life: &AuthorityLife, state: KeyState) -> Result<u64, Failure> {
    let is = |sequence: &u64| life.state(*sequence) == Some(state);
    let none = || Failure::new(Reason::AuthorityState, "no key is in the state that this step needs");
    (1..life.signer()).find(is).ok_or_else(none)
}
