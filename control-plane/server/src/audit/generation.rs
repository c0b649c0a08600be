//! Generations of the log: the first, and a new one that an owner begins after history was lost.
//!
//! Owns the record that the installation authority signs for a new log key. A new generation never
//! begins by itself: it is how lost or altered history is admitted to.

use rap_authority::{FloorOf, known_features};
use rap_contract::{LogKeyChain, LogKeyTerms, Signer, sign_log_key};
use rap_store::{LogKeyRow, log_key_insert};
use rap_types::Reason;

use crate::audit::alarm::{alarm, checkpoint_of};
use crate::audit::follow::{follow_in_turn, read};
use crate::audit::log::AuditLog;
use crate::audit::term::fenced;
use crate::auth::actor::Actor;
use crate::database::change::Change;
use crate::database::handle::transact;
use crate::failure::Failure;
use crate::keys::seal_context::Sealed;
use crate::watch::handle::Watch;

/// Signs and stores the record of the next generation, with the tree as it is.
pub(crate) async fn begin(
    watch: &Watch,
    log: &AuditLog,
    term: u64,
    reason: &str,
) -> Result<LogKeyChain, Failure> {
    let facts = &watch.keys.installation.facts;
    let previous = log.keys();
    let (first_size, root) = {
        let state = log.state();
        (state.tree.size(), state.tree.root(state.tree.size()))
    };
    let first_root = root.ok_or_else(|| Failure::new(Reason::ServerInternal, "root"))?;
    let now = watch.clock.now().wall;
    let terms = LogKeyTerms { installation: facts.id, dev: facts.dev, first_size, first_root, reason, now };
    let key = Signer::generate(&mut rand::rng());
    let record = sign_log_key(&terms, previous.as_ref(), &watch.keys.installation.authority, &key);
    let mut records = previous.map(|chain| chain.envelopes().to_vec()).unwrap_or_default();
    records.push(record.clone());
    let chain = LogKeyChain::verify(&records, &facts.authority, facts.id, known_features(facts.dev))?;
    let generation = chain.newest().generation;
    let row = LogKeyRow {
        generation,
        record,
        public_key: *key.public().as_bytes(),
        sealed_private_key: Sealed::LogKey(generation).seal(&watch.keys.kek, facts.id, key.seed().as_slice()),
    };
    let stored = transact!(watch.database.store, |connection| {
        Ok(log_key_insert(connection, &row, term, first_size).await?)
    });
    if !stored? {
        return Err(fenced());
    }
    log.state().keys = Some(chain.clone());
    Ok(chain)
}

/// Begins a new generation with the rows that are there. They must hold together among themselves;
/// only what was lost at their end is given up. Returns the generation and its first size.
///
/// # Errors
/// What was found, while a row is altered or missing in between; those of the database.
pub async fn restart(
    watch: &Watch,
    log: &AuditLog,
    actor: &Actor,
    reason: &str,
) -> Result<(u64, u64), Failure> {
    let mut sequencer = log.turn.lock().await;
    let term = sequencer.seize(&watch.database).await?;
    let given_up = log.newest().borrow().as_ref().map(|signed| signed.checkpoint);
    let held = watch.database.floors.current().and_then(|floors| floors.of(FloorOf::Checkpoint));
    let past = [given_up, held.as_ref().map(checkpoint_of)].into_iter().flatten().max();
    log.forget();
    if let Err(finding) = read(&watch.keys, &watch.database, log).await? {
        alarm(watch, log, finding);
        return Err(Failure::new(finding.reason, finding.what));
    }
    let mut chain = begin(watch, log, term, reason).await?;
    while past.is_some_and(|past| chain.newest().generation <= past.generation) {
        chain = begin(watch, log, term, reason).await?;
    }
    let (generation, size) = (chain.newest().generation, chain.newest().first_size);
    let acting = actor.acting(reason);
    let change = Change::of("audit.restart", format!("audit/{generation}"));
    let change = change.before(past.map(|past| past.root)).after(chain.digest());
    transact!(watch.database.store, |connection| Ok(change.clone().record(connection, &acting).await?))?;
    follow_in_turn(watch, log).await?;
    Ok((generation, size))
}
