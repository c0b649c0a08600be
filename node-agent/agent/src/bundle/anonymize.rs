//! Stable pseudonyms for what names somebody: ids, keys, addresses, endpoints, hosts, names, paths.
//!
//! Owns the recognition and the mapping. The same original has the same pseudonym throughout one bundle; another bundle has
//! another salt, which is kept nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use rap_types::Digest;
use serde_json::Value;

/// A mapping with its salt.
pub struct Pseudonyms {
    salt: [u8; 32],
    /// Single words: names and hosts.
    words: BTreeMap<String, String>,
    /// Longer pieces, replaced wherever they occur, longest first.
    pieces: Vec<(String, String)>,
}

rap_types::debug_as!(Pseudonyms, |pseudonyms| "Pseudonyms of {} words", pseudonyms.words.len());

impl Pseudonyms {
    /// An empty mapping.
    pub const fn new(salt: [u8; 32]) -> Self {
        Self { salt, words: BTreeMap::new(), pieces: Vec::new() }
    }

    /// A name of something.
    pub fn name(&mut self, kind: &str, name: &str) {
        if !name.is_empty() && !KEPT.contains(&name) {
            let pseudonym = self.pseudonym(kind, name);
            self.words.insert(name.to_owned(), pseudonym);
        }
    }

    /// A text that is replaced wherever it occurs: a path, a phrase.
    pub fn piece(&mut self, kind: &str, text: &str) {
        if text.len() > 1 && !self.pieces.iter().any(|(known, _)| known == text) {
            let pseudonym = self.pseudonym(kind, text);
            self.pieces.push((text.to_owned(), pseudonym));
            self.pieces.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
    }

    /// Learns names, hosts and paths from a document by the meaning of its fields.
    pub fn learn(&mut self, document: &Value) {
        match document {
            Value::Object(fields) => {
                // Where options came from has the options' names and none of their values.
                for (key, value) in fields.iter().filter(|(key, _)| *key != "origins") {
                    self.learn_field(key, value);
                    self.learn(value);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.learn(value)),
            _ => {}
        }
    }

    fn learn_field(&mut self, key: &str, value: &Value) {
        if key == "break_glass" {
            // Why somebody broke the glass is free text, unlike the reason codes of other fields.
            let grants = value.as_array().map_or(&[] as &[Value], Vec::as_slice);
            grants.iter().filter_map(|grant| grant["reason"].as_str()).for_each(|text| self.phrase(text));
        }
        for text in strings(value) {
            match key {
                "node_name" | "name" => self.name("name", text),
                "cluster_name" => self.name("cluster", text),
                "membership" => self.name("membership", text),
                "region" => self.name("region", text),
                "organization" | "tags" | "organization_name" => self.name("label", text),
                "host_name" => self.name("host", text),
                "interface" if !text.starts_with("rap") => self.name("interface", text),
                "authority_words" | "words" => self.piece("words", text),
                "data_dir" | "run_dir" | "socket" | "dataplane_bin" => self.path(text),
                "text" => {
                    text.split_whitespace().for_each(|word| self.path(word.trim_end_matches([':', ',', ';'])))
                }
                _ if key.ends_with("url") || key.ends_with("urls") => {
                    self.host(text.split("://").last().unwrap_or(text))
                }
                _ if key.contains("endpoint") || key.contains("advertise") || key.starts_with("listen") => {
                    self.host(text);
                }
                _ => {}
            }
        }
    }

    /// What a person wrote: wherever it occurs if it is more than a word, else where it stands as one.
    fn phrase(&mut self, text: &str) {
        if text.contains(char::is_whitespace) { self.piece("text", text) } else { self.name("text", text) }
    }

    /// The host of `HOST:PORT`, if it is a name.
    fn host(&mut self, endpoint: &str) {
        let endpoint = endpoint.split('/').next().unwrap_or_default();
        let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() {
            self.name("host", host);
        }
    }

    /// The folder of a path, unless it is one of the product's own.
    fn path(&mut self, path: &str) {
        let own = ["/var/lib/rap", "/run/rap", "/etc/rap", "/usr"];
        if !path.starts_with('/')
            || own.iter().any(|own| path == *own || path.starts_with(&format!("{own}/")))
        {
            return;
        }
        self.piece("path", path);
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.piece("path", folder);
        }
    }

    /// Replaces in every string of a document, and in keys that are ids or addresses.
    pub fn document(&self, document: &mut Value) {
        match document {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.document(value)),
            Value::Object(fields) => {
                for (key, mut value) in std::mem::take(fields) {
                    self.document(&mut value);
                    fields.insert(self.recognised(&key).unwrap_or(key), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Replaces in a text.
    pub fn text(&self, text: &str) -> String {
        let mut rest = text.to_owned();
        for (piece, pseudonym) in &self.pieces {
            rest = rest.replace(piece, pseudonym);
        }
        let (mut replaced, mut run) = (String::with_capacity(rest.len()), String::new());
        for letter in rest.chars() {
            if letter.is_ascii_alphanumeric() || RUN.contains(letter) {
                run.push(letter);
            } else {
                replaced.push_str(&self.run(&run));
                run.clear();
                replaced.push(letter);
            }
        }
        replaced.push_str(&self.run(&run));
        replaced
    }

    /// Replaces in a run of letters without white space: as a whole, else in its parts.
    fn run(&self, run: &str) -> String {
        if run.is_empty() {
            return String::new();
        }
        if let Some(whole) = self.recognised(run).or_else(|| self.words.get(run).cloned()) {
            return whole;
        }
        let ending = run.trim_end_matches(['.', ':']);
        if ending.len() < run.len() {
            return self.run(ending) + &run[ending.len()..];
        }
        for delimiter in DELIMITERS {
            if let Some((before, after)) = run.split_once(delimiter) {
                return format!("{}{delimiter}{}", self.run(before), self.run(after));
            }
        }
        run.to_owned()
    }

    /// The pseudonym of what can be told by its form: addresses, ids, digests, keys.
    fn recognised(&self, text: &str) -> Option<String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(self.address(address));
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Some(format!("{}:{}", self.address(socket.ip()), socket.port()));
        }
        if let Some((address, length)) = text.split_once('/')
            && let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>())
        {
            return Some(format!("{}/{length}", self.address(address)));
        }
        if is_uuid(text) {
            return Some(self.pseudonym("id", &text.to_ascii_lowercase()));
        }
        if text.len() >= 20 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(self.pseudonym("hex", &text.to_ascii_lowercase()));
        }
        is_key(text).then(|| self.pseudonym("key", text))
    }

    fn address(&self, address: IpAddr) -> String {
        if address.is_unspecified() {
            return address.to_string();
        }
        let kind = match address {
            IpAddr::V4(v4) if v4.is_loopback() => "ipv4-loopback",
            IpAddr::V4(v4) if v4.is_private() => "ipv4-private",
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(v6) if v6.is_loopback() => "ipv6-loopback",
            IpAddr::V6(v6) if v6.is_unique_local() => "ipv6-private",
            IpAddr::V6(_) => "ipv6",
        };
        self.pseudonym(kind, &address.to_string())
    }

    fn pseudonym(&self, kind: &str, original: &str) -> String {
        let digest = Digest::of(&[&self.salt, kind.as_bytes(), b"\0", original.as_bytes()]);
        let short: String = digest.as_bytes().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        format!("{kind}-{short}")
    }
}

fn strings(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::String(text) => BTreeSet::from([text.as_str()]),
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => BTreeSet::new(),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Long, and of all three kinds of letters: base64 of something.
fn is_key(text: &str) -> bool {
    let any = |kind: fn(&u8) -> bool| text.as_bytes().iter().any(kind);
    text.len() >= 40
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte))
        && any(u8::is_ascii_digit)
        && any(u8::is_ascii_uppercase)
        && any(u8::is_ascii_lowercase)
}

