//! The device as its caller sees it: start, apply, look, ping, stop.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::x25519::PublicKey;
use rap_host::{Finding, HostNetwork};
use rap_runtime::tasks::TaskFailure;
use rap_runtime::{Clock, TaskGroup};
use tokio::sync::{Mutex, Notify, mpsc};

use crate::config::{DeviceConfig, DeviceSettings};
use crate::counters::DropReason;
use crate::error::{ConfigError, DeviceError, PingError};
use crate::host::{self, InForce};
use crate::ping;
use crate::responder::Responder;
use crate::tasks::{self, Parts};
use crate::tunnel::{Host, Tunnel};
use crate::udp_port::UdpPort;
use crate::underlay::Underlay;
use crate::way::{PathEvent, Way};

/// A running WireGuard device. Dropping it ends it and removes its interface.
pub struct Device {
    parts: Arc<Parts>,
    /// Held while a configuration is being applied.
    in_force: Arc<Mutex<InForce>>,
    path_events: mpsc::Sender<PathEvent>,
    group: TaskGroup,
}

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// WireGuard key of the peer.
    pub public_key: PublicKey,
    /// Time since the last finished handshake; `None` without a session.
    pub handshake_age: Option<Duration>,
    /// Bytes of authenticated datagrams from it, without probes.
    pub rx_bytes: u64,
    /// Bytes of datagrams to it, without probes.
    pub tx_bytes: u64,
    /// The address that it is reached at directly, or that is tried.
    pub endpoint: Option<SocketAddr>,
    /// What carries the traffic; `None` without a session or a way that works.
    pub way: Option<Way>,
}

impl Device {
    /// Opens socket and interface and starts the tasks in a child of `group`. No peers yet.
    pub async fn start(
        settings: DeviceSettings,
        group: &TaskGroup,
        clock: Clock,
    ) -> Result<Self, DeviceError> {
        let DeviceSettings { private_key, underlay, tun, paths } = settings;
        let udp = UdpPort::open(underlay).map_err(DeviceError::Udp)?;
        let mtu = tun.as_ref().map_or(0, |tun| usize::from(tun.mtu));
        let (port, network) = match &tun {
            None => (None, None),
            Some(config) => {
                let (port, network) = host::open_tun(config).await?;
                (Some(port), Some(network))
            }
        };
        let in_force = Arc::new(Mutex::new(InForce { network, config: DeviceConfig::default() }));
        let host = Host { interface: tun.map(|config| config.name), responder: Responder::default() };
        let parts = Arc::new(Parts {
            tunnel: Tunnel::new(private_key, host, paths.clone(), clock),
            underlay: Underlay { udp, paths },
            tun: port,
            stride: mtu.max(SMALLEST_MTU) + HEADROOM,
            changed: Notify::new(),
        });
        let group = group.child();
        spawn(&group, "wireguard-network", tasks::from_network(parts.clone()));
        if parts.tun.is_some() {
            spawn(&group, "wireguard-tun", tasks::from_tun(parts.clone()));
            spawn(&group, "wireguard-host", host::watch(in_force.clone(), parts.clone()));
        }
        spawn(&group, "wireguard-clock", tasks::clock(parts.clone()));
        spawn(&group, "wireguard-ways", tasks::ways(parts.clone()));
        let (path_events, queue) = mpsc::channel(PATH_QUEUE);
        spawn(&group, "wireguard-paths", tasks::from_paths(parts.clone(), queue));
        Ok(Self { parts, in_force, path_events, group })
    }

