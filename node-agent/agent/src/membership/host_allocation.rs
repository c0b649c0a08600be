//! What a membership takes of its host, kept with it: a number that gives it ports and interface, and the
//! address pools it holds.
//!
//! Owns the record, and the lock under which numbers are given out and pools compared. Refuses to judge
//! overlaps: `rap_trust::Claims` does.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use rap_runtime::Fault;
use rap_state::{Durable, MembershipDir, MembershipName, Record};
use rap_trust::{Claims, Overlap, Pools};
use rap_types::Reason;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Membership;
use crate::config::Config;

/// What a membership has of its host. The number never changes while the membership exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAllocation {
    /// Ports are those of the configuration plus this; the interface is `rap<number>`.
    pub number: u16,
    /// Pools of its cluster, once a contract or snapshot said them.
    pub pools: Pools,
}

impl Record for HostAllocation {
    const SCHEMA: &'static str = "rap.place.v1";
}

impl HostAllocation {
    /// Where its data plane takes links.
    pub fn link(&self, config: &Config) -> SocketAddr {
        self.shifted(config.listen_link)
    }

    /// Where its data plane takes WireGuard.
    pub fn wireguard(&self, config: &Config) -> SocketAddr {
        self.shifted(config.listen_wireguard)
    }

    /// Name of its TUN interface.
    pub fn interface(&self, config: &Config) -> String {
        match self.number {
            0 => config.interface.clone(),
            number => format!("{}{number}", config.interface.trim_end_matches(|c: char| c.is_ascii_digit())),
        }
    }

    /// What peers are told of where links are taken: the port that is configured for links moves with
    /// the number, another one, of a forwarding, is the operator's word.
    pub fn advertised(&self, config: &Config) -> (Vec<String>, Vec<String>) {
        let moved = |endpoints: &[String], base: SocketAddr, own: SocketAddr| {
            let one = |endpoint: &String| match endpoint.rsplit_once(':') {
                Some((host, port)) if port.parse() == Ok(base.port()) => format!("{host}:{}", own.port()),
                _ => endpoint.clone(),
            };
            endpoints.iter().map(one).collect()
        };
        (
            moved(&config.advertise, config.listen_link, self.link(config)),
            moved(&config.advertise_wireguard, config.listen_wireguard, self.wireguard(config)),
        )
    }

    /// A port of 0 is the kernel's choice for everyone.
    fn shifted(&self, address: SocketAddr) -> SocketAddr {
        match address.port() {
            0 => address,
            port => SocketAddr::new(address.ip(), port.saturating_add(self.number)),
        }
    }
}

/// The allocations of a host, locked while one is made. Blocks.
pub struct HostAllocations {
    data: PathBuf,
    _lock: Flock<File>,
}

