//! What the options mean: a `Config` without an unvalidated field, or every problem at once.
//!
//! Owns defaults and bounds. Refuses to touch the network or the data directory.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rap_runtime::settings_layers::Problem;
use rap_runtime::telemetry::{self, LogFormat};
use rap_state::MembershipName;
use rap_trust::AuthorityPin;
use rap_types::sense::{self, Loopback};

use super::{HostBounds, Raw};

rap_types::word_enum! {
    /// Who starts the data plane.
    DataplaneMode {
        /// The agent, if none runs.
        Spawn = "spawn",
        /// The service manager, asked by the agent if none runs.
        Systemd = "systemd",
        /// Somebody else: the agent waits for its socket.
        External = "external",
    }
}

/// The agent's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of all memberships.
    pub data_dir: PathBuf,
    /// Socket of the running agent.
    pub socket: PathBuf,
    /// Directory of the data planes' sockets.
    pub run_dir: PathBuf,
    /// Membership that `join` makes.
    pub membership: MembershipName,
    /// True if that membership was named: other commands concern it alone, else all.
    pub membership_given: bool,
    /// True if development installations are accepted.
    pub dev: bool,
    /// True if endpoints on this host are dialled.
    pub loopback_endpoints: bool,
    /// Operator's pin of the cluster authority.
    pub pin: AuthorityPin,
    /// Between two polls of a waiting join.
    pub poll_interval: Duration,
    /// After which a waiting join gives up.
    pub poll_timeout: Duration,
    /// From start to giving up a join that reached no control plane.
    pub poll_unreached: Duration,
    /// True if assigned workloads may be started.
    pub workload_supervision: bool,
    /// Name to ask for.
    pub name: Option<String>,
    /// Region.
    pub region: String,
    /// Signed link endpoints.
    pub advertise: Vec<String>,
    /// Signed WireGuard endpoints.
    pub advertise_wireguard: Vec<String>,
    /// Where the first membership's data plane takes links.
    pub listen_link: SocketAddr,
    /// Where the first membership's data plane takes WireGuard.
    pub listen_wireguard: SocketAddr,
    /// Name of the first membership's TUN interface.
    pub interface: String,
    /// True without a TUN device.
    pub no_tun: bool,
    /// What an administrator lets the overlay use of this host.
    pub bounds: HostBounds,
    /// Program of the data plane; `None` for the one beside the agent.
    pub dataplane_bin: Option<PathBuf>,
    /// Who starts the data plane.
    pub dataplane: DataplaneMode,
    /// Life of a path through relays.
    pub path_lifetime: Duration,
    /// Most links of a relay with nodes that are no relays.
    pub attachments_max: u32,
    /// Most bytes of cached state per membership.
    pub cache_bytes: u64,
    /// Deadline of one call to the control plane.
    pub call_timeout: Duration,
    /// Where metrics are served; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Log filter.
    pub log: String,
    /// Log format.
    pub log_format: LogFormat,
}