    /// Puts a configuration in force, all of it or nothing. Of the interface's addresses and routes what can be applied
    /// is applied; [`Self::findings`] tells what is not. When this returns, no packet passes that only the
    /// one before allowed. Sessions of peers with the same public and preshared key go on.
    ///
    /// # Errors
    /// [`ConfigError`]; the configuration before stays in force.
    pub async fn apply(&self, config: DeviceConfig) -> Result<(), ConfigError> {
        let mut in_force = self.in_force.lock().await;
        if self.group.token().is_cancelled() {
            return Err(ConfigError::Ended);
        }
        let prepared = self.parts.tunnel.prepare(&config)?;
        in_force.extend(config, self.parts.tunnel.now()).await;
        self.parts.tunnel.replace(&in_force.config, &in_force.held(), prepared);
        tracing::trace!(way = "the tunnel knows its peers");
        self.parts.changed.notify_one();
        if let Some(network) = in_force.network.as_mut() {
            network.trim(self.parts.tunnel.now()).await;
        }
        Ok(())
    }

    /// What a person should know of the host's network. Waits while a configuration is being applied.
    pub async fn findings(&self) -> Vec<Finding> {
        self.in_force.lock().await.network.as_ref().map(HostNetwork::findings).unwrap_or_default()
    }

    /// One entry per peer, in the order of the configuration.
    pub fn stats(&self) -> Vec<PeerStats> {
        let active = self.parts.tunnel.active();
        let entries = active.peers().iter().map(|entry| {
            let state = entry.lock();
            PeerStats {
                public_key: PublicKey::from(entry.public_key),
                handshake_age: state.handshake_age(),
                rx_bytes: state.rx_bytes,
                tx_bytes: state.tx_bytes,
                endpoint: state.ways.endpoints.current(),
                way: state.handshake_age().and_then(|_| state.ways.in_use()),
            }
        });
        entries.collect()
    }

    /// Packets not delivered since the start, by reason; every reason is listed.
    pub fn counters(&self) -> Vec<(DropReason, u64)> {
        self.parts.tunnel.counters.read()
    }

    /// Takes what happened to a path. A datagram is dropped while too many are not opened yet; what came before or
    /// after it is not. A path to somebody whom the configuration does not name is not used.
    pub async fn path_event(&self, event: PathEvent) {
        if matches!(event, PathEvent::Received { .. }) {
            let taken = self.path_events.try_send(event);
            self.parts.tunnel.count(taken.map_err(|_| DropReason::PathFull));
        } else {
            // An error means that the device has ended.
            let _ended = self.path_events.send(event).await;
        }
    }

    /// Sends one echo request to an overlay address of a peer and waits for the reply. With a TUN it goes
    /// through the kernel and the interface, if the kernel lets this process have an ICMP socket.
    pub async fn ping(
        &self,
        destination: IpAddr,
        sequence: u16,
        within: Duration,
    ) -> Result<Duration, PingError> {
        ping::ping(&self.parts, destination, sequence, within).await
    }

    /// Own public key.
    pub fn public_key(&self) -> PublicKey {
        self.parts.tunnel.identity.public
    }

    /// Address of the UDP socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.parts.underlay.udp.local()
    }

    /// Completes when the device has ended: stopped, its group cancelled, or failed.
    pub async fn ended(&self) {
        self.group.token().cancelled().await;
    }

    /// Why the device ended by itself, if it did (for example: somebody removed the interface).
    pub fn failure(&self) -> Option<TaskFailure> {
        self.group.failure()
    }

    /// Ends the tasks and closes socket and interface before it returns.
    pub async fn stop(self) {
        self.group.shutdown(STOP_WAIT).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.group.cancel();
    }
}

/// Starts one loop; it ends with the group, and the group with it.
fn spawn<F>(group: &TaskGroup, name: &'static str, task: F)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let token = group.token();
    group.spawn_critical(name, async move {
        tokio::select! {
            () = token.cancelled() => Ok(()),
            result = task => result,
        }
    });
}

/// Buffers take packets of at least this size, whatever the own MTU: peers may use another.
const SMALLEST_MTU: usize = 1500;
/// Room for the WireGuard header, tag and padding, and to notice a datagram that is too long.
const HEADROOM: usize = 128;
/// Datagrams of paths that are not opened yet; 1.3 MiB at the usual MTU.
const PATH_QUEUE: usize = 1024;
const STOP_WAIT: Duration = Duration::from_secs(2);
