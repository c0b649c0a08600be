//! Facts about the host that explain behaviour: kernel, memory, devices, limits. Reads, changes nothing.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The facts of this moment. What cannot be read is null.
pub fn facts() -> Value {
    let settings: Map<String, Value> = SETTINGS
        .iter()
        .map(|name| ((*name).to_owned(), line(&format!("/proc/sys/{}", name.replace('.', "/")))))
        .collect();
    json!({
        "schema": "rap.host.v1",
        "host_name": line("/proc/sys/kernel/hostname"),
        "kernel": line("/proc/sys/kernel/osrelease"),
        "kernel_version": line("/proc/sys/kernel/version"),
        "system": assigned("/etc/os-release", "PRETTY_NAME"),
        "processors": lines_with("/proc/cpuinfo", "processor"),
        "memory": field("/proc/meminfo", "MemTotal:"),
        "memory_available": field("/proc/meminfo", "MemAvailable:"),
        "uptime_s": word("/proc/uptime"),
        "load": line("/proc/loadavg"),
        "boot_id": line("/proc/sys/kernel/random/boot_id"),
        "capabilities": field("/proc/self/status", "CapEff:"),
        "seccomp": field("/proc/self/status", "Seccomp:"),
        "open_files": field("/proc/self/limits", "Max open files"),
        "tun_device": Path::new("/dev/net/tun").exists(),
        "wireguard_module": Path::new("/sys/module/wireguard").exists(),
        "systemd": Path::new("/run/systemd/system").exists(),
        "service_manager": std::env::var_os("NOTIFY_SOCKET").is_some(),
        "settings": settings,
    })
}

fn line(path: &str) -> Value {
    fs::read_to_string(path).map_or(Value::Null, |text| text.trim().into())
}

fn word(path: &str) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().map_or(Value::Null, Into::into)
}

fn field(path: &str, name: &str) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(Value::Null, |value| value.trim().into())
}

fn assigned(path: &str, name: &str) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.map_or(Value::Null, |value| value.trim_matches('"').into())
}

fn lines_with(path: &str, start: &str) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(start)).count().into()
}

const SETTINGS: [&str; 8] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv4.conf.all.rp_filter",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.ping_group_range",
    "fs.file-max",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_is() {
        let facts = facts();
        assert!(facts["kernel"].as_str().is_some_and(|kernel| kernel.contains('.')), "{facts}");
        assert!(facts["processors"].as_u64().unwrap() > 0);
        assert!(facts["memory"].as_str().unwrap().ends_with("kB"));
        assert_eq!(assigned("/etc/absent", "X"), Value::Null);
    }
}
