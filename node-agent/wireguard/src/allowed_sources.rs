//! The owner of an inner address: this node, a prefix that this node forwards for, or a peer.
//!
//! Owns the one look-up of both directions: the longest prefix wins. Outbound, the source must belong to this
//! node and the destination to a peer. Inbound, the source must belong to the sender and the destination to this
//! node. Refuses to own peers: it names them by their position in the configuration.
//!
//! Why one look-up is sound: an own address is a host prefix, and no peer may claim it. A wide prefix of a peer
//! (0.0.0.0/0 of an exit) therefore never covers an own address. A forwarded prefix inside a wider prefix of a
//! peer belongs to this node. A narrower prefix of the peer inside that one belongs to the peer.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;

use crate::config::DeviceConfig;
use crate::error::ConfigError;

/// Owner of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// An own overlay address.
    Own,
    /// A prefix that this node forwards for.
    Routed,
    /// The peer at this position of the configuration.
    Peer(usize),
}

/// Owners by address. Most prefixes are single addresses, which are found by hash.
#[derive(Default)]
pub(crate) struct AllowedSources {
    hosts: HashMap<IpAddr, Owner>,
    prefixes: JointPrefixMap<IpNet, Owner>,
}

impl AllowedSources {
    /// Takes the addresses and prefixes of a configuration.
    ///
    /// # Errors
    /// [`ConfigError::OwnAddress`], [`ConfigError::DuplicatePrefix`]: two owners claim the same prefix.
    pub(crate) fn of(config: &DeviceConfig) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for address in &config.addresses {
            all.hosts.insert(address.addr(), Owner::Own);
        }
        let routed = config.routed.iter().map(|prefix| (prefix, Owner::Routed));
        let of_peers = config.peers.iter().enumerate();
        let of_peers = of_peers.flat_map(|(position, peer)| {
            peer.allowed_ips.iter().map(move |prefix| (prefix, Owner::Peer(position)))
        });
        for (prefix, owner) in routed.chain(of_peers) {
            all.claim(prefix.trunc(), owner)?;
        }
        Ok(all)
    }

    /// The owner of an address; `None` if it has none.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<Owner> {
        let host = self.hosts.get(&address).copied();
        host.or_else(|| self.prefixes.get_lpm(&IpNet::from(address)).map(|(_, owner)| *owner))
    }

    /// True if packets from and to this address belong to this node.
    pub(crate) fn is_here(&self, address: IpAddr) -> bool {
        matches!(self.owner(address), Some(Owner::Own | Owner::Routed))
    }

    /// Position of the peer that owns an address.
    pub(crate) fn peer(&self, address: IpAddr) -> Option<usize> {
        match self.owner(address)? {
            Owner::Peer(position) => Some(position),
            Owner::Own | Owner::Routed => None,
        }
    }

    /// Moves peers to new positions. A peer without a new position loses its prefixes.
    pub(crate) fn move_peers(&mut self, new: impl Fn(usize) -> Option<usize>) {
        let moved = |owner| match owner {
            Owner::Peer(position) => new(position).map(Owner::Peer),
            Owner::Own | Owner::Routed => Some(owner),
        };
        let hosts = std::mem::take(&mut self.hosts).into_iter();
        self.hosts = hosts.filter_map(|(host, owner)| Some((host, moved(owner)?))).collect();
        let prefixes = std::mem::take(&mut self.prefixes).into_iter();
        self.prefixes = prefixes.filter_map(|(prefix, owner)| Some((prefix, moved(owner)?))).collect();
    }

    fn claim(&mut self, prefix: IpNet, owner: Owner) -> Result<(), ConfigError> {
        let single = prefix.prefix_len() == prefix.max_prefix_len();
        let before = if single {
            self.hosts.insert(prefix.addr(), owner)
        } else {
            self.prefixes.insert(prefix, owner)
        };
        match before {
            Some(Owner::Own) => Err(ConfigError::OwnAddress(prefix.addr())),
            Some(other) if other != owner => Err(ConfigError::DuplicatePrefix(prefix)),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Peer;

    fn config(routed: &[&str], peers: &[&[&str]]) -> DeviceConfig {
        let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let peers = peers.iter().enumerate().map(|(seed, allowed)| Peer {
            public_key: [seed as u8 + 2; 32].into(),
            preshared: None,
            endpoints: Vec::new(),
            allowed_ips: nets(allowed),
            keepalive: None,
            deadline: None,
            survive_forever: false,
            relayed: false,
        });
        DeviceConfig {
            addresses: nets(&["100.96.0.1/16", "fd00::1/48"]),
            routed: nets(routed),
            peers: peers.collect(),
            ..DeviceConfig::default()
        }
    }

    fn owner(all: &AllowedSources, address: &str) -> Option<Owner> {
        all.owner(address.parse().unwrap())
    }

    #[test]
    fn the_longest_prefix_owns_an_address() {
        let peers: [&[&str]; 2] = [&["10.0.0.0/8", "fd00:1::/32"], &["10.1.0.9/16", "fd00:1::7/128"]];
        let all = AllowedSources::of(&config(&[], &peers)).unwrap();
        let (wide, narrow) = (Some(Owner::Peer(0)), Some(Owner::Peer(1)));
        assert_eq!((owner(&all, "10.2.0.1"), owner(&all, "10.1.0.1")), (wide, narrow));
        assert_eq!((owner(&all, "fd00:1::8"), owner(&all, "fd00:1::7")), (wide, narrow));
        assert_eq!((owner(&all, "11.0.0.1"), owner(&all, "fd01::1")), (None, None));
    }

    #[test]
    fn own_and_routed_addresses_are_here_whatever_a_peer_has_around_them() {
        let peers: [&[&str]; 2] = [&["0.0.0.0/0", "100.96.0.2/32"], &["192.168.7.0/24"]];
        let all = AllowedSources::of(&config(&["192.168.0.0/16"], &peers)).unwrap();
        let here = |address: &str| all.is_here(address.parse().unwrap());
        assert!(here("100.96.0.1") && here("fd00::1") && here("192.168.1.9"));
        assert!(!here("100.96.0.2") && !here("8.8.8.8") && !here("192.168.7.9"));
        assert_eq!(owner(&all, "8.8.8.8"), Some(Owner::Peer(0)));
        assert_eq!(owner(&all, "192.168.7.9"), Some(Owner::Peer(1)));
        let exit = AllowedSources::of(&config(&["0.0.0.0/0"], &[&["100.96.0.2/32"]])).unwrap();
        assert!(exit.is_here("8.8.8.8".parse().unwrap()));
        assert_eq!(exit.peer("100.96.0.2".parse().unwrap()), Some(0));
    }

    #[test]
    fn two_owners_of_the_same_prefix_are_refused() {
        let refused = |routed: &[&str], peers: &[&[&str]]| AllowedSources::of(&config(routed, peers)).err();
        let duplicate = |error| matches!(error, Some(ConfigError::DuplicatePrefix(_)));
        assert!(duplicate(refused(&[], &[&["10.0.0.0/24"], &["10.0.0.7/24"]])));
        assert!(duplicate(refused(&[], &[&["10.0.0.7/32"], &["10.0.0.7/32"]])));
        assert!(duplicate(refused(&["10.0.0.0/24"], &[&["10.0.0.0/24"]])));
        assert!(matches!(refused(&[], &[&["100.96.0.1/32"]]), Some(ConfigError::OwnAddress(_))));
        assert!(matches!(refused(&["fd00::1/128"], &[]), Some(ConfigError::OwnAddress(_))));
        assert!(refused(&[], &[&["10.0.0.0/24", "10.0.0.9/24"]]).is_none(), "twice by one owner");
    }

    #[test]
    fn peers_that_go_lose_their_prefixes_and_the_others_move() {
        let peers: [&[&str]; 2] = [&["10.0.0.2/32", "10.2.0.0/16"], &["10.0.0.3/32", "10.3.0.0/16"]];
        let mut all = AllowedSources::of(&config(&["10.9.0.0/16"], &peers)).unwrap();
        all.move_peers(|position| (position == 1).then_some(0));
        assert_eq!((owner(&all, "10.0.0.2"), owner(&all, "10.2.0.1")), (None, None));
        assert_eq!(owner(&all, "10.3.0.1"), Some(Owner::Peer(0)));
        assert_eq!(
            (owner(&all, "10.9.0.1"), owner(&all, "100.96.0.1")),
            (Some(Owner::Routed), Some(Owner::Own))
        );
    }
}
