//! The configuration in force on the host: the interface follows it, and it follows the host's own network.
//!
//! Owns when the host is looked at. Refuses to decide what is applied: `rap-host` does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rap_host::{Changed, Events, HostNetwork, HostSettings, HostWanted};
use rap_types::Mono;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::config::{DeviceConfig, TunConfig};
use crate::error::DeviceError;
use crate::tasks::Parts;
use crate::tun_port::TunPort;

/// What is in force.
pub(crate) struct InForce {
    /// Present with a TUN.
    pub(crate) network: Option<HostNetwork>,
    pub(crate) config: DeviceConfig,
}

impl InForce {
    /// Takes a configuration and adds to the host what it needs.
    pub(crate) async fn extend(&mut self, config: DeviceConfig, now: Mono) {
        if let Some(network) = self.network.as_mut() {
            let prefixes = config.peers.iter().flat_map(|peer| &peer.allowed_ips).copied().collect();
            let (own, control) = (config.addresses.clone(), config.control.clone());
            network.extend(HostWanted { own, prefixes, control }, now).await;
        }
        self.config = config;
    }

    /// The parts of the pools that are the host's.
    pub(crate) fn held(&self) -> Vec<IpNet> {
        self.network.as_ref().map(HostNetwork::held).unwrap_or_default()
    }
}

/// Makes the interface and brings it up.
pub(crate) async fn open_tun(config: &TunConfig) -> Result<(TunPort, HostNetwork), DeviceError> {
    let refused = |source| DeviceError::Tun { name: config.name.clone(), source };
    let port = TunPort::open(config).map_err(refused)?;
    let settings = HostSettings {
        interface: config.name.clone(),
        index: port.index(),
        mtu: config.mtu,
        record: config.record.clone(),
        allowed: config.allowed.clone(),
    };
    let network = HostNetwork::set_up(settings).await.map_err(refused)?;
    Ok((port, network))
}

/// Looks at the host whenever something changed there, and puts the interface right.
pub(crate) async fn watch(in_force: Arc<Mutex<InForce>>, parts: Arc<Parts>) -> io::Result<()> {
    loop {
        let Err(error) = listen(&in_force, &parts).await;
        // For want of descriptors or memory: what was missed is seen at the next look.
        tracing::warn!(%error, "changes of the host's network are not heard");
        look(&in_force, &parts, Changed::Network).await;
        sleep(AGAIN).await;
    }
}

async fn listen(in_force: &Mutex<InForce>, parts: &Parts) -> Result<std::convert::Infallible, io::Error> {
    let Some(concerned) = in_force.lock().await.network.as_ref().map(HostNetwork::concerned) else {
        return std::future::pending().await;
    };
    let (mut events, carry) = Events::listen(concerned)?;
    let mut carry = std::pin::pin!(carry);
    // What changed before the socket was there.
    let mut changed = Changed::Network;
    loop {
        let due = look(in_force, parts, changed).await;
        let now = parts.tunnel.now();
        let pause = sleep(PAUSE);
        let mut rest = std::pin::pin!(async {
            // Many changes at once are one look.
            pause.await;
            match due {
                Some(due) => sleep(due.since(now)).await,
                None => std::future::pending().await,
            }
        });
        let mut heard = None;
        changed = loop {
            tokio::select! {
                ended = &mut carry => {
                    return Err(ended.err().unwrap_or_else(|| io::Error::other("nobody listens")));
                }
                event = events.next(), if heard.is_none() => heard = event,
                () = sleep(PAUSE), if heard.is_some() => break heard.unwrap_or(Changed::Network),
                () = &mut rest => break Changed::Network,
            }
        };
    }
}

/// Looks once. When to look again at the latest.
async fn look(in_force: &Mutex<InForce>, parts: &Parts, changed: Changed) -> Option<Mono> {
    let mut in_force = in_force.lock().await;
    let in_force = &mut *in_force;
    let network = in_force.network.as_mut()?;
    match changed {
        Changed::Filter => network.look_at_guard(parts.tunnel.now()).await,
        Changed::Network => {
            if network.look(parts.tunnel.now()).await {
                // Endpoints in a part that is now the host's may be used, and the other way round.
                match parts.tunnel.prepare(&in_force.config) {
                    Ok(prepared) => parts.tunnel.replace(&in_force.config, &network.held(), prepared),
                    Err(error) => tracing::error!(%error, "the configuration in force contradicts itself"),
                }
            }
        }
    }
    network.due()
}

/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// After a socket could not be had.
const AGAIN: Duration = Duration::from_secs(5);