impl Config {
    /// Checks every option and fills in defaults.
    pub fn resolve(raw: &Raw) -> Result<Self, Vec<Problem>> {
        let mut check = Check(Vec::new());
        let socket = raw.socket.clone().unwrap_or_else(|| "/run/rap/agent.sock".into());
        let run_dir = match (&raw.run_dir, socket.parent()) {
            (Some(run_dir), _) => run_dir.clone(),
            (None, Some(parent)) if !parent.as_os_str().is_empty() => parent.to_owned(),
            (None, _) => ".".into(),
        };
        let pin = AuthorityPin::read(
            raw.cluster_authority_public_key.as_deref(),
            raw.cluster_authority_fingerprint.as_deref(),
        );
        let poll_interval = raw.enrollment_poll_interval_seconds.unwrap_or(5);
        let poll_timeout = raw.enrollment_poll_timeout_seconds.unwrap_or(3600);
        check.seconds("enrollment_poll_interval_seconds", poll_interval, 3600);
        check.seconds("enrollment_poll_timeout_seconds", poll_timeout, 30 * 86_400);
        let loopback = raw.loopback_endpoints.or(raw.dev).unwrap_or(false);
        let config = Self {
            data_dir: raw.data_dir.clone().unwrap_or_else(|| "/var/lib/rap/agent".into()),
            socket,
            run_dir,
            membership: check.parse("membership", raw.membership.as_deref(), "default"),
            membership_given: raw.membership.is_some(),
            dev: raw.dev.unwrap_or(false),
            loopback_endpoints: loopback,
            pin: check.take("cluster_authority", pin),
            poll_interval: Duration::from_secs(poll_interval),
            poll_timeout: Duration::from_secs(poll_timeout),
            poll_unreached: Duration::from_secs(raw.enrollment_poll_timeout_seconds.unwrap_or(300)),
            workload_supervision: raw.workload_supervision_enabled.unwrap_or(true),
            name: raw.name.clone(),
            region: raw.region.clone().unwrap_or_default(),
            advertise: check.endpoints("advertise", raw.advertise.as_deref(), loopback.into()),
            advertise_wireguard: check.endpoints(
                "advertise_wireguard",
                raw.advertise_wireguard.as_deref(),
                loopback.into(),
            ),
            listen_link: check.parse("listen_link", raw.listen_link.as_deref(), "[::]:7443"),
            listen_wireguard: check.parse("listen_wireguard", raw.listen_wireguard.as_deref(), "[::]:51820"),
            interface: raw.interface.clone().unwrap_or_else(|| "rap0".into()),
            no_tun: raw.no_tun.unwrap_or(false),
            bounds: check.take("allow_overlap", HostBounds::read(raw)),
            dataplane_bin: raw.dataplane_bin.clone(),
            dataplane: raw.dataplane.as_deref().unwrap_or("spawn").parse().unwrap_or_else(|_| {
                check.fail("dataplane", "spawn, systemd or external", DataplaneMode::Spawn)
            }),
            path_lifetime: Duration::from_secs(raw.path_lifetime_seconds.unwrap_or(600)),
            attachments_max: raw.attachments_max.unwrap_or(512),
            cache_bytes: raw.cache_bytes.unwrap_or(64 << 20),
            call_timeout: Duration::from_millis(raw.call_timeout_ms.unwrap_or(10_000)),
            metrics: match raw.metrics.as_deref() {
                Some("off") => None,
                text => Some(check.parse("metrics", text, "127.0.0.1:9465")),
            },
            log: raw.log.clone().unwrap_or_else(|| "info".into()),
            log_format: check.parse("log_format", raw.log_format.as_deref(), "text"),
        };
        let named = config.name.as_deref().is_none_or(is_node_name);
        check.ensure(named, "name", "1 to 63 of a-z 0-9 -, not at the ends");
        check.take("log", telemetry::check_filter(&config.log));
        let lives = (10..=600).contains(&config.path_lifetime.as_secs());
        check.ensure(lives, "path_lifetime_seconds", "10 to 600");
        check.ensure((1..=65_536).contains(&config.attachments_max), "attachments_max", "1 to 65536");
        check.ensure(config.cache_bytes >= 1 << 20, "cache_bytes", "at least 1048576");
        let fits = (100..=600_000).contains(&config.call_timeout.as_millis());
        check.ensure(fits, "call_timeout_ms", "100 to 600000");
        let dataplane = config.run_dir.join(config.membership.to_string()).join("dataplane.sock");
        for (at, longest) in [("socket", &config.socket), ("run_dir", &dataplane)] {
            let text = format!("a socket's path has at most {SOCKET_PATH} bytes");
            check.ensure(longest.as_os_str().len() <= SOCKET_PATH, at, text);
        }
        let printable = config.region.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        check.ensure(config.region.len() <= 63 && printable, "region", "at most 63 printable ASCII");
        let interface = config.interface.as_bytes();
        let plain = (1..=15).contains(&interface.len()) && interface.iter().all(u8::is_ascii_alphanumeric);
        check.ensure(plain, "interface", "1 to 15 letters and digits");
        if check.0.is_empty() { Ok(config) } else { Err(check.0) }
    }

    /// The membership that commands concern, for the agent: empty for all of them.
    pub fn asked(&self) -> &str {
        if self.membership_given { self.membership.as_str() } else { "" }
    }

    /// Every option as it holds, for `config --effective`. None is a secret.
    pub fn effective(&self) -> serde_json::Value {
        serde_json::json!({
            "data_dir": self.data_dir,
            "socket": self.socket,
            "run_dir": self.run_dir,
            "membership": self.membership,
            "dev": self.dev,
            "loopback_endpoints": self.loopback_endpoints,
            "cluster_authority_pinned": !self.pin.is_empty(),
            "enrollment_poll_interval_seconds": self.poll_interval.as_secs(),
            "enrollment_poll_timeout_seconds": self.poll_timeout.as_secs(),
            "workload_supervision_enabled": self.workload_supervision,
            "name": self.name,
            "region": self.region,
            "advertise": self.advertise,
            "advertise_wireguard": self.advertise_wireguard,
            "listen_link": self.listen_link,
            "listen_wireguard": self.listen_wireguard,
            "interface": self.interface,
            "no_tun": self.no_tun,
            "bounds_dir": self.bounds.folder,
            "allow_overlap": self.bounds.allowed,
            "dataplane_bin": self.dataplane_bin,
            "dataplane": self.dataplane,
            "path_lifetime_seconds": self.path_lifetime.as_secs(),
            "attachments_max": self.attachments_max,
            "cache_bytes": self.cache_bytes,
            "call_timeout_ms": u64::try_from(self.call_timeout.as_millis()).unwrap_or(u64::MAX),
            "metrics": self.metrics.map_or("off".to_owned(), |address| address.to_string()),
            "log": self.log,
            "log_format": match self.log_format { LogFormat::Text => "text", LogFormat::Json => "json" },
        })
    }
}

/// Longest path of a Unix socket on Linux: sun_path without its final zero.
const SOCKET_PATH: usize = 107;

/// Collects problems instead of stopping at the first.
struct Check(Vec<Problem>);

impl Check {
    fn fail<T>(&mut self, at: &str, text: impl fmt::Display, instead: T) -> T {
        self.0.push(Problem::new(at, text));
        instead
    }

