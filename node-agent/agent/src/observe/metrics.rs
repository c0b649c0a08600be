//! Metrics of every membership, read from their status documents: one truth for people and for Prometheus.
//!
//! Owns the families. Refuses to own numbers: what `status` does not say is no metric.

use rap_runtime::metrics::{Exposition, Family, Kind};
use serde_json::Value;

/// The text for these memberships: name, and status document if the membership answered.
pub fn text(memberships: &[(String, Option<Value>)]) -> String {
    let mut exposition = Exposition::new();
    exposition.write(&INFO, [([env!("CARGO_PKG_VERSION")], 1.0)]);
    exposition.write_one(&MEMORY, resident_bytes());
    let up = memberships.iter().map(|(name, status)| ([name], flag(status.is_some())));
    exposition.write(&UP, up);
    let running: Vec<(&str, &Value)> =
        memberships.iter().filter_map(|(name, status)| Some((name.as_str(), status.as_ref()?))).collect();
    for (family, samples) in READINGS {
        let samples = running.iter().flat_map(|(name, status)| {
            samples(status).into_iter().map(|(label, value)| {
                let mut labels = vec![(*name).to_owned()];
                labels.extend(label);
                (labels, value)
            })
        });
        exposition.write(family, samples);
    }
    exposition.into_text()
}

/// Everything that the endpoint exposes.
#[cfg(test)]
fn families() -> Vec<Family> {
    let mut families = vec![INFO, MEMORY, UP];
    families.extend(READINGS.iter().map(|(family, _)| *family));
    families
}

/// Second label, if the family has one, and value.
type Sample = (Option<String>, f64);
/// How a family is read from a status document.
type Reading = (Family, fn(&Value) -> Vec<Sample>);

const READINGS: &[Reading] = &[
    (gauge("rap_agent_degraded", "1", "1 if status says degraded."), |status| {
        vec![(None, flag(status["degraded"] == true))]
    }),
    (
        by("rap_agent_degraded_reason", Kind::Gauge, &REASON, "1 for each reason why the node is degraded."),
        |status| each(&status["degraded_reasons"]).map(|reason| (Some(reason), 1.0)).collect(),
    ),
    (
        by(
            "rap_agent_rejected_total",
            Kind::Counter,
            &REASON,
            "Refused messages and snapshots by reason code.",
        ),
        |status| counts(&status["rejects"]),
    ),
    (by("rap_agent_alarms_total", Kind::Counter, &REASON, "Alarms by reason code."), |status| {
        counts(&status["alarms"])
    }),
    (gauge("rap_agent_snapshot_incarnation", "1", "Incarnation of the snapshot in use."), |status| {
        one(&status["active"]["incarnation"], 1.0)
    }),
    (gauge("rap_agent_snapshot_version", "1", "Version of the snapshot in use."), |status| {
        one(&status["active"]["sequence"], 1.0)
    }),
    (gauge("rap_agent_snapshot_age_seconds", "seconds", "Time since its head was signed."), |status| {
        let freshness = &status["freshness"];
        let age = freshness["trusted_now_ms"].as_f64().zip(freshness["issued_at_ms"].as_f64());
        age.map(|(now, issued)| (None, (now - issued) / 1e3)).into_iter().collect()
    }),
    (
        by("rap_agent_freshness", Kind::Gauge, &["membership", "state"], "1 for the present state."),
        |status| {
            let present = status["freshness"]["state"].as_str().unwrap_or("absent");
            let states = ["fresh", "degraded", "expired", "absent"];
            states.into_iter().map(|state| (Some(state.to_owned()), flag(state == present))).collect()
        },
    ),
    (gauge("rap_agent_fresh_until_timestamp_seconds", "seconds", "End of fresh."), |status| {
        one(&status["freshness"]["fresh_until_ms"], 1e3)
    }),
    (gauge("rap_agent_degraded_until_timestamp_seconds", "seconds", "End of degraded."), |status| {
        one(&status["freshness"]["degraded_until_ms"], 1e3)
    }),
    (gauge("rap_agent_frozen", "1", "1 while the node holds proof of two histories."), |status| {
        let frozen = each(&status["degraded_reasons"]).any(|reason| reason == "snapshot.frozen");
        vec![(None, flag(frozen))]
    }),
    (gauge("rap_agent_control_connected", "1", "1 while the control plane is heard."), |status| {
        vec![(None, flag(status["control"]["connected"] == true))]
    }),
    (gauge("rap_agent_control_contact_age_seconds", "seconds", "Time since it was last heard."), |status| {
        one(&status["control"]["last_contact_ms_ago"], 1e3)
    }),
    (
        gauge("rap_agent_certificate_expiry_timestamp_seconds", "seconds", "End of the node's certificate."),
        |status| one(&status["certificate"]["not_after_ms"], 1e3),
    ),
    (gauge("rap_agent_peers", "1", "Peers in the snapshot."), |status| {
        let tiers = ["active", "warm", "cold"];
        let peers = tiers.iter().filter_map(|tier| Some(status["peers"][tier].as_array()?.len()));
        vec![(None, peers.sum::<usize>() as f64)]
    }),
    (by("rap_agent_links", Kind::Gauge, &["membership", "state"], "Links by state."), |status| {
        let links = status["links"].as_array();
        let links = links.into_iter().flatten().filter_map(|link| link["state"].as_str());
        LINK_STATES
            .iter()
            .map(|state| {
                let count = links.clone().filter(|present| present == state).count();
                (Some((*state).to_owned()), count as f64)
            })
            .collect()
    }),
    (gauge("rap_agent_dataplane_up", "1", "1 if the data plane answers."), |status| {
        vec![(None, flag(status["dataplane"]["up"] == true))]
    }),
    (
        gauge("rap_agent_dataplane_table_published", "1", "Version of the newest forwarding table."),
        |status| one(&status["dataplane"]["table_version"], 1.0),
    ),
    (gauge("rap_agent_dataplane_table_applied", "1", "Version of the table in force."), |status| {
        one(&status["dataplane"]["table_applied"], 1.0)
    }),
    (
        gauge("rap_agent_dataplane_resident_memory_bytes", "bytes", "Resident memory of the data plane."),
        |status| one(&status["dataplane"]["rss_bytes"], 1.0),
    ),
    (
        by(
            "rap_agent_dataplane_drops_total",
            Kind::Counter,
            &REASON,
            "What the data plane dropped, by reason.",
        ),
        |status| counts(&status["dataplane"]["drops"]),
    ),
    (gauge("rap_agent_cache_bytes", "bytes", "Bytes in the cache."), |status| {
        one(&status["cache"]["bytes"], 1.0)
    }),
    (counter("rap_agent_cache_quarantines_total", "Damaged caches moved aside."), |status| {
        one(&status["cache"]["quarantined"], 1.0)
    }),
    (counter("rap_agent_cache_dropped_total", "Damaged values removed from the cache."), |status| {
        one(&status["cache"]["dropped"], 1.0)
    }),
];

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// A number of the document, in a larger unit; nothing where the document has none.
fn one(value: &Value, per: f64) -> Vec<Sample> {
    value.as_f64().map(|value| (None, value / per)).into_iter().collect()
}

