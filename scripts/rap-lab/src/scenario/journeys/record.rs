//! What the programs' logs say was passed. A module says so with a TRACE event that has the field `way`. Owns reading such events of
//! several processes of one machine in the order of their time.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::page::Step;
use crate::fabric::{Control, Node};
use crate::lab::Lab;

/// Log filter under which every module of the product says what passes it.
pub const FILTER: &str = "info,rap_control_plane=trace,rap_store=trace,rap_planner=trace,rap_authority=trace,\
    rap_contract=trace,rap_node_agent=trace,rap_node=trace,rap_trust=trace,rap_state=trace,rap_dataplane=trace,\
    rap_mesh=trace,rap_link=trace,rap_wireguard=trace";

/// The log of one process.
#[derive(Debug, Clone)]
pub struct Place {
    name: &'static str,
    log: PathBuf,
}

impl Place {
    /// A control plane.
    pub fn control_plane(control: &Control, lab: &Lab) -> Result<Self> {
        Ok(Self { name: "control plane", log: control.part(lab)?.log_path() })
    }

    /// A node's agent.
    pub fn agent(node: &Node, lab: &Lab) -> Result<Self> {
        Ok(Self { name: "agent", log: node.agent(lab)?.log_path() })
    }

    /// A node's data plane.
    pub fn data_plane(node: &Node) -> Self {
        Self { name: "data plane", log: node.host().folder("run").join("default/dataplane.log") }
    }

    /// Everything it logged so far.
    pub fn text(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())
    }
}

/// Logs of several processes from one moment on.
#[derive(Debug)]
pub struct Recording {
    places: Vec<(Place, usize)>,
}

impl Recording {
    /// From now on.
    pub fn begin(places: &[Place]) -> Self {
        let length = |place: &Place| place.text().map_or(0, |text| text.len());
        Self { places: places.iter().map(|place| (place.clone(), length(place))).collect() }
    }

    /// Up to now, together with whole logs that began later: every module in the order in which it was passed, as often as it was.
    pub fn end_with(&self, others: &[(&str, &str)]) -> Result<Vec<Step>> {
        let mut passed = Vec::new();
        for (place, from) in &self.places {
            let text = place.text()?;
            passed.extend(events(place.name, text.get(*from..).unwrap_or_default()));
        }
        for (name, text) in others {
            passed.extend(events(name, text));
        }
        passed.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(passed.into_iter().map(|(_, step)| step).collect())
    }
}

/// Time and step of each event with the field `way`. Times are RFC 3339 in UTC with microseconds, so they sort as text.
fn events(place: &str, text: &str) -> Vec<(String, Step)> {
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        event.get("way")?;
        let (time, module) = (event["timestamp"].as_str()?, event["target"].as_str()?);
        Some((time.to_owned(), Step { place: place.to_owned(), module: module.to_owned() }))
    };
    text.lines().filter_map(event).collect()
}

/// The modules in the order in which each was passed first.
pub fn firsts(passed: &[Step]) -> Vec<Step> {
    let mut seen = HashSet::new();
    passed.iter().filter(|step| seen.insert(*step)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_two_processes_are_merged_by_time_and_each_module_is_named_once() {
        let one = r#"{"timestamp":"2026-01-01T00:00:00.000002Z","level":"TRACE","way":"b","target":"x::b"}
not json
{"timestamp":"2026-01-01T00:00:00.000001Z","level":"TRACE","message":"no step","target":"x::q"}
{"timestamp":"2026-01-01T00:00:00.000004Z","level":"TRACE","way":"b","target":"x::b"}"#;
        let other =
            r#"{"timestamp":"2026-01-01T00:00:00.000003Z","level":"TRACE","way":"a","target":"y::a"}"#;
        let mut passed = events("one", one);
        passed.extend(events("other", other));
        passed.sort_by(|one, other| one.0.cmp(&other.0));
        let passed: Vec<Step> = passed.into_iter().map(|(_, step)| step).collect();
        let shown: Vec<String> = firsts(&passed).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["one: x::b", "other: y::a"]);
    }
}