    fn ensure(&mut self, holds: bool, at: &str, text: impl fmt::Display) {
        if !holds {
            self.0.push(Problem::new(at, text));
        }
    }

    fn take<T: Default, E: fmt::Display>(&mut self, at: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|error| self.fail(at, error, T::default()))
    }

    /// After a problem the default stands in for the value, which is never used then.
    fn parse<T: FromStr<Err: fmt::Display>>(&mut self, at: &str, text: Option<&str>, default: &str) -> T {
        let known = |_| unreachable!("every default parses");
        text.unwrap_or(default)
            .parse()
            .unwrap_or_else(|error| self.fail(at, error, default.parse().unwrap_or_else(known)))
    }

    fn seconds(&mut self, at: &str, seconds: u64, most: u64) {
        self.ensure((1..=most).contains(&seconds), at, format!("1 to {most}"));
    }

    fn endpoints(&mut self, at: &str, endpoints: Option<&[String]>, loopback: Loopback) -> Vec<String> {
        let endpoints = endpoints.unwrap_or_default();
        self.ensure(endpoints.len() <= 16, at, "at most 16");
        for endpoint in endpoints {
            if let Err(why) = sense::endpoint(endpoint, loopback) {
                let own_host = sense::endpoint(endpoint, Loopback::Allowed).is_ok();
                let hint = if own_host { OWN_HOST } else { "" };
                self.0.push(Problem::new(at, format!("`{endpoint}`: {why}{hint}")));
            }
        }
        endpoints.to_vec()
    }
}

/// After the refusal of an address that only this host reaches.
const OWN_HOST: &str =
    ": name one that other hosts reach, or set loopback_endpoints if all nodes run on this host";

/// True for a DNS label in lower case.
pub(crate) fn is_node_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
        && plain(bytes[0])
        && plain(bytes[bytes.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config = Config::resolve(&Raw::default()).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/rap/agent"));
        assert_eq!(config.run_dir, PathBuf::from("/run/rap"));
        assert_eq!(config.metrics, Some("127.0.0.1:9465".parse().unwrap()));
        let off = Config::resolve(&Raw { metrics: Some("off".into()), ..Raw::default() }).unwrap();
        assert_eq!((off.metrics, off.effective()["metrics"].as_str()), (None, Some("off")));
        assert_eq!((config.listen_link.port(), config.listen_wireguard.port()), (7443, 51820));
        assert!(!config.dev && config.workload_supervision && config.pin.is_empty());
    }

    #[test]
    fn every_problem_is_reported_together() {
        let raw = Raw {
            membership: Some("../x".into()),
            listen_link: Some("nowhere".into()),
            advertise: Some(vec!["host".into(), "0.0.0.0:1".into()]),
            enrollment_poll_interval_seconds: Some(0),
            dataplane: Some("kernel".into()),
            name: Some("Upper".into()),
            cluster_authority_fingerprint: Some("MD5:00".into()),
            interface: Some("a/b".into()),
            log_format: Some("xml".into()),
            cache_bytes: Some(1),
            path_lifetime_seconds: Some(9),
            attachments_max: Some(0),
            call_timeout_ms: Some(1),
            metrics: Some("everywhere".into()),
            socket: Some(format!("/run/{}", "s".repeat(103)).into()),
            run_dir: Some(format!("/run/{}", "r".repeat(90)).into()),
            region: Some("a\u{1b}[31m".into()),
            log: Some("!!!==".into()),
            ..Raw::default()
        };
        let problems = Config::resolve(&raw).unwrap_err();
        let places: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
        for place in [
            "membership",
            "listen_link",
            "advertise",
            "enrollment_poll_interval_seconds",
            "dataplane",
            "name",
            "cluster_authority",
            "interface",
            "log_format",
            "cache_bytes",
            "path_lifetime_seconds",
            "attachments_max",
            "call_timeout_ms",
            "metrics",
            "socket",
            "run_dir",
            "region",
            "log",
        ] {
            assert!(places.contains(&place), "{place} in {places:?}");
        }
        assert_eq!(places.iter().filter(|place| **place == "advertise").count(), 2);
    }

    fn is_endpoint(text: &str, loopback: bool) -> bool {
        let mut check = Check(Vec::new());
        check.endpoints("advertise", Some(&[text.to_owned()]), loopback.into());
        check.0.is_empty()
    }

    #[test]
    fn endpoints_are_addresses_or_names_with_a_port() {
        for good in ["a.example:7443", "127.0.0.1:1", "[::1]:9"] {
            assert!(is_endpoint(good, true), "{good}");
        }
        for bad in ["a", "a:0", ":1", "[::]:1", "a b:1", "a:99999", "::1:80/x"] {
            assert!(!is_endpoint(bad, true), "{bad}");
        }
        for own in ["127.0.0.1:1", "[::1]:9"] {
            let mut check = Check(Vec::new());
            check.endpoints("advertise", Some(&[own.to_owned()]), Loopback::Refused);
            let said = check.0.iter().map(ToString::to_string).collect::<String>();
            assert!(said.contains("name one that other hosts reach"), "{own}: {said}");
        }
    }
}
