//! The configuration in force.
//!
//! Owns the peers with their sessions, the own addresses, and the indexes by which packets are looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rap_types::Mono;

use crate::allowed_sources::{AllowedSources, Owner};
use crate::config::{DeviceConfig, Peer};
use crate::error::ConfigError;
use crate::peer::{Identity, PeerEntry};

/// Peers and addresses of the configuration in force.
#[derive(Default)]
pub(crate) struct ActiveConfig {
    addresses: Vec<IpNet>,
    /// Boxed, because an entry holds eight sessions and every change moves it.
    peers: Vec<Box<PeerEntry>>,
    by_key: HashMap<[u8; 32], usize>,
    by_index: HashMap<u32, usize>,
    sources: AllowedSources,
}

/// The parts of a configuration that are made before it is put in force. Making them is slow.
pub(crate) struct Prepared {
    sources: AllowedSources,
    /// Entries of new peers.
    fresh: Vec<Box<PeerEntry>>,
}

impl ActiveConfig {
    /// Owner of an inner address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<Owner> {
        self.sources.owner(address)
    }

    /// True for an own address and for one in a prefix that this node forwards for.
    pub(crate) fn is_here(&self, address: IpAddr) -> bool {
        self.sources.is_here(address)
    }

    /// The peer that owns an inner address.
    pub(crate) fn peer_of(&self, address: IpAddr) -> Option<&PeerEntry> {
        self.peers.get(self.sources.peer(address)?).map(Box::as_ref)
    }

    /// Own source address for `destination`: one of the same pool, else one of the same family.
    pub(crate) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let family = || self.addresses.iter().filter(|net| net.addr().is_ipv4() == destination.is_ipv4());
        let same_pool = family().find(|net| net.contains(&destination));
        same_pool.or_else(|| family().next()).map(IpNet::addr)
    }

    /// Own address and that of a peer, in a family that both have.
    fn addresses_with(&self, peer: &Peer) -> Option<(IpAddr, IpAddr)> {
        let single = peer.allowed_ips.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
        single.map(IpNet::addr).find_map(|address| Some((self.source_for(address)?, address)))
    }

    pub(crate) fn by_key(&self, key: &[u8; 32]) -> Option<&PeerEntry> {
        self.by_key.get(key).and_then(|position| self.peers.get(*position)).map(Box::as_ref)
    }

    /// The peer of an own session index. Its upper 24 bits identify the peer.
    pub(crate) fn by_session(&self, session: u32) -> Option<&PeerEntry> {
        self.by_index(session >> 8)
    }

    /// The peer of an index.
    pub(crate) fn by_index(&self, index: u32) -> Option<&PeerEntry> {
        self.by_index.get(&index).and_then(|position| self.peers.get(*position)).map(Box::as_ref)
    }

    pub(crate) fn peers(&self) -> &[Box<PeerEntry>] {
        &self.peers
    }

    /// Checks `next` and makes entries for its new peers. Includes the key agreement, so that
    /// [`Self::replace`] is short.
    ///
    /// # Errors
    /// [`ConfigError`]: `next` contradicts itself.
    pub(crate) fn prepare(&self, identity: &Identity, next: &DeviceConfig) -> Result<Prepared, ConfigError> {
        next.check_keys(identity.public.as_bytes())?;
        let sources = AllowedSources::of(next)?;
        let mut taken: BTreeSet<u32> = self.by_index.keys().copied().collect();
        let known = |key: &[u8; 32]| self.by_key(key);
        let new =
            next.peers.iter().filter(|peer| !known(peer.public_key.as_bytes()).is_some_and(|e| e.is(peer)));
        let fresh =
            new.map(|peer| Box::new(PeerEntry::new(identity, peer, free_index(&mut taken)))).collect();
        Ok(Prepared { sources, fresh })
    }

    /// Puts `next` in force. Entries with the same keys keep their sessions. `prepared` has the others. `held`: parts of
    /// the pools that are the host's.
    pub(crate) fn replace(
        &mut self,
        identity: &Identity,
        next: &DeviceConfig,
        held: &[IpNet],
        prepared: Prepared,
    ) {
        let old = std::mem::take(self);
        let Prepared { sources, fresh } = prepared;
        let mut taken: BTreeSet<u32> =
            old.by_index.keys().chain(fresh.iter().map(|e| &e.index)).copied().collect();
        let mut pool: HashMap<[u8; 32], Vec<Box<PeerEntry>>> = HashMap::new();
        for entry in old.peers.into_iter().chain(fresh) {
            pool.entry(entry.public_key).or_default().push(entry);
        }
        self.addresses.clone_from(&next.addresses);
        self.sources = sources;
        for peer in &next.peers {
            let entries = pool.remove(peer.public_key.as_bytes()).unwrap_or_default();
            let entry = entries.into_iter().find(|entry| entry.is(peer));
            // Absent only if the deadline of the peer passed since `prepare`.
            let entry =
                entry.unwrap_or_else(|| Box::new(PeerEntry::new(identity, peer, free_index(&mut taken))));
            let addresses = self.addresses_with(peer);
            entry.configure(peer, next.outside(&peer.endpoints, held), addresses, next.deadline);
            self.push(entry);
        }
    }

    /// Removes peers whose deadline passed and returns their number.
    pub(crate) fn expire(&mut self, now: Mono) -> usize {
        if !self.peers.iter().any(|entry| entry.lock().is_expired(now)) {
            return 0;
        }
        let old = std::mem::take(self);
        let before = old.peers.len();
        let mut positions = BTreeMap::new();
        (self.addresses, self.sources) = (old.addresses, old.sources);
        for (was, entry) in old.peers.into_iter().enumerate() {
            if !entry.lock().is_expired(now) {
                positions.insert(was, self.peers.len());
                self.push(entry);
            }
        }
        self.sources.move_peers(|was| positions.get(&was).copied());
        before - self.peers.len()
    }

    fn push(&mut self, entry: Box<PeerEntry>) {
        let position = self.peers.len();
        self.by_key.insert(entry.public_key, position);
        self.by_index.insert(entry.index, position);
        self.peers.push(entry);
    }
}

