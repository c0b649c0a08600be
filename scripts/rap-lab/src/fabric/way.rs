//! How traffic between two nodes goes, as the first one says: which way it takes, and which relays are planned.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{CALL, Node};
use crate::command::Invocation;
use crate::wait::wait_until;

/// The way that traffic takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// `direct`, `relayed` or empty.
    pub kind: String,
    /// Names of the relays.
    pub via: Vec<String>,
}

/// What is planned for a destination, and which of it is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// Relays of the path in use.
    pub via: Vec<String>,
    /// Relays of the first path.
    pub primary: Vec<String>,
    /// Relays of the second path.
    pub backup: Vec<String>,
}

impl Way {
    fn of(peer: &Value) -> Self {
        Self { kind: peer["way"].as_str().unwrap_or_default().to_owned(), via: names(&peer["via"]) }
    }
}

impl Node {
    /// The way to every node that it knows, by name.
    pub fn ways(&self) -> Result<Vec<(String, Way)>> {
        let (_, status) = self.status()?;
        let named = |peer: &Value| Some((peer["name"].as_str()?.to_owned(), Way::of(peer)));
        Ok(peers(&status).filter_map(named).collect())
    }

    /// The way to another node.
    pub fn way_to(&self, other: &Self) -> Result<Way> {
        let (_, status) = self.status()?;
        let peer = peers(&status).find(|peer| peer["name"] == other.name());
        peer.map(Way::of).with_context(|| format!("{} does not know {}", self.name(), other.name()))
    }

    /// Waits until the way to another node is as wanted.
    pub fn wait_way_to(
        &self,
        other: &Self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Way) -> bool,
    ) -> Result<Way> {
        let last = RefCell::new(None);
        wait_until(deadline, what, || {
            let way = self.way_to(other)?;
            last.replace(Some(way.clone()));
            Ok(wanted(&way).then_some(way))
        })
        .with_context(|| format!("last way: {:?}", last.borrow()))
    }

    /// What is planned for another node.
    pub fn planned_to(&self, other: &Self) -> Result<Planned> {
        let call = Invocation::typed("rap-node-agent --membership default paths --json")?;
        let document = self.host().run(&call, CALL)?.success()?.json()?;
        let path =
            document["paths"].as_array().into_iter().flatten().find(|path| path["name"] == other.name());
        let path = path.with_context(|| format!("no path to {} in {document}", other.name()))?;
        let [via, primary, backup] = ["via", "primary", "backup"].map(|field| names(&path[field]));
        Ok(Planned { via, primary, backup })
    }
}

/// The peers of a status, of every tier.
pub(super) fn peers(status: &Value) -> impl Iterator<Item = &Value> {
    ["active", "warm", "cold"].into_iter().filter_map(|tier| status["peers"][tier].as_array()).flatten()
}

fn names(relays: &Value) -> Vec<String> {
    let named = relays.as_array().into_iter().flatten().filter_map(|relay| relay["name"].as_str());
    named.map(str::to_owned).collect()
}
