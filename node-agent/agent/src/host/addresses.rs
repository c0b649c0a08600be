//! Own addresses as dial hints: what the host's interfaces say, unsigned.
//!
//! Owns which addresses are worth telling. Refuses to own whether peers use them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use rap_host::Events;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Own endpoints: (link, WireGuard).
pub type Endpoints = (Vec<String>, Vec<String>);

/// Publishes changes until cancelled: the kernel tells of them, and the addresses are read now and then all the same.
pub async fn watch_addresses(
    listen: (SocketAddr, SocketAddr),
    addresses: watch::Sender<Endpoints>,
    cancel: CancellationToken,
) {
    let mut changes = Changes::listen();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = changes.next() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
        let found = own_endpoints(listen);
        addresses.send_if_modified(|current| std::mem::replace(current, found.clone()) != found);
    }
}

/// Changes of the host's network as the kernel tells them.
struct Changes(Option<(Events, Carry)>);

type Carry = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Changes {
    fn listen() -> Self {
        // No route is of interest.
        let (_, routes) = watch::channel(Vec::new());
        match Events::listen(routes) {
            Ok((events, carry)) => Self(Some((events, Box::pin(carry)))),
            Err(error) => {
                tracing::info!(%error, "the kernel tells no changes of addresses: they are read every {} s", PERIOD.as_secs());
                Self(None)
            }
        }
    }

    /// Waits until something changed and what changes with it did too. For ever if the kernel tells nothing.
    async fn next(&mut self) {
        let Some((events, carry)) = &mut self.0 else { return std::future::pending().await };
        let goes_on = tokio::select! {
            changed = events.next() => changed.is_some(),
            ended = carry => ended.is_ok(),
        };
        if !goes_on {
            self.0 = None;
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

/// Endpoints under which the listeners are reachable on this host's addresses.
pub fn own_endpoints((link, wireguard): (SocketAddr, SocketAddr)) -> Endpoints {
    let addresses: Vec<IpAddr> = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces.filter_map(usable).collect(),
        Err(error) => {
            tracing::debug!(%error, "interface addresses are not readable");
            Vec::new()
        }
    };
    (endpoints(link, &addresses), endpoints(wireguard, &addresses))
}

fn usable(interface: nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    // Overlay interfaces are ours: an overlay address is no way to the overlay.
    if interface.interface_name.starts_with("rap") {
        return None;
    }
    let address = interface.address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let ip = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))?;
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    (!ip.is_loopback() && !ip.is_unspecified() && !link_local).then_some(ip)
}

fn endpoints(listen: SocketAddr, addresses: &[IpAddr]) -> Vec<String> {
    if listen.port() == 0 || listen.ip().is_loopback() {
        return Vec::new();
    }
    if !listen.ip().is_unspecified() {
        return vec![listen.to_string()];
    }
    // A listener on [::] takes IPv4 as well; one on 0.0.0.0 takes nothing else.
    let taken = addresses.iter().filter(|ip| ip.is_ipv4() || listen.is_ipv6());
    taken.take(MOST).map(|ip| SocketAddr::new(*ip, listen.port()).to_string()).collect()
}

const PERIOD: Duration = Duration::from_secs(30);
/// Interfaces, addresses and routes change in several steps.
const TOGETHER: Duration = Duration::from_millis(200);
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_the_listener() {
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let hints = |listen: &str| endpoints(listen.parse().unwrap(), &addresses);
        assert_eq!(hints("[::]:7443"), ["192.0.2.1:7443", "[2001:db8::1]:7443"]);
        assert_eq!(hints("0.0.0.0:7443"), ["192.0.2.1:7443"]);
        assert_eq!(hints("192.0.2.9:1"), ["192.0.2.9:1"]);
        assert_eq!(hints("127.0.0.2:1"), [] as [&str; 0]);
    }

    /// Network namespaces belong to threads.
    mod needs_root {
        use std::process::Command;

        use nix::sched::{CloneFlags, unshare};

        use super::*;

        fn ip(words: &str) {
            assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
        }

        async fn told_at_once() {
            let listen = ("0.0.0.0:7443".parse().unwrap(), "0.0.0.0:51820".parse().unwrap());
            let (sender, mut told) = watch::channel(Endpoints::default());
            let cancel = CancellationToken::new();
            let change = async {
                ip("address add 192.0.2.7/24 dev lo");
                let wanted = |(link, _): &Endpoints| link.contains(&"192.0.2.7:7443".to_owned());
                let found = tokio::time::timeout(PERIOD / 2, told.wait_for(wanted)).await.is_ok();
                cancel.cancel();
                found
            };
            let (_, found) = tokio::join!(watch_addresses(listen, sender, cancel.clone()), change);
            assert!(found, "sooner than the addresses are read anyway");
        }

        #[test]
        #[ignore = "needs root: makes a network namespace"]
        fn an_address_is_told_when_the_host_gets_it() {
            let inside = std::thread::spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                ip("link set lo up");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(told_at_once());
            });
            inside.join().unwrap();
        }
    }
}
