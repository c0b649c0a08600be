//! Names in the endpoints of peers that are dialled, and the addresses that each had last.
//!
//! Owns which names are looked up, and which answers count: an address that can be dialled and lies in no pool of the
//! overlay. A name that has no answer keeps its last addresses. Refuses to look up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use rap_types::sense::{self, Loopback};
use rap_wire::v1;

/// Most addresses kept of one name.
const PER_NAME: usize = 8;

/// What is to be looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedNames {
    /// `HOST:PORT` as signed.
    pub names: BTreeSet<String>,
    /// Counts dials of peers with names that failed: what was answered before may not hold any more.
    pub failures: u64,
}

/// The names of one membership.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndpointNames {
    wanted: WantedNames,
    addresses: BTreeMap<String, Vec<String>>,
}

impl EndpointNames {
    pub(crate) const fn wanted(&self) -> &WantedNames {
        &self.wanted
    }

    /// The names of a table that is published.
    pub(crate) fn published(&mut self, peers: &[v1::TablePeer]) {
        let dialled = peers.iter().filter(|peer| peer.link() == v1::TableLink::Dial);
        let endpoints = dialled.flat_map(|peer| peer.link_endpoints.iter().chain(&peer.wireguard_endpoints));
        let names: BTreeSet<String> = endpoints.filter(|text| is_name(text)).cloned().collect();
        self.addresses.retain(|name, _| names.contains(name));
        self.wanted.names = names;
    }

    /// A link to a peer ended or was not made.
    pub(crate) fn link_failed(&mut self, peer: Option<&v1::PeerRecord>) {
        let named = |peer: &v1::PeerRecord| peer.link_endpoints.iter().any(|text| is_name(text));
        self.wanted.failures += u64::from(peer.is_some_and(named));
    }

    /// Takes answers in; true if the addresses of a name changed.
    pub(crate) fn resolved(
        &mut self,
        answers: Vec<(String, Vec<SocketAddr>)>,
        is_overlay: impl Fn(IpAddr) -> bool,
        loopback: Loopback,
    ) -> bool {
        let mut changed = false;
        for (name, found) in answers {
            let mut kept: Vec<String> = Vec::new();
            for address in found {
                let text = address.to_string();
                if sense::socket_address(address, loopback).is_ok()
                    && !is_overlay(address.ip())
                    && !kept.contains(&text)
                    && kept.len() < PER_NAME
                {
                    kept.push(text);
                }
            }
            // Resolvers turn the order of their answers.
            kept.sort_unstable();
            if self.wanted.names.contains(&name)
                && !kept.is_empty()
                && self.addresses.get(&name) != Some(&kept)
            {
                self.addresses.insert(name, kept);
                changed = true;
            }
        }
        changed
    }

    /// Endpoints, each name followed by its addresses.
    pub(crate) fn with_addresses(&self, endpoints: Vec<String>) -> Vec<String> {
        let mut all: Vec<String> = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let addresses = self.addresses.get(&endpoint).cloned().unwrap_or_default();
            for text in [endpoint].into_iter().chain(addresses) {
                if !all.contains(&text) {
                    all.push(text);
                }
            }
        }
        all
    }
}

fn is_name(endpoint: &str) -> bool {
    endpoint.parse::<SocketAddr>().is_err()
        && endpoint
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(endpoints: &[&str]) -> EndpointNames {
        let link_endpoints = endpoints.iter().map(ToString::to_string).collect();
        let mut names = EndpointNames::default();
        names.published(&[v1::TablePeer { link_endpoints, ..Default::default() }]);
        names
    }

    fn answer(name: &str, addresses: &[&str]) -> Vec<(String, Vec<SocketAddr>)> {
        vec![(name.to_owned(), addresses.iter().map(|text| text.parse().unwrap()).collect())]
    }

    #[test]
    fn addresses_follow_their_name_and_the_last_ones_count_until_there_are_others() {
        let mut names = names(&["web.example:7443", "192.0.2.1:7443", "no port"]);
        assert_eq!(names.wanted().names, BTreeSet::from(["web.example:7443".to_owned()]));
        let both = ["[2001:db8::1]:7443", "192.0.2.9:7443"];
        assert!(names.resolved(answer("web.example:7443", &both), |_| false, Loopback::Refused));
        assert!(!names.resolved(
            answer("web.example:7443", &["192.0.2.9:7443", "[2001:db8::1]:7443"]),
            |_| false,
            Loopback::Refused
        ));
        let signed = || vec!["web.example:7443".to_owned(), "192.0.2.1:7443".to_owned()];
        let expected = ["web.example:7443", "192.0.2.9:7443", "[2001:db8::1]:7443", "192.0.2.1:7443"];
        assert_eq!(names.with_addresses(signed()), expected);
        assert!(
            !names.resolved(answer("web.example:7443", &[]), |_| false, Loopback::Refused),
            "no answer is no news"
        );
        assert_eq!(names.with_addresses(signed()), expected);
        assert!(names.resolved(
            answer("web.example:7443", &["192.0.2.10:7443"]),
            |_| false,
            Loopback::Refused
        ));
        assert_eq!(names.with_addresses(signed())[1], "192.0.2.10:7443");
        assert!(
            !names.resolved(answer("other.example:7443", &["192.0.2.10:7443"]), |_| false, Loopback::Refused),
            "nobody asked"
        );
        names.published(&[]);
        assert_eq!(names.with_addresses(signed()), signed());
    }

    #[test]
    fn answers_that_make_no_sense_or_lie_in_a_pool_are_dropped() {
        let mut names = names(&["web.example:7443"]);
        let is_overlay = |ip: IpAddr| ip.to_string().starts_with("100.96.") || ip.to_string() == "fd00::7";
        let bad = [
            "0.0.0.0:7443",
            "255.255.255.255:7443",
            "169.254.169.254:7443",
            "127.0.0.1:7443",
            "224.0.0.1:7443",
            "192.0.2.1:0",
            "100.96.3.4:7443",
            "[fd00::7]:7443",
            "[fe80::1]:7443",
            "[::]:7443",
        ];
        assert!(!names.resolved(answer("web.example:7443", &bad), is_overlay, Loopback::Refused));
        let some = [&bad[..], &["100.97.0.1:7443"]].concat();
        assert!(names.resolved(answer("web.example:7443", &some), is_overlay, Loopback::Refused));
        let all = names.with_addresses(vec!["web.example:7443".to_owned()]);
        assert_eq!(all, ["web.example:7443", "100.97.0.1:7443"]);
    }

    #[test]
    fn a_failed_dial_of_a_peer_with_a_name_is_counted() {
        let mut names = EndpointNames::default();
        let peer =
            |endpoint: &str| v1::PeerRecord { link_endpoints: vec![endpoint.into()], ..Default::default() };
        names.link_failed(None);
        names.link_failed(Some(&peer("192.0.2.1:7443")));
        assert_eq!(names.wanted().failures, 0);
        names.link_failed(Some(&peer("web.example:7443")));
        assert_eq!(names.wanted().failures, 1);
    }
}