fn each(list: &Value) -> impl Iterator<Item = String> + '_ {
    list.as_array().into_iter().flatten().filter_map(|value| Some(value.as_str()?.to_owned()))
}

fn counts(map: &Value) -> Vec<Sample> {
    let counts = map.as_object().into_iter().flatten();
    counts.filter_map(|(reason, count)| Some((Some(reason.clone()), count.as_f64()?))).collect()
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) * 1024.0
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: &["membership"], help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, unit: "1", labels: &["membership"], help }
}

const fn by(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind, unit: "1", labels, help }
}

const REASON: [&str; 2] = ["membership", "reason"];
const LINK_STATES: [&str; 7] =
    ["dialing", "handshaking", "authorising", "established", "suspect", "draining", "closed"];
const INFO: Family = Family {
    name: "rap_agent_info",
    kind: Kind::Gauge,
    unit: "1",
    labels: &["version"],
    help: "Always 1; the label names the version.",
};
const MEMORY: Family = Family {
    name: "rap_agent_resident_memory_bytes",
    kind: Kind::Gauge,
    unit: "bytes",
    labels: &[],
    help: "Resident memory of the agent.",
};
const UP: Family = gauge("rap_agent_membership_up", "1", "1 if the membership answers.");

#[cfg(test)]
mod tests {
    use super::*;
    use rap_runtime::metrics::{names_in, table_in};
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn a_status_document_becomes_numbers_and_a_silent_membership_is_down() {
        let status = json!({
            "degraded": true,
            "degraded_reasons": ["snapshot.stale", "snapshot.frozen"],
            "rejects": { "snapshot.rollback": 3 },
            "alarms": { "snapshot.equivocation": 1 },
            "active": { "incarnation": 7, "sequence": 12 },
            "freshness": { "state": "degraded", "issued_at_ms": 1_000, "trusted_now_ms": 5_500 },
            "certificate": { "not_after_ms": 90_000 },
            "links": [{ "state": "established" }, { "state": "established" }, { "state": "closed" }],
        });
        let text = text(&[("default".to_owned(), Some(status)), ("other".to_owned(), None)]);
        for line in [
            "rap_agent_membership_up{membership=\"default\"} 1",
            "rap_agent_membership_up{membership=\"other\"} 0",
            "rap_agent_rejected_total{membership=\"default\",reason=\"snapshot.rollback\"} 3",
            "rap_agent_alarms_total{membership=\"default\",reason=\"snapshot.equivocation\"} 1",
            "rap_agent_degraded_reason{membership=\"default\",reason=\"snapshot.stale\"} 1",
            "rap_agent_snapshot_version{membership=\"default\"} 12",
            "rap_agent_snapshot_age_seconds{membership=\"default\"} 4.5",
            "rap_agent_freshness{membership=\"default\",state=\"degraded\"} 1",
            "rap_agent_freshness{membership=\"default\",state=\"fresh\"} 0",
            "rap_agent_frozen{membership=\"default\"} 1",
            "rap_agent_certificate_expiry_timestamp_seconds{membership=\"default\"} 90",
            "rap_agent_links{membership=\"default\",state=\"established\"} 2",
            "rap_agent_links{membership=\"default\",state=\"suspect\"} 0",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
        }
        assert!(!text.contains("snapshot_version{membership=\"other\""), "{text}");
        assert_eq!(names_in(&text), families().iter().map(|family| family.name).collect::<Vec<_>>());
    }

    #[test]
    fn the_page_lists_exactly_what_the_endpoint_exposes() {
        let page = include_str!("../../../../docs/operate/metrics.md");
        let page: BTreeSet<_> =
            table_in(page).into_iter().filter(|(name, ..)| name.starts_with("rap_agent_")).collect();
        let families = families().into_iter().map(|family| {
            let labels = family.labels.join(" ");
            (family.name.to_owned(), family.kind.as_str().to_owned(), family.unit.to_owned(), labels)
        });
        assert_eq!(page, families.collect());
    }
}