impl DeviceConfig {
    /// Refuses a key that appears twice or is that of the device.
    fn check_keys(&self, own: &[u8; 32]) -> Result<(), ConfigError> {
        let mut keys = BTreeSet::new();
        for peer in &self.peers {
            if peer.public_key.as_bytes() == own {
                return Err(ConfigError::OwnKey);
            }
            if !keys.insert(peer.public_key.to_bytes()) {
                return Err(ConfigError::DuplicatePeer);
            }
        }
        Ok(())
    }

    /// Endpoints that are no overlay addresses. A datagram to such an address would enter the tunnel again.
    fn outside(&self, endpoints: &[SocketAddr], held: &[IpNet]) -> Vec<SocketAddr> {
        let inside = |endpoint: &SocketAddr| {
            let ip = endpoint.ip().to_canonical();
            if held.iter().any(|part| part.contains(&ip)) {
                return false;
            }
            self.addresses.iter().any(|net| net.contains(&ip) && net.prefix_len() > 0)
        };
        let canonical = endpoints.iter().map(|e| SocketAddr::new(e.ip().to_canonical(), e.port()));
        canonical.filter(|endpoint| !inside(endpoint)).collect()
    }
}

/// A free random 24-bit prefix of session indexes. Random, so that indexes do not show the number of peers.
fn free_index(taken: &mut BTreeSet<u32>) -> u32 {
    loop {
        let index = rand::random::<u32>() >> 8;
        if taken.insert(index) {
            return index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boringtun::x25519::{PublicKey, StaticSecret};

    fn identity() -> Identity {
        Identity::new(StaticSecret::from([1; 32]))
    }

    fn peer(seed: u8, allowed: &[&str]) -> Peer {
        Peer {
            public_key: PublicKey::from(&StaticSecret::from([seed; 32])),
            preshared: None,
            endpoints: Vec::new(),
            allowed_ips: allowed.iter().map(|net| net.parse().unwrap()).collect(),
            keepalive: None,
            deadline: None,
            survive_forever: false,
            relayed: false,
        }
    }

    fn config(peers: Vec<Peer>) -> DeviceConfig {
        let addresses = ["100.96.0.1/16", "fd00::1/48"].map(|net| net.parse().unwrap()).to_vec();
        DeviceConfig { addresses, peers, ..DeviceConfig::default() }
    }

    fn put(held: &mut ActiveConfig, next: &DeviceConfig) {
        let identity = identity();
        let prepared = held.prepare(&identity, next).unwrap();
        held.replace(&identity, next, &[], prepared);
    }

    fn owner(held: &ActiveConfig, address: &str) -> Option<[u8; 32]> {
        held.peer_of(address.parse().unwrap()).map(|entry| entry.public_key)
    }

    #[test]
    fn entries_with_the_same_keys_stay_and_others_are_new() {
        let mut held = ActiveConfig::default();
        put(&mut held, &config(vec![peer(2, &["10.0.0.2/32"]), peer(3, &[])]));
        let key = peer(2, &[]).public_key.to_bytes();
        let index = held.by_key(&key).unwrap().index;
        assert!(held.by_session(index << 8 | 0x7f).is_some_and(|entry| entry.public_key == key));

        put(&mut held, &config(vec![peer(2, &["10.0.0.9/32"])]));
        assert_eq!(held.by_key(&key).unwrap().index, index, "same entry");
        assert_eq!((owner(&held, "10.0.0.2"), owner(&held, "10.0.0.9")), (None, Some(key)));
        assert_eq!(held.peers().len(), 1);

        let mut rekeyed = peer(2, &["10.0.0.9/32"]);
        rekeyed.preshared = Some(crate::config::PresharedKey::new([5; 32]));
        put(&mut held, &config(vec![rekeyed]));
        assert_ne!(held.by_key(&key).unwrap().index, index, "another preshared key is another session");
        assert!(held.by_session(index << 8).is_none());
    }

    #[test]
    fn expired_peers_lose_key_index_and_prefixes() {
        let mut held = ActiveConfig::default();
        let (mut short, long) = (peer(2, &["10.0.0.2/32"]), peer(3, &["10.0.0.3/32"]));
        short.deadline = Some(Mono(100));
        put(&mut held, &config(vec![short.clone(), long.clone()]));
        assert_eq!(held.expire(Mono(99)), 0);
        assert_eq!(held.expire(Mono(100)), 1);
        assert!(held.by_key(short.public_key.as_bytes()).is_none());
        assert_eq!(owner(&held, "10.0.0.2"), None);
        assert_eq!(owner(&held, "10.0.0.3"), Some(long.public_key.to_bytes()));
        assert!(held.is_here("100.96.0.1".parse().unwrap()));
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |peers| ActiveConfig::default().prepare(&identity(), &config(peers)).err();
        assert!(matches!(refused(vec![peer(2, &[]), peer(2, &[])]), Some(ConfigError::DuplicatePeer)));
        assert!(matches!(refused(vec![peer(1, &[])]), Some(ConfigError::OwnKey)));
        let twice = vec![peer(2, &["10.0.0.0/24"]), peer(3, &["10.0.0.7/24"])];
        assert!(matches!(refused(twice), Some(ConfigError::DuplicatePrefix(_))));
        assert!(matches!(refused(vec![peer(2, &["100.96.0.1/32"])]), Some(ConfigError::OwnAddress(_))));
    }

    #[test]
    fn endpoints_inside_the_overlay_are_not_used() {
        let config = config(Vec::new());
        let given = ["100.96.3.4:51820", "192.0.2.1:51820", "[fd00::9]:51820", "[::ffff:192.0.2.2]:1"];
        let given = given.map(|endpoint| endpoint.parse().unwrap());
        let kept = config.outside(&given, &[]);
        assert_eq!(kept, ["192.0.2.1:51820", "192.0.2.2:1"].map(|endpoint| endpoint.parse().unwrap()));
        let kept = config.outside(&given, &["100.96.3.0/24".parse().unwrap()]);
        assert_eq!(kept.len(), 3, "what is the host's is outside the overlay");
    }

    #[test]
    fn sources_come_from_the_pool_of_the_destination() {
        let mut next = config(Vec::new());
        next.addresses.insert(0, "10.9.0.1/24".parse().unwrap());
        let mut held = ActiveConfig::default();
        put(&mut held, &next);
        let source = |to: &str| held.source_for(to.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(source("100.96.0.7").as_deref(), Some("100.96.0.1"));
        assert_eq!(source("8.8.8.8").as_deref(), Some("10.9.0.1"));
        assert_eq!(source("fd00::7").as_deref(), Some("fd00::1"));
    }
}
