//! The table in force: own addresses, peers, and which inner address belongs to whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;
use rap_types::Mono;

use crate::config::DeviceTable;
use crate::error::TableError;
use crate::peer::{Identity, PeerEntry};

/// Peers and addresses, with the indexes that packets are looked up by.
#[derive(Default)]
pub(crate) struct Table {
    addresses: Vec<IpNet>,
    peers: Vec<PeerEntry>,
    by_key: HashMap<[u8; 32], usize>,
    by_index: HashMap<u32, usize>,
    /// Longest prefix wins, both for the way out and for the check of sources.
    owners: JointPrefixMap<IpNet, usize>,
}

impl Table {
    /// Whether `address` is an own one.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// The own address to talk to `destination` from: same pool first, then same family.
    pub(crate) fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let family = || self.addresses.iter().filter(|net| net.addr().is_ipv4() == destination.is_ipv4());
        let same_pool = family().find(|net| net.contains(&destination));
        same_pool.or_else(|| family().next()).map(IpNet::addr)
    }

    /// The peer that owns an inner address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&PeerEntry> {
        let (_, place) = self.owners.get_lpm(&IpNet::from(address))?;
        self.peers.get(*place)
    }

    pub(crate) fn by_key(&self, key: &[u8; 32]) -> Option<&PeerEntry> {
        self.by_key.get(key).and_then(|place| self.peers.get(*place))
    }

    /// The peer of one of our session indexes (its upper 24 bits).
    pub(crate) fn by_session(&self, session: u32) -> Option<&PeerEntry> {
        self.by_index.get(&(session >> 8)).and_then(|place| self.peers.get(*place))
    }

    pub(crate) fn peers(&self) -> &[PeerEntry] {
        &self.peers
    }

    /// Entries for the peers of `next` that this table does not have. Key agreement happens here, so
    /// that [`Self::replace`] is short.
    pub(crate) fn prepare(&self, identity: &Identity, next: &DeviceTable) -> Vec<PeerEntry> {
        let mut taken: BTreeSet<u32> = self.by_index.keys().copied().collect();
        let known = |key: &[u8; 32]| self.by_key(key);
        let new =
            next.peers.iter().filter(|peer| !known(peer.public_key.as_bytes()).is_some_and(|e| e.is(peer)));
        new.map(|peer| PeerEntry::new(identity, peer, free_index(&mut taken))).collect()
    }

    /// Becomes `next`. Entries with the same keys stay, with their sessions; `fresh` has the others.
    pub(crate) fn replace(&mut self, identity: &Identity, next: &DeviceTable, fresh: Vec<PeerEntry>) {
        let old = std::mem::take(self);
        let mut taken: BTreeSet<u32> =
            old.by_index.keys().chain(fresh.iter().map(|e| &e.index)).copied().collect();
        let mut pool: BTreeMap<[u8; 32], Vec<PeerEntry>> = BTreeMap::new();
        for entry in old.peers.into_iter().chain(fresh) {
            pool.entry(entry.public_key).or_default().push(entry);
        }
        self.addresses.clone_from(&next.addresses);
        for peer in &next.peers {
            let entries = pool.remove(peer.public_key.as_bytes()).unwrap_or_default();
            let entry = entries.into_iter().find(|entry| entry.is(peer));
            // Missing only if the peer's deadline passed since `prepare`.
            let entry = entry.unwrap_or_else(|| PeerEntry::new(identity, peer, free_index(&mut taken)));
            entry.configure(peer, next.outside(&peer.endpoints), next.deadline);
            let place = self.peers.len();
            self.by_key.insert(entry.public_key, place);
            self.by_index.insert(entry.index, place);
            for prefix in &peer.allowed_ips {
                self.owners.insert(prefix.trunc(), place);
            }
            self.peers.push(entry);
        }
    }

    /// Forgets peers whose deadline passed; how many.
    pub(crate) fn expire(&mut self, now: Mono) -> usize {
        if !self.peers.iter().any(|entry| entry.lock().is_expired(now)) {
            return 0;
        }
        let old = std::mem::take(self);
        let before = old.peers.len();
        let mut places = BTreeMap::new();
        self.addresses = old.addresses;
        for (was, entry) in old.peers.into_iter().enumerate() {
            if entry.lock().is_expired(now) {
                continue;
            }
            let place = self.peers.len();
            places.insert(was, place);
            self.by_key.insert(entry.public_key, place);
            self.by_index.insert(entry.index, place);
            self.peers.push(entry);
        }
        for (prefix, was) in old.owners {
            if let Some(place) = places.get(&was) {
                self.owners.insert(prefix, *place);
            }
        }
        before - self.peers.len()
    }
}

