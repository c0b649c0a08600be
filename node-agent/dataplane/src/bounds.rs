//! What an administrator of the host lets a membership use: its pools, and where the host's routes may be overlapped.
//!
//! Read from a file that the agent cannot write. What comes over the socket is held against it.

use std::path::Path;

use ipnet::IpNet;
use rap_runtime::Fault;
use rap_runtime::files;
use rap_types::Reason;

/// The bounds of one membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Absent: nothing was written down, and any address is taken.
    pools: Option<Vec<IpNet>>,
    /// Prefixes in which routes of the host do not hold the overlay back.
    pub(crate) allowed: Vec<IpNet>,
}

impl Bounds {
    /// Reads `folder/membership.env`. No file: no bounds.
    pub(crate) fn read(folder: &Path, membership: &str) -> Result<Self, Fault> {
        let path = folder.join(format!("{membership}.env"));
        let bytes = match files::read_guarded(&path, FILE_CAP) {
            Err(error) if error.is_not_found() => {
                tracing::warn!(file = %path.display(), "no pools are written down: any address of a table is taken");
                return Ok(Self::default());
            }
            read => read?,
        };
        let invalid = |what: String| Fault::new(Reason::ConfigInvalid, format!("{}: {what}", path.display()));
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(invalid)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut bounds = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once('=') {
                Some((POOLS, value)) => bounds.pools = Some(prefixes(value)?),
                Some((ALLOWED, value)) => bounds.allowed = prefixes(value)?,
                _ => return Err(format!("{line:.64}: not a setting")),
            }
        }
        if bounds.pools.as_ref().is_none_or(Vec::is_empty) {
            return Err(format!("{POOLS} is missing"));
        }
        Ok(bounds)
    }

    /// True if every address of the prefix may be used.
    pub(crate) fn hold(&self, prefix: &IpNet) -> bool {
        self.pools.as_ref().is_none_or(|pools| pools.iter().any(|pool| pool.contains(prefix)))
    }
}

fn prefixes(value: &str) -> Result<Vec<IpNet>, String> {
    let prefixes = value.split(',').map(str::trim).filter(|text| !text.is_empty());
    prefixes.map(|text| text.parse().map_err(|_| format!("{text:.64}: not a prefix"))).collect()
}

const POOLS: &str = "RAP_DATAPLANE_POOLS";
const ALLOWED: &str = "RAP_DATAPLANE_ALLOW_OVERLAP";
const FILE_CAP: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_within_a_pool_is_held_and_nothing_else() {
        let bounds = Bounds::parse("# by hand\nRAP_DATAPLANE_POOLS=100.96.0.0/16,fd00::/48\n").unwrap();
        for inside in ["100.96.0.5/32", "100.96.0.0/16", "fd00::7/128"] {
            assert!(bounds.hold(&net(inside)), "{inside}");
        }
        for outside in ["100.64.0.0/10", "0.0.0.0/0", "127.0.0.1/32", "fd00::/8", "192.0.2.0/24"] {
            assert!(!bounds.hold(&net(outside)), "{outside}");
        }
        assert!(Bounds::default().hold(&net("0.0.0.0/0")), "nothing was written down");
    }

    #[test]
    fn a_file_that_others_can_write_or_that_says_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.env");
        assert_eq!(Bounds::read(folder.path(), "m"), Ok(Bounds::default()));
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Bounds::read(folder.path(), "m").map_err(|fault| fault.reason)
        };
        let text = "RAP_DATAPLANE_POOLS=100.96.0.0/16\nRAP_DATAPLANE_ALLOW_OVERLAP=100.96.7.0/24\n";
        assert_eq!(write(text, 0o644).unwrap().allowed, [net("100.96.7.0/24")]);
        assert_eq!(write(text, 0o664), Err(Reason::SecretExposed));
        for bad in ["", "RAP_DATAPLANE_POOLS=\n", "RAP_DATAPLANE_POOLS=x\n", "POOLS=100.96.0.0/16\n", "x"] {
            assert_eq!(write(bad, 0o644), Err(Reason::ConfigInvalid), "{bad}");
        }
    }
}
