//! Keeps the role-grant set in force: signs it again in time, finds what was done to it, and takes the
//! floor of a replica that has none.

use std::sync::Arc;
use std::time::Duration;

use rap_authority::{Floor, FloorOf};
use rap_rpc::Refusal;
use rap_rpc::dial::{ControlUrl, Dial};
use rap_rpc::v1::grants_client::GrantsClient;
use rap_runtime::{Fault, tls};
use rap_store::role_grant_set_newest;
use rap_types::Reason;
use rap_wire::v1;

use crate::failure::Failure;
use crate::replica::Replica;
use crate::serve::role_grants;

/// Runs until the group is cancelled.
pub async fn keep_grants(replica: Arc<Replica>) {
    let shutdown = replica.tasks.token();
    let mut told = false;
    loop {
        let pause = if has_floor(&replica) {
            look(&replica).await;
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
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn has_floor(replica: &Replica) -> bool {
    replica.database.floors.current().is_some_and(|floors| floors.of(FloorOf::GrantSet).is_some())
}

/// Findings raise their alarms on the way.
async fn look(replica: &Replica) {
    if let Err(failure) = role_grants::current(&replica.serving).await
        && failure.reason != Reason::ActivationRequired
    {
        tracing::warn!(reason = %failure.reason, "no role-grant set is in force: {}", failure.message);
    }
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
        .map_err(|error| Failure::new(Reason::ServerInternal, error.to_string()))?;
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

const SEARCH: Duration = Duration::from_secs(2);

const ASK: Duration = Duration::from_secs(5);