impl HostAllocations {
    /// Waits for its turn: other joins hold it for a few writes only.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(data: &Path) -> Result<Self, Fault> {
        let path = data.join(LOCK);
        let io = |error: std::io::Error| {
            let reason = match error.kind() {
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
                    Reason::StateReadOnly
                }
                std::io::ErrorKind::StorageFull => Reason::StateNoSpace,
                _ => Reason::StateIo,
            };
            Fault::new(reason, format!("{}: {error}", path.display()))
        };
        // The mode of the directory is left as it is: the memberships in it are private by themselves.
        std::fs::create_dir_all(data).map_err(io)?;
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(nix::libc::O_NOFOLLOW).open(&path).map_err(io)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io(errno.into()))?;
        Ok(Self { data: data.to_owned(), _lock: lock })
    }

    /// Every membership that has an allocation.
    ///
    /// # Errors
    /// The directory cannot be read. An allocation that cannot be read is left out: its membership does not start.
    pub fn all(&self) -> Result<Vec<(MembershipName, HostAllocation)>, Fault> {
        let mut allocations = Vec::new();
        for name in MembershipDir::list(&self.data)? {
            match read(&self.data.join(name.as_str())) {
                Ok(Some(allocation)) => allocations.push((name, allocation)),
                Ok(None) => {}
                Err(fault) => {
                    tracing::warn!(membership = %name, reason = %fault.reason, error = %fault, "host allocation not readable");
                }
            }
        }
        Ok(allocations)
    }

    /// Refuses `pools` for `name` if another membership of this host holds a part of them.
    ///
    /// # Errors
    /// `overlay.overlap`.
    pub fn check(&self, name: &MembershipName, pools: &Pools) -> Result<(), Fault> {
        let mut claims = Claims::default();
        for (other, allocation) in self.all()? {
            // Two that overlap already are the agent's matter: the first of them runs.
            let _ = claims.claim(other.as_str(), allocation.pools);
        }
        claims.check(name.as_str(), pools).map_err(overlap_fault)
    }

    /// The allocation of a membership; the lowest free number if it has none yet. With `pools`, they are kept.
    ///
    /// # Errors
    /// `state.full` beyond [`MOST`] memberships; those of state.
    pub fn give(&self, dir: &MembershipDir, pools: Option<Pools>) -> Result<HostAllocation, Fault> {
        let (mut record, _) = Durable::<HostAllocation>::open(&dir.join(FILE))?;
        let allocation = match record.value() {
            Some(allocation) => HostAllocation {
                pools: pools.unwrap_or_else(|| allocation.pools.clone()),
                ..allocation.clone()
            },
            None => {
                let taken: Vec<u16> = self.all()?.iter().map(|(_, allocation)| allocation.number).collect();
                let free = (0..MOST).find(|number| !taken.contains(number));
                let number = free.ok_or_else(|| {
                    Fault::new(Reason::StateFull, format!("a host has at most {MOST} memberships"))
                })?;
                HostAllocation { number, pools: pools.unwrap_or_default() }
            }
        };
        if record.value() != Some(&allocation) {
            record.store(allocation.clone())?;
        }
        Ok(allocation)
    }
}

/// The stored allocation of the membership in `directory`, without the lock: for looking only.
///
/// # Errors
/// An error of local state.
pub fn read(directory: &Path) -> Result<Option<HostAllocation>, Fault> {
    let (record, _) = Durable::<HostAllocation>::open(&directory.join(FILE))?;
    Ok(record.value().cloned())
}

/// The refusal of an overlap.
pub fn overlap_fault(overlap: Overlap) -> Fault {
    Fault::new(Reason::OverlayOverlap, overlap.to_string())
}

/// The allocation of a membership, made now if the membership is older than allocations. A disk that only reads
/// keeps one from being written, not from being used.
pub fn allocation_of(data: &Path, membership: &Membership, pools: Pools) -> Result<HostAllocation, Fault> {
    match HostAllocations::open(data)
        .and_then(|allocations| allocations.give(&membership.dir, Some(pools.clone())))
    {
        Err(fault) if matches!(fault.reason, Reason::StateReadOnly | Reason::StateNoSpace) => {
            tracing::warn!(reason = %fault.reason, error = %fault, "the host allocation cannot be written");
            Ok(read(membership.dir.path())?.unwrap_or(HostAllocation { number: 0, pools }))
        }
        given => given,
    }
}

/// What `memberships` lists.
pub fn listed_facts(
    config: &Config,
    membership: &Membership,
    allocation: &HostAllocation,
) -> Map<String, Value> {
    let mut facts = allocation_facts(config, allocation);
    facts.extend([
        ("cluster".to_owned(), json!(membership.identity.cluster_id)),
        ("cluster_name".to_owned(), json!(membership.bootstrap.contract.cluster_name)),
        ("node_id".to_owned(), json!(membership.node)),
        ("node_name".to_owned(), json!(membership.bootstrap.contract.node_name)),
        ("identity_status".to_owned(), json!(membership.identity.identity_status)),
    ]);
    facts
}

