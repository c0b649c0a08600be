//! The documents `rap.path-explain.v1` and `rap.paths.v1` for people.

use std::fmt::Write as _;

use rap_types::ChannelClass;
use serde_json::Value;

use crate::output::clean;

/// Lines about the paths to a node: what is taken, then every path that was looked at.
pub fn explanation(document: &Value) -> String {
    let word = |value: &Value| value.as_str().map(clean).unwrap_or_default();
    let mut text = format!("to {} for {}: ", word(&document["to"]), word(&document["class"]));
    let [primary, backup] = ["primary", "backup"].map(|key| names(&document[key]));
    if document["direct_only"] == true {
        let _ = writeln!(text, "{}", word(&document["why_text"]));
    } else if list(&document["primary"]).is_empty() && document["way"] == "direct" {
        let _ =
            writeln!(text, "directly; no path through relays is admissible ({})", word(&document["reason"]));
    } else if list(&document["primary"]).is_empty() {
        let _ = writeln!(text, "no path is admissible ({})", word(&document["reason"]));
    } else {
        let _ = writeln!(text, "through {primary}, then {backup}: {}", word(&document["why_text"]));
    }
    if !list(&document["assumed_down"]).is_empty() {
        let _ = writeln!(text, "if {} were down; nothing was changed", names(&document["assumed_down"]));
    }
    for candidate in list(&document["candidates"]) {
        let cost = candidate["cost_ms"].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        let code = candidate["code"].as_str().map(|code| format!(" [{}]", clean(code))).unwrap_or_default();
        let standing = word(&candidate["standing"]).replace('_', " ");
        let note = word(&candidate["note"]);
        let _ =
            writeln!(text, "  {:<28} {cost:>10}  {standing:<13} {note}{code}", names(&candidate["relays"]));
        if let Some(ms) = candidate["measured_ms"].as_f64() {
            let disputed = match candidate["disputed"].as_str() {
                Some(code) => format!(", much longer than its relays say [{}]", clean(code)),
                None => String::new(),
            };
            let _ = writeln!(text, "      measured {ms:.1} ms there and back{disputed}");
        }
        for leg in list(&candidate["legs"]) {
            let (to, source) = (names(&Value::Array(vec![leg["to"].clone()])), word(&leg["source"]));
            let _ = writeln!(text, "      to {to} ({source}): {}", terms(&leg["terms_ms"]));
        }
        let _ = writeln!(text, "      relays: {}", terms(&candidate["relay_terms_ms"]));
    }
    for damped in list(&document["damped"]) {
        let (relay, merit) = (names(&Value::Array(vec![damped["relay"].clone()])), damped["merit"].as_f64());
        let avoided = if damped["avoided"] == true { ", avoided" } else { "" };
        let _ = writeln!(text, "{relay} failed lately: {:.2}{avoided}", merit.unwrap_or_default());
    }
    text
}

/// Reads a channel class; the message of a refusal.
pub fn class(word: &str) -> Result<ChannelClass, String> {
    let words: Vec<&str> = ChannelClass::ALL.iter().map(|class| class.as_str()).collect();
    word.parse().map_err(|_| format!("one of {}", words.join(", ")))
}

/// Reads `relay=NAME,down`; the name.
pub fn assumed_down(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("relay=").and_then(|text| text.strip_suffix(",down"));
    let name = name.filter(|name| !name.is_empty() && !name.contains(','));
    name.map(str::to_owned).ok_or_else(|| "relay=NAME,down".to_owned())
}

/// Names of relays in a line, their ids where they have none; `-` for none.
pub fn names(relays: &Value) -> String {
    let name = |relay: &Value| relay["name"].as_str().or(relay["node_id"].as_str()).map(clean);
    let names: Vec<String> = list(relays).iter().filter_map(name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn terms(terms: &Value) -> String {
    let Some(terms) = terms.as_object().filter(|terms| !terms.is_empty()) else { return "-".to_owned() };
    let term = |(name, value): (&String, &Value)| {
        format!("{} {:.1}", clean(name), value.as_f64().unwrap_or_default())
    };
    terms.iter().map(term).collect::<Vec<_>>().join(", ")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_relay_is_assumed_to_be_down_by_name() {
        assert_eq!(assumed_down("relay=r1,down"), Ok("r1".to_owned()));
        for refused in ["relay=r1", "r1,down", "relay=,down", "relay=a,down,down", "relay=r1,up"] {
            assert!(assumed_down(refused).is_err(), "{refused}");
        }
        assert_eq!(class("input"), Ok(ChannelClass::Input));
        assert!(class("bulk").is_err());
    }

    #[test]
    fn what_is_taken_comes_first_and_each_candidate_says_why_not() {
        let r = |name: &str| json!([{ "node_id": "0", "name": name }]);
        let text = explanation(&json!({
            "to": "b", "class": "vpn", "primary": r("r1"), "backup": r("r2"), "why_text": "it is better",
            "assumed_down": r("r3"),
            "candidates": [
                { "relays": r("r1"), "cost_ms": 50.25, "standing": "chosen", "note": "taken first", "measured_ms": 9.0,
                  "disputed": "relay.metrics_disputed",
                  "legs": [{ "to": { "node_id": "0", "name": null }, "source": "measured", "terms_ms": { "latency": 3.5 } }],
                  "relay_terms_ms": { "relay": 3.0 } },
                { "relays": r("r3"), "cost_ms": null, "standing": "inadmissible", "note": "no", "code": "path.loop" },
            ],
            "damped": [{ "relay": { "name": "r3" }, "merit": 2.5, "avoided": true }],
        }));
        let expected = "to b for vpn: through r1, then r2: it is better\n\
            if r3 were down; nothing was changed\n  \
            r1                              50.2 ms  chosen        taken first\n      \
            measured 9.0 ms there and back, much longer than its relays say [relay.metrics_disputed]\n      \
            to 0 (measured): latency 3.5\n      \
            relays: relay 3.0\n  \
            r3                                    -  inadmissible  no [path.loop]\n      \
            relays: -\n\
            r3 failed lately: 2.50, avoided\n";
        assert_eq!(text, expected);
        let none =
            explanation(&json!({ "to": "b", "class": "input", "primary": [], "reason": "path.no_route" }));
        assert_eq!(none, "to b for input: no path is admissible (path.no_route)\n");
        let directly = explanation(&json!({
            "to": "b", "class": "vpn", "primary": [], "way": "direct", "reason": "path.no_route",
        }));
        assert_eq!(
            directly,
            "to b for vpn: directly; no path through relays is admissible (path.no_route)\n"
        );
        let alone = explanation(&json!({
            "to": "b", "class": "vpn", "primary": [], "direct_only": true, "why_text": "no relay: directly",
        }));
        assert_eq!(alone, "to b for vpn: no relay: directly\n");
    }
}
