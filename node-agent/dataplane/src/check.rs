//! `check`: what `run` would meet here. Leaves nothing behind.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use rap_runtime::Fault;
use rap_types::Reason;

use crate::args::Settings;
use crate::{capability, claim};

/// Prints what was found; an error lists what is in the way.
pub(crate) fn check(settings: &Settings) -> Result<(), Fault> {
    let interface = match (settings.no_tun, capability::no_tun_because()) {
        (true, _) => "none, as asked".to_owned(),
        (false, None) => settings.interface.clone(),
        (false, Some(why)) => format!("none, {why}"),
    };
    let taken = claim::is_taken(&settings.run_dir, &settings.membership)?;
    let running = if taken { "running; ports not checked" } else { "not running" };
    let text = format!(
        "interface: {interface}\ndata plane of {}: {running}\nlinks: {}\nwireguard: {}\n",
        settings.membership, settings.link_listen, settings.wireguard_listen
    );
    // Nobody may be reading; the exit status says it too.
    let _unread = io::stdout().write_all(text.as_bytes());
    if taken { Ok(()) } else { ports(settings) }
}

/// Binds both ports and lets them go, so that a port that is taken is found before the first table.
pub(crate) fn ports(settings: &Settings) -> Result<(), Fault> {
    let tcp = TcpListener::bind(settings.link_listen).map(drop);
    let udp = UdpSocket::bind(settings.wireguard_listen).map(drop);
    let found: Vec<String> = [
        problem("link-listen", settings.link_listen, tcp),
        problem("wireguard-listen", settings.wireguard_listen, udp),
    ]
    .into_iter()
    .flatten()
    .collect();
    if found.is_empty() { Ok(()) } else { Err(Fault::new(Reason::ConfigInvalid, found.join("; "))) }
}

fn problem(setting: &str, address: SocketAddr, bound: io::Result<()>) -> Option<String> {
    bound.err().map(|error| format!("{setting} {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn every_port_that_is_taken_is_named() {
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let links = format!("--link-listen={}", tcp.local_addr().unwrap());
        let wireguard = format!("--wireguard-listen={}", udp.local_addr().unwrap());
        let parsed = Cli::try_parse_from(["rap-dataplane", "check", "--membership=m", &links, &wireguard]);
        let Command::Check(settings) = parsed.unwrap().command else { panic!("check") };
        let fault = ports(&settings).unwrap_err();
        assert_eq!(fault.reason, Reason::ConfigInvalid);
        assert!(fault.message.contains("wireguard-listen") && fault.message.contains("link-listen"));
    }
}