/// What an allocation means under this configuration.
pub fn allocation_facts(config: &Config, allocation: &HostAllocation) -> Map<String, Value> {
    let interface = (!config.no_tun).then(|| allocation.interface(config));
    Map::from_iter([
        ("place".to_owned(), json!(allocation.number)),
        ("interface".to_owned(), json!(interface)),
        ("listen_link".to_owned(), json!(allocation.link(config))),
        ("listen_wireguard".to_owned(), json!(allocation.wireguard(config))),
        ("pools".to_owned(), json!(allocation.pools)),
    ])
}

const FILE: &str = "place.json";
/// No membership name has a dot.
const LOCK: &str = ".places.lock";
const MOST: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(data: &Path, name: &str) -> MembershipDir {
        MembershipDir::open(data, &MembershipName::new(name).unwrap()).unwrap()
    }

    #[test]
    fn a_number_stays_with_its_membership_and_a_freed_one_is_given_again() {
        let data = tempfile::tempdir().unwrap();
        let number = |name: &str| {
            let allocations = HostAllocations::open(data.path()).unwrap();
            allocations.give(&dir(data.path(), name), None).unwrap().number
        };
        assert_eq!((number("m"), number("z"), number("a")), (0, 1, 2), "not the order of names");
        assert_eq!((number("a"), number("m"), number("z")), (2, 0, 1), "stable");
        dir(data.path(), "z").destroy().unwrap();
        assert_eq!((number("b"), number("a")), (1, 2));
    }

    #[test]
    fn ports_and_interface_follow_the_number_and_not_the_order_of_start() {
        let config = Config::resolve(&crate::config::Raw::default()).unwrap();
        let allocation = |number| HostAllocation { number, pools: Pools::default() };
        let first = allocation(0);
        assert_eq!((first.link(&config).port(), first.interface(&config)), (7443, "rap0".into()));
        let third = allocation(2);
        assert_eq!((third.link(&config).port(), third.wireguard(&config).port()), (7445, 51822));
        assert_eq!(third.interface(&config), "rap2");
    }

    #[test]
    fn an_advertised_port_of_the_configuration_moves_with_the_place_and_a_forwarded_one_stays() {
        let config = Config::resolve(&crate::config::Raw {
            advertise: Some(vec![
                "a.example:7443".into(),
                "192.0.2.1:443".into(),
                "[2001:db8::1]:7443".into(),
            ]),
            advertise_wireguard: Some(vec!["a.example:51820".into()]),
            ..Default::default()
        })
        .unwrap();
        let allocation = |number| HostAllocation { number, pools: Pools::default() };
        let (link, wireguard) = allocation(1).advertised(&config);
        assert_eq!(link, ["a.example:7444", "192.0.2.1:443", "[2001:db8::1]:7444"]);
        assert_eq!(wireguard, ["a.example:51821"]);
        assert_eq!(allocation(0).advertised(&config), (config.advertise.clone(), config.advertise_wireguard));
    }

    #[test]
    fn pools_that_another_membership_holds_are_refused_before_anything_is_asked() {
        let data = tempfile::tempdir().unwrap();
        let pools = |text: &str| {
            let token = rap_wire::v1::JoinToken { overlay_pools: vec![text.into()], ..Default::default() };
            Pools::of_token(&token).unwrap()
        };
        let allocations = HostAllocations::open(data.path()).unwrap();
        allocations.give(&dir(data.path(), "a"), Some(pools("100.96.0.0/16"))).unwrap();
        let name = |text: &str| MembershipName::new(text).unwrap();
        let refused = allocations.check(&name("b"), &pools("100.96.200.0/24")).unwrap_err();
        assert_eq!(refused.reason, Reason::OverlayOverlap);
        allocations.check(&name("b"), &pools("100.97.0.0/16")).unwrap();
        allocations.check(&name("a"), &pools("100.96.0.0/16")).unwrap();
    }
}
