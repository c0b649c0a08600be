//! The lab's network: one switch namespace with a bridge, one namespace per host with `eth0` on it. Owns making and listing
//! them; nothing is ever made in the machine's own network namespace.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run_id::RunId;

/// Makes the switch of a run.
pub fn make_switch(run: &RunId) -> Result<()> {
    let switch = run.namespace(SWITCH);
    ip(&["netns", "add", &switch])?;
    ip(&["-n", &switch, "link", "set", "lo", "up"])?;
    ip(&["-n", &switch, "link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["-n", &switch, "link", "set", BRIDGE, "up"])
}

/// Makes a host's namespace and plugs it in.
pub fn make_host(run: &RunId, host: &str, address: Ipv4Addr) -> Result<()> {
    let (switch, namespace, port) = (run.namespace(SWITCH), run.namespace(host), port(host));
    ip(&["netns", "add", &namespace])?;
    ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
    ip(&[
        "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", INTERFACE, "netns", &namespace,
    ])?;
    ip(&["-n", &switch, "link", "set", &port, "master", BRIDGE, "up"])?;
    ip(&["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", INTERFACE])?;
    ip(&["-n", &namespace, "link", "set", INTERFACE, "up"])
}

/// Removes a namespace with everything in it.
pub fn remove_namespace(name: &str) -> Result<()> {
    ip(&["netns", "delete", name])
}

/// Network namespaces of the runs that `belongs` accepts.
pub fn namespaces(belongs: impl Fn(&RunId) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> =
        names.filter(|name| RunId::of_namespace(name).is_some_and(|run| belongs(&run))).collect();
    names.sort();
    names
}

/// File that names a network namespace.
pub fn namespace_file(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Address of the host with this number.
pub fn namespace_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

/// A host's port on the switch.
pub fn port(host: &str) -> String {
    format!("p-{host}")
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    run("ip", arguments).map(|_| ())
}

/// Runs `nft` in a namespace and returns what it printed.
pub(crate) fn nft(namespace: &str, arguments: &[&str]) -> Result<String> {
    let mut all = vec!["netns", "exec", namespace, "nft"];
    all.extend(arguments);
    run("ip", &all)
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} (Debian packages iproute2 and nftables)"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Name of the switch in namespace names; no host may have it.
pub const SWITCH: &str = "switch";
/// Name of a host's interface.
pub const INTERFACE: &str = "eth0";
/// The bridge that is the switch.
pub(crate) const BRIDGE: &str = "br0";