impl DeviceTable {
    /// Refuses a table that says two things at once.
    pub(crate) fn check(&self, own: &[u8; 32]) -> Result<(), TableError> {
        let mut keys = BTreeSet::new();
        let mut prefixes = BTreeSet::new();
        for peer in &self.peers {
            if peer.public_key.as_bytes() == own {
                return Err(TableError::OwnKey);
            }
            if !keys.insert(peer.public_key.to_bytes()) {
                return Err(TableError::DuplicatePeer);
            }
            let own_prefixes: BTreeSet<IpNet> = peer.allowed_ips.iter().map(IpNet::trunc).collect();
            for prefix in own_prefixes {
                if !prefixes.insert(prefix) {
                    return Err(TableError::DuplicatePrefix(prefix));
                }
            }
        }
        let claimed =
            self.addresses.iter().map(IpNet::addr).find(|own| prefixes.contains(&IpNet::from(*own)));
        claimed.map_or(Ok(()), |own| Err(TableError::OwnAddress(own)))
    }

    /// Endpoints that are not themselves overlay addresses: a tunnel inside itself never ends.
    fn outside(&self, endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
        let inside = |endpoint: &SocketAddr| {
            let ip = endpoint.ip().to_canonical();
            self.addresses.iter().any(|net| net.contains(&ip) && net.prefix_len() > 0)
        };
        let canonical = endpoints.iter().map(|e| SocketAddr::new(e.ip().to_canonical(), e.port()));
        canonical.filter(|endpoint| !inside(endpoint)).collect()
    }
}

