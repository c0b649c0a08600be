//! The memberships of this agent by name: how to reach each, or why it does not run.
//!
//! Owns lookup and listing. Refuses to start and stop: the host does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rap_runtime::Fault;
use rap_types::Reason;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::requests::Request;

/// One membership.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Constant facts, for lists.
    pub facts: Map<String, Value>,
    /// Where to ask it, or why it does not run.
    pub state: Result<mpsc::Sender<Request>, Fault>,
}

/// All memberships that this agent knows. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Directory(Arc<Mutex<BTreeMap<String, Entry>>>);

impl Directory {
    /// A membership runs, or does not and why.
    pub fn set(&self, name: &str, entry: Entry) {
        self.entries().insert(name.to_owned(), entry);
    }

    /// It is gone from this host.
    pub fn remove(&self, name: &str) {
        self.entries().remove(name);
    }

    /// True if it runs.
    pub fn is_running(&self, name: &str) -> bool {
        self.entries().get(name).is_some_and(|entry| entry.state.is_ok())
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.entries().values().filter(|entry| entry.state.is_ok()).count()
    }

    /// Why it does not run, if so.
    pub fn failure(&self, name: &str) -> Option<Fault> {
        self.entries().get(name)?.state.as_ref().err().cloned()
    }

    /// The names that a call for `name` concerns: that one, or all for an empty name.
    ///
    /// # Errors
    /// `membership.absent`.
    pub fn names(&self, name: &str) -> Result<Vec<String>, Fault> {
        let entries = self.entries();
        let names: Vec<String> =
            entries.keys().filter(|known| name.is_empty() || *known == name).cloned().collect();
        if names.is_empty() { Err(absent()) } else { Ok(names) }
    }

    /// The membership of this name; for an empty name the only one.
    ///
    /// # Errors
    /// `membership.absent`, `request.invalid` if a name is needed, or why it does not run.
    pub fn one(&self, name: &str) -> Result<mpsc::Sender<Request>, Fault> {
        let names = self.names(name)?;
        let [name] = names.as_slice() else {
            let text = format!("several memberships run here: {}; give --membership", names.join(", "));
            return Err(Fault::new(Reason::RequestInvalid, text));
        };
        let entries = self.entries();
        entries.get(name).ok_or_else(absent)?.state.clone()
    }

    /// Every membership by name, with the way in or why it does not run.
    pub fn all(&self) -> Vec<(String, Result<mpsc::Sender<Request>, Fault>)> {
        self.entries().iter().map(|(name, entry)| (name.clone(), entry.state.clone())).collect()
    }

    /// Every membership, for `memberships`.
    pub fn list(&self) -> Vec<Value> {
        let entries = self.entries();
        let listed = entries.iter().map(|(name, entry)| {
            let mut document = entry.facts.clone();
            document.insert("membership".into(), json!(name));
            let failure = entry.state.as_ref().err();
            document.insert("state".into(), if failure.is_some() { "stopped" } else { "running" }.into());
            document.insert("reason".into(), json!(failure.map(|fault| fault.reason)));
            document.insert("text".into(), json!(failure.map(|fault| &fault.message)));
            Value::Object(document)
        });
        listed.collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal of a name that nobody here has.
pub fn absent() -> Fault {
    Fault::new(Reason::MembershipAbsent, "no such membership runs here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Entry {
        Entry { facts: Map::new(), state: Ok(mpsc::channel(1).0) }
    }

    #[test]
    fn an_empty_name_is_the_only_membership_and_never_a_guess() {
        let directory = Directory::default();
        assert_eq!(directory.one("").unwrap_err().reason, Reason::MembershipAbsent);
        directory.set("b", running());
        directory.one("").unwrap();
        directory.one("b").unwrap();
        let stopped = Fault::new(Reason::OverlayOverlap, "taken");
        directory.set("a", Entry { facts: Map::new(), state: Err(stopped) });
        let refused = directory.one("").unwrap_err();
        assert_eq!(refused.reason, Reason::RequestInvalid);
        assert!(refused.message.contains("a, b"), "{}", refused.message);
        assert_eq!(
            directory.one("a").unwrap_err().reason,
            Reason::OverlayOverlap,
            "says why it does not run"
        );
        assert_eq!(directory.one("c").unwrap_err().reason, Reason::MembershipAbsent);
        let states: Vec<_> = directory.list().iter().map(|entry| entry["state"].clone()).collect();
        assert_eq!(states, ["stopped", "running"]);
        directory.remove("a");
        directory.one("").unwrap();
    }
}