/// Names that the product itself gives.
const KEPT: [&str; 2] = ["default", "localhost"];
/// Besides letters and digits, what may stand inside a word.
const RUN: &str = "-_.:/+=";
/// Where a word that is nothing as a whole is taken apart; earlier ones first.
const DELIMITERS: [char; 6] = ['=', '/', '+', ':', '.', '_'];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms::new([7; 32])
    }

    const ID: &str = "0197a1b2-0000-7000-8000-00000000abcd";

    #[test]
    fn ids_keys_and_addresses_are_told_by_their_form_inside_any_text() {
        let text = format!(
            "peer={ID} at 10.1.2.3:7443, [fd00::7]:51820 or fd12:3456::1/128; 100.96.0.9/32. key SHA256:{} rap://{ID}/x, \
             base64 {}= addr=192.0.2.7: end 198.51.100.1.",
            "ab".repeat(32),
            "qL8R4QIcQ/ZsRqOAbeRfcZhilN/MksRtDaErMA1d2bE"
        );
        let safe = pseudonyms().text(&text);
        for original in [
            ID,
            "10.1.2.3",
            "fd00::7",
            "fd12:3456",
            "100.96.0.9",
            "abababab",
            "qL8R4QIcQ",
            "ZsRqOA",
            "192.0.2.7",
            "198.51.100.1",
        ] {
            assert!(!safe.contains(original), "{original} in {safe}");
        }
        assert!(safe.contains("peer=id-") && safe.contains("at ipv4-private-"), "{safe}");
        assert!(safe.contains(":7443, [ipv6-private-") && safe.contains("]:51820"), "{safe}");
        let twice = pseudonyms().text(ID);
        assert_eq!(safe.matches(&twice).count(), 2, "the same id has the same pseudonym: {safe}");
        assert_ne!(Pseudonyms::new([8; 32]).text(ID), twice, "another bundle, another pseudonym");
    }

    #[test]
    fn what_names_nobody_stays_readable() {
        let text = "2026-11-21T12:00:00.123456Z  INFO rap_node_agent::driver: data plane up pid=1234 adopted=false \
                    reason=snapshot.rollback version 0.1.0 0.0.0.0:7443 [::]:51820 kernel 6.1.0-28-amd64";
        assert_eq!(pseudonyms().text(text), text);
    }

    #[test]
    fn names_hosts_and_paths_are_learned_from_documents_and_replaced_everywhere() {
        let mut document = json!({
            "node_name": "db-1", "cluster_name": "prod", "membership": "default", "state": "healthy",
            "peers": [{ "name": "edge-7", "region": "vienna", "link_endpoints": ["edge.example.net:7443"] }],
            "control_urls": ["https://control.example.net:8443"],
            "data_dir": "/home/alice/rap/data",
            "authority_words": "apple river stone",
            "checks": [{ "id": "dataplane", "text": "/srv/bob/rap-dataplane does not exist; give --dataplane-bin" }],
            "break_glass": [{ "reason": "carol moves the rack" }, { "reason": "dave" }],
            "by_id": { ID: 1 },
        });
        let mut pseudonyms = pseudonyms();
        pseudonyms.learn(&document);
        pseudonyms.document(&mut document);
        let text = pseudonyms.text(
            "name=db-1 pings edge-7 in vienna: https://control.example.net:8443/x /home/alice/rap/data/default/lock \
             apple river stone, membership default of prod, reason=\"carol moves the rack\" reason=dave",
        );
        let all = document.to_string() + &text;
        for original in [
            "db-1", "prod", "edge-7", "vienna", "example", "alice", "apple", "stone", "bob", "carol", "dave",
            ID,
        ] {
            assert!(!all.contains(original), "{original} in {all}");
        }
        assert_eq!((&document["state"], &document["membership"]), (&"healthy".into(), &"default".into()));
        assert!(text.contains("/default/lock") && text.contains("membership default of cluster-"), "{text}");
        let name = document["node_name"].as_str().unwrap();
        assert!(text.starts_with(&format!("name={name} pings ")), "{text}");
    }
}