/// A random 24-bit session index prefix that is not taken; indexes must not tell how many peers there are.
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
    use crate::config::Peer;
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
        }
    }

    fn table(peers: Vec<Peer>) -> DeviceTable {
        let addresses = ["100.96.0.1/16", "fd00::1/48"].map(|net| net.parse().unwrap()).to_vec();
        DeviceTable { addresses, peers, deadline: None }
    }

    fn put(held: &mut Table, next: &DeviceTable) {
        let identity = identity();
        next.check(identity.public.as_bytes()).unwrap();
        let fresh = held.prepare(&identity, next);
        held.replace(&identity, next, fresh);
    }

    fn owner(table: &Table, address: &str) -> Option<[u8; 32]> {
        table.owner(address.parse().unwrap()).map(|entry| entry.public_key)
    }

    #[test]
    fn the_longest_prefix_owns_an_address() {
        let (wide, narrow) =
            (peer(2, &["10.0.0.0/8", "fd00:1::/32"]), peer(3, &["10.1.0.9/16", "fd00:1::7/128"]));
        let mut held = Table::default();
        put(&mut held, &table(vec![wide.clone(), narrow.clone()]));
        assert_eq!(owner(&held, "10.2.0.1"), Some(wide.public_key.to_bytes()));
        assert_eq!(owner(&held, "10.1.0.1"), Some(narrow.public_key.to_bytes()));
        assert_eq!(owner(&held, "fd00:1::8"), Some(wide.public_key.to_bytes()));
        assert_eq!(owner(&held, "fd00:1::7"), Some(narrow.public_key.to_bytes()));
        assert_eq!(owner(&held, "11.0.0.1"), None);
        assert_eq!(owner(&held, "fd01::1"), None);
    }

    #[test]
    fn entries_with_the_same_keys_stay_and_others_are_new() {
        let mut held = Table::default();
        put(&mut held, &table(vec![peer(2, &["10.0.0.2/32"]), peer(3, &[])]));
        let key = peer(2, &[]).public_key.to_bytes();
        let index = held.by_key(&key).unwrap().index;
        assert!(held.by_session(index << 8 | 0x7f).is_some_and(|entry| entry.public_key == key));

        put(&mut held, &table(vec![peer(2, &["10.0.0.9/32"])]));
        assert_eq!(held.by_key(&key).unwrap().index, index, "same entry");
        assert_eq!((owner(&held, "10.0.0.2"), owner(&held, "10.0.0.9")), (None, Some(key)));
        assert_eq!(held.peers().len(), 1);

        let mut rekeyed = peer(2, &["10.0.0.9/32"]);
        rekeyed.preshared = Some(crate::config::PresharedKey::new([5; 32]));
        put(&mut held, &table(vec![rekeyed]));
        assert_ne!(held.by_key(&key).unwrap().index, index, "another preshared key is another session");
        assert!(held.by_session(index << 8).is_none());
    }

    #[test]
    fn expired_peers_lose_key_index_and_prefixes() {
        let mut held = Table::default();
        let (mut short, long) = (peer(2, &["10.0.0.2/32"]), peer(3, &["10.0.0.3/32"]));
        short.deadline = Some(Mono(100));
        put(&mut held, &table(vec![short.clone(), long.clone()]));
        assert_eq!(held.expire(Mono(99)), 0);
        assert_eq!(held.expire(Mono(100)), 1);
        assert!(held.by_key(short.public_key.as_bytes()).is_none());
        assert_eq!(owner(&held, "10.0.0.2"), None);
        assert_eq!(owner(&held, "10.0.0.3"), Some(long.public_key.to_bytes()));
        assert!(held.is_own("100.96.0.1".parse().unwrap()));
    }

    #[test]
    fn contradictions_are_refused() {
        let own = identity().public.to_bytes();
        let refused = |peers| table(peers).check(&own).unwrap_err();
        assert!(matches!(refused(vec![peer(2, &[]), peer(2, &[])]), TableError::DuplicatePeer));
        assert!(matches!(refused(vec![peer(1, &[])]), TableError::OwnKey));
        let twice = vec![peer(2, &["10.0.0.0/24"]), peer(3, &["10.0.0.7/24"])];
        assert!(matches!(refused(twice), TableError::DuplicatePrefix(_)));
        assert!(matches!(refused(vec![peer(2, &["100.96.0.1/32"])]), TableError::OwnAddress(_)));
    }

    #[test]
    fn endpoints_inside_the_overlay_are_not_used() {
        let table = table(Vec::new());
        let given = ["100.96.3.4:51820", "192.0.2.1:51820", "[fd00::9]:51820", "[::ffff:192.0.2.2]:1"];
        let kept = table.outside(&given.map(|endpoint| endpoint.parse().unwrap()));
        assert_eq!(kept, ["192.0.2.1:51820", "192.0.2.2:1"].map(|endpoint| endpoint.parse().unwrap()));
    }

    #[test]
    fn sources_come_from_the_pool_of_the_destination() {
        let mut next = table(Vec::new());
        next.addresses.insert(0, "10.9.0.1/24".parse().unwrap());
        let mut held = Table::default();
        put(&mut held, &next);
        let source = |to: &str| held.source_for(to.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(source("100.96.0.7").as_deref(), Some("100.96.0.1"));
        assert_eq!(source("8.8.8.8").as_deref(), Some("10.9.0.1"));
        assert_eq!(source("fd00::7").as_deref(), Some("fd00::1"));
    }
}
