//! What nodes went through while nobody heard them, in the log.
//!
//! Owns how much of it is logged: one line per report, and of one node at most one per interval, over all
//! its streams. Refuses to keep any of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rap_types::{Mono, NodeContact, NodeId};
use rap_wire::v1;

/// When each node's changes were logged last.
#[derive(Debug, Default)]
pub struct ContactLog(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    logged: BTreeMap<NodeId, Mono>,
    swept: Mono,
}

impl ContactLog {
    /// Logs a report's changes, unless the node had its line a moment ago.
    pub fn note(&self, node: NodeId, changes: &[v1::ContactChange], now: Mono) {
        let Some(line) = line(changes) else { return };
        if self.may_log(node, now) {
            tracing::info!(%node, changes = line, "a node's contact changed");
        }
    }

    fn may_log(&self, node: NodeId, now: Mono) -> bool {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.since(lines.swept) >= EVERY {
            lines.swept = now;
            lines.logged.retain(|_, at| now.since(*at) < EVERY);
        }
        let open = lines.logged.get(&node).is_none_or(|at| now.since(*at) >= EVERY);
        if open {
            lines.logged.insert(node, now);
        }
        open
    }
}

/// `contact@unix_ms`, one after the other. Words of a newer agent are passed over.
fn line(changes: &[v1::ContactChange]) -> Option<String> {
    let known = changes.iter().take(CHANGES).filter_map(|change| {
        let contact = change.contact.parse::<NodeContact>().ok()?;
        Some(format!("{contact}@{}", change.at_ms))
    });
    let words: Vec<String> = known.collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// As many as an agent keeps.
const CHANGES: usize = 32;

const EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_are_one_line_and_many_reports_are_one_line_per_interval() {
        let change = |contact: &str, at_ms| v1::ContactChange { contact: contact.into(), at_ms };
        let word = NodeContact::Degraded.to_string();
        let changes = vec![change(&word, 7), change("\u{1b}[31m", 8), change(&word, -1)];
        assert_eq!(line(&changes), Some(format!("{word}@7 {word}@-1")));
        assert_eq!(line(&[change("new words", 1)]), None);
        assert!(line(&vec![change(&word, i64::MIN); 1000]).unwrap().len() < 2_000);
        let log = ContactLog::default();
        let at = |ms: u64| Mono(1).plus(Duration::from_millis(ms));
        let [one, two] = [1, 2].map(|byte| NodeId::from_bytes([byte; 16]));
        let logged = (0..72_000).filter(|turn| log.may_log(one, at(turn * 50))).count();
        assert_eq!(logged, 360, "of an hour of twenty reports a second");
        assert!(log.may_log(two, at(3_600_001)) && !log.may_log(two, at(3_600_002)));
        assert!(log.may_log(one, at(3_700_000)));
        assert_eq!(log.0.lock().unwrap().logged.len(), 1, "who is quiet is forgotten");
    }
}
