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
    for (family, reading) in READINGS {
        let samples = running.iter().flat_map(|(name, status)| {
            reading.samples(status).into_iter().map(|(label, value)| {
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

/// How a family is read from a status document. Strings are JSON pointers.
enum Reading {
    /// A number, in a unit that is so many times larger; nothing where the document has none.
    Number(&'static str, f64),
    /// 1 if the value is true.
    Truth(&'static str),
    /// Counts by reason.
    Counts(&'static str),
    /// Made of several values.
    Made(fn(&Value) -> Vec<Sample>),
}

impl Reading {
    fn samples(&self, status: &Value) -> Vec<Sample> {
        let at = |pointer| status.pointer(pointer).unwrap_or(&Value::Null);
        match *self {
            Self::Number(pointer, per) => {
                at(pointer).as_f64().map(|value| (None, value / per)).into_iter().collect()
            }
            Self::Truth(pointer) => vec![(None, flag(*at(pointer) == true))],
            Self::Counts(pointer) => {
                let counts = at(pointer).as_object().into_iter().flatten();
                counts.filter_map(|(reason, count)| Some((Some(reason.clone()), count.as_f64()?))).collect()
            }
            Self::Made(made) => made(status),
        }
    }
}

const READINGS: &[(Family, Reading)] = &[
    truth("rap_agent_degraded", "1 if status says degraded.", "/degraded"),
    made(
        by("rap_agent_degraded_reason", Kind::Gauge, &REASON, "1 for each reason why the node is degraded."),
        |status| each(&status["degraded_reasons"]).map(|reason| (Some(reason), 1.0)).collect(),
    ),
    counts("rap_agent_rejected_total", "Refused messages and snapshots by reason code.", "/rejects"),
    counts("rap_agent_alarms_total", "Alarms by reason code.", "/alarms"),
    number("rap_agent_snapshot_incarnation", "Incarnation of the snapshot in use.", "/active/incarnation"),
    number("rap_agent_snapshot_version", "Version of the snapshot in use.", "/active/sequence"),
    made(gauge("rap_agent_snapshot_age_seconds", "seconds", "Time since its head was signed."), |status| {
        let freshness = &status["freshness"];
        let age = freshness["trusted_now_ms"].as_f64().zip(freshness["issued_at_ms"].as_f64());
        age.map(|(now, issued)| (None, (now - issued) / 1e3)).into_iter().collect()
    }),
    made(
        by("rap_agent_freshness", Kind::Gauge, &["membership", "state"], "1 for the present state."),
        |status| {
            let present = status["freshness"]["state"].as_str().unwrap_or("absent");
            let states = ["fresh", "degraded", "expired", "absent"];
            states.into_iter().map(|state| (Some(state.to_owned()), flag(state == present))).collect()
        },
    ),
    seconds("rap_agent_fresh_until_timestamp_seconds", "End of fresh.", "/freshness/fresh_until_ms"),
    seconds("rap_agent_degraded_until_timestamp_seconds", "End of degraded.", "/freshness/degraded_until_ms"),
    made(gauge("rap_agent_frozen", "1", "1 while the node holds proof of two histories."), |status| {
        let frozen = each(&status["degraded_reasons"]).any(|reason| reason == "snapshot.frozen");
        vec![(None, flag(frozen))]
    }),
    truth("rap_agent_control_connected", "1 while the control plane is heard.", "/control/connected"),
    seconds(
        "rap_agent_control_contact_age_seconds",
        "Time since it was last heard.",
        "/control/last_contact_ms_ago",
    ),
    seconds(
        "rap_agent_certificate_expiry_timestamp_seconds",
        "End of the node's certificate.",
        "/certificate/not_after_ms",
    ),
    made(gauge("rap_agent_peers", "1", "Peers in the snapshot."), |status| {
        let tiers = ["active", "warm", "cold"];
        let peers = tiers.iter().filter_map(|tier| Some(status["peers"][tier].as_array()?.len()));
        vec![(None, peers.sum::<usize>() as f64)]
    }),
    made(by("rap_agent_links", Kind::Gauge, &["membership", "state"], "Links by state."), |status| {
        let links = status["links"].as_array();
        let links = links.into_iter().flatten().filter_map(|link| link["state"].as_str());
        let count = |state: &str| links.clone().filter(|present| *present == state).count() as f64;
        LINK_STATES.iter().map(|state| (Some((*state).to_owned()), count(state))).collect()
    }),
    made(
        by("rap_path_peers", Kind::Gauge, &["membership", "way"], "Peers by the way of their traffic."),
        |status| {
            let tiers =
                ["active", "warm", "cold"].into_iter().filter_map(|tier| status["peers"][tier].as_array());
            let ways: Vec<&str> =
                tiers.flatten().map(|peer| peer["way"].as_str().unwrap_or("none")).collect();
            let count = |way: &str| ways.iter().filter(|present| **present == way).count() as f64;
            WAYS.iter().map(|way| (Some((*way).to_owned()), count(way))).collect()
        },
    ),
    made(
        Family {
            unit: "seconds",
            ..by("rap_link_round_trip_seconds", Kind::Gauge, &OF, "Round trip of established links.")
        },
        |status| spread(established(status, "rtt_median_us"), 1e6),
    ),
    made(
        by(
            "rap_link_loss_ratio",
            Kind::Gauge,
            &OF,
            "Share of the probes of established links without an answer.",
        ),
        |status| spread(established(status, "loss_ppm"), 1e6),
    ),
    total(
        "rap_path_disputed_total",
        "Paths that took much longer than their relays say.",
        "/routing/disputed_paths",
    ),
    truth("rap_agent_dataplane_up", "1 if the data plane answers.", "/dataplane/up"),
    number(
        "rap_agent_dataplane_table_published",
        "Version of the newest forwarding table.",
        "/dataplane/table_version",
    ),
    number("rap_agent_dataplane_table_applied", "Version of the table in force.", "/dataplane/table_applied"),
    bytes(
        "rap_agent_dataplane_resident_memory_bytes",
        "Resident memory of the data plane.",
        "/dataplane/rss_bytes",
    ),
    counts("rap_agent_dataplane_drops_total", "What the data plane dropped, by reason.", "/dataplane/drops"),
    bytes("rap_agent_cache_bytes", "Bytes in the cache.", "/cache/bytes"),
    total("rap_agent_cache_quarantines_total", "Damaged caches moved aside.", "/cache/quarantined"),
    total("rap_agent_cache_dropped_total", "Damaged values removed from the cache.", "/cache/dropped"),
];

/// What is known of the established links, in order.
fn established(status: &Value, field: &str) -> Vec<f64> {
    let links = status["links"].as_array().into_iter().flatten();
    let links = links.filter(|link| link["state"] == "established");
    let mut known: Vec<f64> = links.filter_map(|link| link[field].as_f64()).collect();
    known.sort_by(f64::total_cmp);
    known
}

/// Median and highest of sorted values, in a unit that is so many times larger; nothing of none.
fn spread(sorted: Vec<f64>, per: f64) -> Vec<Sample> {
    let sample = |of: &str, value: Option<&f64>| Some((Some(of.to_owned()), value? / per));
    let of = [sample("median", sorted.get(sorted.len() / 2)), sample("highest", sorted.last())];
    of.into_iter().flatten().collect()
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn each(list: &Value) -> impl Iterator<Item = String> + '_ {
    list.as_array().into_iter().flatten().filter_map(|value| Some(value.as_str()?.to_owned()))
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap_or(0.0) * 1024.0
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, unit, labels: &["membership"], help }
}

const fn by(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind, unit: "1", labels, help }
}

const fn made(family: Family, made: fn(&Value) -> Vec<Sample>) -> (Family, Reading) {
    (family, Reading::Made(made))
}

const fn truth(name: &'static str, help: &'static str, at: &'static str) -> (Family, Reading) {
    (gauge(name, "1", help), Reading::Truth(at))
}

const fn counts(name: &'static str, help: &'static str, at: &'static str) -> (Family, Reading) {
    (by(name, Kind::Counter, &REASON, help), Reading::Counts(at))
}

const fn number(name: &'static str, help: &'static str, at: &'static str) -> (Family, Reading) {
    (gauge(name, "1", help), Reading::Number(at, 1.0))
}

const fn bytes(name: &'static str, help: &'static str, at: &'static str) -> (Family, Reading) {
    (gauge(name, "bytes", help), Reading::Number(at, 1.0))
}

/// The document has milliseconds.
const fn seconds(name: &'static str, help: &'static str, at: &'static str) -> (Family, Reading) {
    (gauge(name, "seconds", help), Reading::Number(at, 1e3))
}

const fn total(name: &'static str, help: &'static str, at: &'static str) -> (Family, Reading) {
    (by(name, Kind::Counter, &["membership"], help), Reading::Number(at, 1.0))
}

const REASON: [&str; 2] = ["membership", "reason"];
const OF: [&str; 2] = ["membership", "of"];
const WAYS: [&str; 3] = ["direct", "relayed", "none"];
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
            "peers": {
                "active": [{ "way": "direct" }, { "way": "relayed" }, { "way": "relayed" }], "warm": [{ "way": null }],
            },
            "routing": { "relays": true, "disputed_paths": 3 },
            "links": [
                { "state": "established", "rtt_median_us": 9_000, "loss_ppm": 250_000 },
                { "state": "established", "rtt_median_us": 2_000, "loss_ppm": 0 },
                { "state": "established", "rtt_median_us": 4_000 },
                { "state": "closed", "rtt_median_us": 90_000 },
            ],
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
            "rap_agent_links{membership=\"default\",state=\"established\"} 3",
            "rap_path_peers{membership=\"default\",way=\"direct\"} 1",
            "rap_path_peers{membership=\"default\",way=\"relayed\"} 2",
            "rap_path_peers{membership=\"default\",way=\"none\"} 1",
            "rap_path_disputed_total{membership=\"default\"} 3",
            "rap_link_round_trip_seconds{membership=\"default\",of=\"median\"} 0.004",
            "rap_link_round_trip_seconds{membership=\"default\",of=\"highest\"} 0.009",
            "rap_link_loss_ratio{membership=\"default\",of=\"highest\"} 0.25",
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
            table_in(page).into_iter().filter(|(name, ..)| !name.starts_with("rap_control_")).collect();
        let families = families().into_iter().map(|family| {
            let labels = family.labels.join(" ");
            (family.name.to_owned(), family.kind.as_str().to_owned(), family.unit.to_owned(), labels)
        });
        assert_eq!(page, families.collect());
    }
}
