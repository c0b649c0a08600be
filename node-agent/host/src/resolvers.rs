//! Upstream resolvers of the host, as its files name them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// The resolvers that this host asks. A stub on loopback is none; where systemd-resolved is one, its own list counts.
pub(crate) fn read() -> BTreeSet<IpAddr> {
    let named = |path: &str| {
        let bytes = rap_runtime::files::read_capped(Path::new(path), FILE_CAP).unwrap_or_default();
        upstream(&String::from_utf8_lossy(&bytes))
    };
    let own = named("/etc/resolv.conf");
    if own.is_empty() { named("/run/systemd/resolve/resolv.conf") } else { own }
}

fn upstream(text: &str) -> BTreeSet<IpAddr> {
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let named = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // A zone follows a link-local address.
        address.split('%').next()?.parse::<IpAddr>().ok()
    });
    named.filter(|address| !address.is_loopback() && !address.is_unspecified()).collect()
}

const FILE_CAP: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_and_stubs_on_loopback_are_none() {
        let text = "# nameserver 9.9.9.9\nsearch example\nnameserver 10.0.0.53\n nameserver\tfe80::1%eth0 ; x\n\
                    nameserver 127.0.0.53\nnameserver ::1\nnameserver name\noptions edns0";
        let found: Vec<_> = upstream(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.0.0.53", "fe80::1"]);
    }
}
