//! Keeps the role-grant set in force: signs it again in time, finds what was done to it, and takes the
//! floor of a replica that has none.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::{Floor, FloorOf};
use rap_rpc::Refusal;
use rap_rpc::dial::{ControlUrl, Dial};
use rap_rpc::v1::grants_client::GrantsClient;
use rap_runtime::{Fault, tls};
use rap_store::{
    RevocationRow, RoleGrantRow, SignedCopy, revocations_from, role_grant_set_newest, role_grant_sets_from,
    role_grants_list,
};
use rap_types::Reason;
use rap_wire::v1;

use crate::acts::heal::heal;
use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::role_grants;

/// Runs until the group is cancelled.
pub async fn keep_grants(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    let (mut told, mut owed) = (false, true);
    loop {
        let pause = if has_floor(&replica) {
            look(&replica).await;
            if owed {
                owed = put_back(&replica).await.is_err();
            }
            EVERY
        } else {
            if !told {
                told = tell_of_missing_floor(&replica).await;
            }
            take_floor(&replica).await;
            if has_floor(&replica) { Duration::ZERO } else { SEARCH }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            // What could not be put back waits for the next look: the database may undo it each time.
            () = replica.serving.heal.notified(), if !owed => owed = true,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Puts back what the database lost; tried again with the next look if that fails.
async fn put_back(replica: &Arc<Replica>) -> Result<(), Failure> {
    let healed = heal(&replica.serving).await;
    match &healed {
        Ok(0) => {}
        Ok(documents) => {
            tracing::warn!(documents, "signed documents that the database had lost were put back")
        }
        Err(failure) => {
            tracing::error!(reason = %failure.reason, "signed documents cannot be put back: {}", failure.message);
        }
    }
    healed.map(drop)
}

fn has_floor(replica: &Replica) -> bool {
    replica.database.floors.current().is_some_and(|floors| floors.of(FloorOf::GrantSet).is_some())
}

/// Findings raise their alarms on the way.
async fn look(replica: &Replica) {
    match role_grants::current(&replica.serving).await {
        Ok(_) => {
            if let Err(failure) = keep_copies(replica).await {
                tracing::warn!(reason = %failure.reason, "no copies were kept: {}", failure.message);
            }
        }
        Err(failure) if failure.reason == Reason::ActivationRequired => {}
        Err(failure) => {
            tracing::warn!(reason = %failure.reason, "no role-grant set is in force: {}", failure.message);
        }
    }
}

/// Keeps the documents that other replicas signed, as they are in the database now.
async fn keep_copies(replica: &Replica) -> Result<(), Failure> {
    let Some(floor) = replica.database.floors.current().and_then(|floors| floors.of(FloorOf::GrantSet))
    else {
        return Ok(());
    };
    let verifier = replica.keys.installation.role_grant_verifier();
    let mut snapshot = replica.database.store.system().begin_snapshot().await?;
    let mut copies = Vec::new();
    for envelope in role_grant_sets_from(&mut snapshot, floor.sequence).await? {
        let set = verifier.open_set(&envelope)?;
        copies.push(SignedCopy::RoleGrantSet { sequence: set.sequence, digest: set.digest, envelope });
    }
    let grants = role_grants_list(&mut snapshot).await?;
    copies.extend(grants.into_iter().rev().take(COPIES).rev().map(RoleGrantRow::into_copy));
    for cluster in replica.serving.clusters.all() {
        let newest = cluster.revocations.known().chain.sequence();
        let from = newest.saturating_sub(COPIES as u64) + 1;
        for RevocationRow { sequence, record } in
            revocations_from(&mut snapshot, cluster.id, from, COPIES as u32).await?
        {
            // What this replica did not verify is not kept.
            if sequence <= newest {
                copies.push(SignedCopy::Revocation { cluster: cluster.id, sequence, record });
            }
        }
    }
    drop(snapshot);
    replica.database.copies.keep(replica.watch.clock.now().wall, copies).await
}

/// True once the log says what a person can do.
async fn tell_of_missing_floor(replica: &Replica) -> bool {
    let newest = async {
        let mut transaction = replica.database.store.system().begin().await?;
        let newest = role_grant_set_newest(&mut transaction).await?;
        let open = |set: Vec<u8>| replica.keys.installation.role_grant_verifier().open_set(&set);
        Ok::<_, Failure>(newest.map(open).transpose()?.map_or(0, |set| set.sequence))
    };
    match newest.await {
        Ok(sequence) => {
            tracing::error!(
                reason = %Reason::FloorMissing, sequence,
                "this replica has no floor of the role-grant set and allows no platform action; it asks the other \
                 replicas, or compare the sequence with one of them and run: rap-control-plane floors confirm"
            );
            true
        }
        Err(_) => false,
    }
}

/// From the file, if a person confirmed meanwhile; else from the highest set of other replicas.
async fn take_floor(replica: &Replica) {
    match replica.database.floors.reload().await {
        Ok(()) if has_floor(replica) => {
            tracing::info!("the floor of the role-grant set was confirmed");
            return;
        }
        Ok(()) => {}
        Err(failure) => tracing::error!(reason = %failure.reason, "{}", failure.message),
    }
    let mut highest: Option<Floor> = None;
    for url in &replica.config.control_urls {
        match ask(replica, url).await {
            Ok(floor) if highest.is_none_or(|known| known.sequence < floor.sequence) => highest = Some(floor),
            Ok(_) => {}
            Err(failure) => {
                tracing::debug!(%url, reason = %failure.reason, "no role-grant set from there: {}", failure.message);
            }
        }
    }
    let Some(floor) = highest else { return };
    match replica.database.floors.raise(FloorOf::GrantSet, floor).await {
        Ok(()) => tracing::info!(
            sequence = floor.sequence,
            "took the floor of the role-grant set from another replica"
        ),
        Err(failure) => tracing::error!(reason = %failure.reason, "{}", failure.message),
    }
}

/// The newest set that the replica at `url` has verified. Only a holder of the installation's TLS CA
/// answers there, and one without a floor of its own refuses.
async fn ask(replica: &Replica, url: &str) -> Result<Floor, Failure> {
    let failed = |fault: Fault| Failure::new(fault.reason, fault.message);
    let pins = tls::Pins::one(replica.keys.installation.facts.tls_ca_pin);
    let config = tls::operator_client(pins, Arc::new(replica.watch.clock))
        .map_err(Failure::of(Reason::ServerInternal))?;
    let mut dial = Dial::new(config, tls::ALPN_OPERATOR, ASK);
    dial.call_timeout = Some(ASK);
    let channel = dial.open(&ControlUrl::parse(url).map_err(failed)?, |_| Ok(())).await.map_err(failed)?;
    let answer = GrantsClient::new(channel).newest_set(v1::GrantSetRequest {}).await.map_err(|status| {
        let refusal = Refusal::from(status);
        Failure::new(refusal.reason, refusal.fault.message)
    })?;
    let set = replica.keys.installation.role_grant_verifier().open_set(&answer.into_inner().set)?;
    Ok(Floor { sequence: set.sequence, digest: set.digest })
}

const EVERY: Duration = Duration::from_secs(10);

/// Copies of each chain.
const COPIES: usize = 64;

const SEARCH: Duration = Duration::from_secs(2);

const ASK: Duration = Duration::from_secs(5);
