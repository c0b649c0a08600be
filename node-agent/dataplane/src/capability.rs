//! Whether this process may make an overlay interface. Asks, changes nothing.

use std::fs::OpenOptions;
use std::io;

/// Why there can be no overlay interface here; `None` if there can.
pub(crate) fn no_tun_because() -> Option<String> {
    let granted = std::fs::read_to_string("/proc/self/status")
        .and_then(|status| effective(&status).ok_or_else(|| io::Error::other("no CapEff line")));
    match granted {
        Ok(bits) if bits & CAP_NET_ADMIN == 0 => return Some("CAP_NET_ADMIN is missing".to_owned()),
        Ok(_) => {}
        Err(error) => return Some(format!("capabilities cannot be read: {error}")),
    }
    let opened = OpenOptions::new().read(true).write(true).open(TUN);
    opened.err().map(|error| format!("{TUN}: {error}"))
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

const TUN: &str = "/dev/net/tun";
/// Bit 12 (capabilities(7)).
const CAP_NET_ADMIN: u64 = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_from_the_status_file() {
        let status = "Name:\tx\nCapPrm:\tffff\nCapEff:\t0000000000001000\nCapBnd:\tffff\n";
        assert_eq!(effective(status), Some(CAP_NET_ADMIN));
        assert_eq!(effective("Name:\tx\n"), None);
        assert_eq!(effective("CapEff:\tzz\n"), None);
    }
}
