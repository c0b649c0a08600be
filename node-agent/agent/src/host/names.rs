//! Looks up the names in the endpoints of peers, by the host's resolver.
//!
//! Owns when: at once for a new name, again after a minute, 5 s after a look-up without an address, and 5 s after a
//! look-up if a dial failed since. No resolver modules run in the privileged data plane. Refuses to judge answers:
//! `rap_node` does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rap_node::WantedNames;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A name with its addresses, of both families.
pub type Answer = (String, Vec<SocketAddr>);

/// When a name was asked for last.
#[derive(Debug)]
struct Asked {
    at: Instant,
    /// Failed dials before it.
    failures: u64,
    is_answered: bool,
}

impl Asked {
    /// Sooner if there was no address, or a dial failed since.
    fn due_at(&self, failures: u64) -> Instant {
        self.at + if self.is_answered && self.failures == failures { EVERY } else { AFTER_FAILURE }
    }
}

/// Looks up what is wanted until cancelled.
pub async fn resolve_names(
    mut wanted: watch::Receiver<WantedNames>,
    answers: mpsc::Sender<Vec<Answer>>,
    cancel: CancellationToken,
) {
    let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
    loop {
        let WantedNames { names, failures } = wanted.borrow_and_update().clone();
        asked.retain(|name, _| names.contains(name));
        let now = Instant::now();
        let due_at = |asked: &Asked| asked.due_at(failures);
        let is_due = |name: &&String| asked.get(*name).is_none_or(|asked| due_at(asked) <= now);
        let due: Vec<String> = names.iter().filter(is_due).take(AT_ONCE).cloned().collect();
        let found = tokio::select! {
            () = cancel.cancelled() => return,
            found = look_up(due) => found,
        };
        asked.extend(found.iter().map(|(name, addresses)| {
            (name.clone(), Asked { at: now, failures, is_answered: !addresses.is_empty() })
        }));
        if !found.is_empty() && answers.send(found).await.is_err() {
            return;
        }
        let next = match asked.len() < names.len() {
            true => Instant::now(),
            false => asked.values().map(due_at).min().unwrap_or_else(|| Instant::now() + EVERY),
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

async fn look_up(names: Vec<String>) -> Vec<Answer> {
    let mut asking = JoinSet::new();
    for name in names {
        asking.spawn(async move {
            let found: Result<Vec<SocketAddr>, _> =
                match tokio::time::timeout(DEADLINE, tokio::net::lookup_host(name.as_str())).await {
                    Ok(found) => found.map(Iterator::collect),
                    Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
                };
            if let Err(error) = &found {
                tracing::debug!(name, %error, "an endpoint's name has no address");
            }
            (name, found.unwrap_or_default())
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer.ok());
    }
    answers
}

const EVERY: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 32;
