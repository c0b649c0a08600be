//! The host's part of a join: whether its own network leaves room for the pools, and the file that bounds its data plane.
//!
//! Owns the words and the file. Refuses to decide what collides: `rap-hostnet` does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rap_hostnet::{Conflict, HostFacts, conflicts};
use rap_rpc::dial::ControlUrl;
use rap_runtime::{Fault, files};
use rap_state::MembershipName;
use rap_trust::Pools;
use rap_types::Reason;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::control_plane::resolve;

/// What a join needs to know of its host's configuration.
#[derive(Debug, Clone)]
pub(super) struct HostTerms {
    interface: String,
    folder: PathBuf,
    allowed: Vec<IpNet>,
    /// Without one nothing is applied on the host.
    tun: bool,
}

impl HostTerms {
    pub(super) fn of(config: &Config) -> Self {
        let (folder, allowed) = (config.bounds.folder.clone(), config.bounds.allowed.clone());
        Self { interface: config.interface.clone(), folder, allowed, tun: !config.no_tun }
    }

    /// Refuses pools that the host's own network needs or routes elsewhere, and names wider routes. Before anything is
    /// asked: such a cluster burns no use of its token. Blocks.
    pub(super) fn check(&self, pools: &Pools, urls: &[String]) -> Result<(), Fault> {
        if !self.tun || pools.prefixes().is_empty() {
            return Ok(());
        }
        let urls: Vec<ControlUrl> = urls.iter().filter_map(|url| ControlUrl::parse(url).ok()).collect();
        let observed = Handle::current().block_on(async {
            let mut control = BTreeSet::new();
            resolve(&urls, &mut control).await;
            let facts = rap_host::facts(pools.prefixes(), &self.interface);
            let facts = tokio::time::timeout(WAIT, facts).await.map_err(std::io::Error::from)??;
            Ok::<_, std::io::Error>(HostFacts { control, ..facts })
        });
        let unread =
            |error| Fault::new(Reason::StateIo, format!("the host's network cannot be read: {error}"));
        self.judge(pools, &observed.map_err(unread)?)
    }

    fn judge(&self, pools: &Pools, facts: &HostFacts) -> Result<(), Fault> {
        let found = conflicts(pools.prefixes(), facts, &self.allowed);
        let (held, named): (Vec<Conflict>, Vec<_>) = found.into_iter().partition(Conflict::holds_back);
        for conflict in &named {
            eprintln!("warning      [{}] {conflict}", Reason::OverlayShadowsRoute);
        }
        let Some(first) = held.first() else { return Ok(()) };
        let more = if held.len() > 1 { format!(" (and {} more)", held.len() - 1) } else { String::new() };
        Err(Fault::new(Reason::OverlayHostConflict, format!("{first}{more}; nothing was asked")))
    }

    /// Writes what the data plane of the membership may use.
    pub(super) fn write_bounds(&self, membership: &MembershipName, pools: &Pools) -> Result<(), Fault> {
        if !self.tun || pools.prefixes().is_empty() {
            return Ok(());
        }
        let list = |prefixes: &[IpNet]| prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
        let mut text = format!(
            "RAP_DATAPLANE_POOLS={}
",
            list(pools.prefixes())
        );
        if !self.allowed.is_empty() {
            text.push_str(&format!(
                "RAP_DATAPLANE_ALLOW_OVERLAP={}
",
                list(&self.allowed)
            ));
        }
        let path = file(&self.folder, membership);
        let io = |error: std::io::Error| {
            Fault::new(Reason::StateIo, format!("{}: {error}", self.folder.display()))
        };
        std::fs::create_dir_all(&self.folder).map_err(io)?;
        Ok(files::write_atomic(&path, text.as_bytes(), 0o644)?)
    }
}

/// The file that bounds the data plane of a membership.
fn file(folder: &Path, membership: &MembershipName) -> PathBuf {
    folder.join(format!("{membership}.env"))
}

/// Removes it, if it is there.
///
/// # Errors
/// What the disk says.
pub(crate) fn remove_bounds(config: &Config) -> Result<(), Fault> {
    let path = file(&config.bounds.folder, &config.membership);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::new(Reason::StateIo, format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

const WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use rap_hostnet::HostRoute;
    use rap_wire::v1;

    fn pools(prefixes: &[&str]) -> Pools {
        let overlay_pools = prefixes.iter().map(|text| (*text).to_owned()).collect();
        Pools::of_token(&v1::JoinToken { overlay_pools, ..Default::default() }).unwrap()
    }

    fn terms(folder: &Path, allowed: &[&str], tun: bool) -> HostTerms {
        let allowed = allowed.iter().map(|text| text.parse().unwrap()).collect();
        HostTerms { interface: "rap0".into(), folder: folder.into(), allowed, tun }
    }

    #[test]
    fn pools_that_the_host_uses_are_refused_and_a_wider_route_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let route = |prefix: &str| HostRoute {
            prefix: prefix.parse().unwrap(),
            next_hop: Some("192.0.2.1".parse().unwrap()),
            connected: false,
        };
        let facts = HostFacts {
            addresses: ["10.77.0.5/24".parse().unwrap()].into(),
            routes: [route("10.0.0.0/8"), route("100.96.7.0/24")].into(),
            ..HostFacts::default()
        };
        let judged =
            |pool: &str, allowed: &[&str]| terms(folder.path(), allowed, true).judge(&pools(&[pool]), &facts);
        let refused = judged("10.77.0.0/25", &["10.0.0.0/8"]).unwrap_err();
        assert_eq!(refused.reason, Reason::OverlayHostConflict);
        assert!(refused.message.contains("10.77.0.0/24"), "{refused}");
        assert!(judged("100.96.0.0/16", &[]).unwrap_err().message.contains("100.96.7.0/24"));
        assert_eq!(judged("100.96.0.0/16", &["100.96.0.0/16"]), Ok(()));
        assert_eq!(judged("10.78.0.0/16", &[]), Ok(()));
    }

    #[test]
    fn the_bounds_of_a_data_plane_are_written_and_without_a_tun_none() {
        let folder = tempfile::tempdir().unwrap();
        let (name, inside) = (MembershipName::new("m").unwrap(), folder.path().join("dataplane"));
        terms(&inside, &[], false).write_bounds(&name, &pools(&["100.96.0.0/16"])).unwrap();
        assert!(!inside.exists());
        let terms = terms(&inside, &["100.96.7.0/24"], true);
        terms.write_bounds(&name, &pools(&["100.96.0.0/16", "fd00::/48"])).unwrap();
        let text = std::fs::read_to_string(inside.join("m.env")).unwrap();
        assert_eq!(
            text,
            "RAP_DATAPLANE_POOLS=100.96.0.0/16,fd00::/48
RAP_DATAPLANE_ALLOW_OVERLAP=100.96.7.0/24
"
        );
    }
}
