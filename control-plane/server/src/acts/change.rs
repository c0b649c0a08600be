//! The second half of every act: what its transaction wrote is committed, put in force here and told to other replicas.
//!
//! Owns the one commit of the acts. What this replica signed counts here as it was signed, whatever the database says
//! afterwards. Refuses to make a failure of an act that is done: what cannot follow is a warning beside the answer.

use rap_authority::{Floor, FloorOf};
use rap_store::{Committed, Effects, SignedCopy, SystemTransaction};

use crate::database::change::Acting;
use crate::failure::Failure;
use crate::serve::handle::Serving;
use crate::serve::told::tell;

/// Runs the first half of an act in a transaction, then the second half.
///
/// `commit!(serving, &acting, |transaction| write(transaction, &acting).await)` is a `Result<T, Failure>`. The first half
/// runs again if another transaction was in the way. It begins with the claim of the call's key, and ends with what was
/// written.
macro_rules! commit {
    ($serving:expr, $acting:expr, |$transaction:ident| $write:expr) => {{
        let serving: &$crate::serve::handle::Serving = $serving;
        let acting: &$crate::database::change::Acting = $acting;
        let claim = acting.claim.take();
        let written: Result<_, $crate::failure::Failure> =
            rap_store::transact_and_keep!(serving.database.store.system(), |$transaction| {
                $crate::acts::claim::claim_key(serving, $transaction, claim).await?;
                let written: Result<_, $crate::failure::Failure> = $write;
                let answer = written?;
                $crate::acts::claim::write_down(serving, $transaction, claim).await?;
                $crate::acts::change::tell_floors(serving, $transaction).await?;
                Ok(answer)
            });
        $crate::acts::change::follow(serving, acting, written).await
    }};
}
pub(crate) use commit;

/// Tells other replicas which floors rise with this transaction: they accept less from the moment it is committed.
pub(crate) async fn tell_floors(
    serving: &Serving,
    transaction: &mut SystemTransaction,
) -> Result<(), Failure> {
    let mut floors = transaction.effects.signed.clone();
    for (id, known) in &transaction.effects.revoked {
        let at = known.chain.digest().map(|digest| Floor { sequence: known.chain.sequence(), digest });
        floors.extend(at.map(|at| (FloorOf::Revocations(*id), at)));
    }
    let copies = transaction.effects.copies.clone();
    for floor in floors {
        let of_it: Vec<SignedCopy> = copies.iter().filter(|copy| is_of(copy, floor.0)).cloned().collect();
        tell(&serving.keys, transaction, floor, &of_it).await?;
    }
    Ok(())
}

fn is_of(copy: &SignedCopy, of: FloorOf) -> bool {
    match copy {
        SignedCopy::RoleGrantSet { .. } | SignedCopy::RoleGrant { .. } => of == FloorOf::GrantSet,
        SignedCopy::Revocation { cluster, .. } => of == FloorOf::Revocations(*cluster),
    }
}

/// The second half. The answer is that of the first half, if the database holds what it wrote.
///
/// # Errors
/// Those of the first half; `row.tampered` if the database holds something else; `store.outcome_unknown`.
pub(crate) async fn follow<T>(
    serving: &Serving,
    acting: &Acting,
    written: Result<(T, Committed), Failure>,
) -> Result<T, Failure> {
    let (answer, mut committed) = written?;
    let Effects { signed, revoked, keys, mut touched, copies } = std::mem::take(&mut committed.effects);
    let now = serving.watch.clock.now().wall;
    let mut whole = true;
    // A restriction waits for no disk but that of its floor.
    for (id, chain) in revoked {
        if let Some(cluster) = serving.clusters.by_id(id) {
            whole &= followed(serving.learn_revocations(&cluster, chain).await);
        }
        touched.insert(id, true);
    }
    whole &= followed(serving.database.copies.keep(now, copies).await);
    for (of, at) in signed {
        whole &= followed(serving.raise_floor(of, at).await);
    }
    for id in keys {
        whole &= followed(serving.load_cluster_from(committed.connection(), id).await);
        touched.insert(id, true);
    }
    for (id, urgent) in touched {
        whole &= followed(serving.publish(committed.connection(), id, urgent).await);
    }
    let (read_back, ended) = committed.end().await;
    whole &= followed(ended.map_err(Failure::from));
    if !whole {
        acting.pending.set();
    }
    if read_back.is_err() {
        serving.heal.notify_one();
    }
    read_back?;
    Ok(answer)
}

/// False, with a line in the log, for what could not be done.
fn followed<T>(done: Result<T, Failure>) -> bool {
    if let Err(failure) = &done {
        tracing::error!(reason = %failure.reason, "an act is done; what follows is not: {}", failure.message);
    }
    done.is_ok()
}
