//! The WireGuard device of this process, started by the first table and again by one with another key or MTU.
//!
//! Owns the device's life. What it may do is in the plan.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use rap_runtime::{Clock, Fault, TaskGroup};
use rap_wireguard::{Device, DeviceSettings, PublicKey, TunConfig};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::path_book::PathBook;
use crate::table::Plan;

/// At most one device.
pub(crate) struct DeviceSlot {
    underlay: SocketAddr,
    /// The interface to make; the MTU is the table's.
    tun: Option<TunConfig>,
    paths: Arc<PathBook>,
    running: RwLock<Option<Running>>,
}

struct Running {
    device: Device,
    mtu: u16,
}

impl DeviceSlot {
    /// No device yet.
    pub(crate) fn new(underlay: SocketAddr, tun: Option<TunConfig>, paths: Arc<PathBook>) -> Self {
        Self { underlay, tun, paths, running: RwLock::default() }
    }

    /// Name of the overlay interface, if there is or will be one.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.tun.as_ref().map(|tun| tun.name.as_str())
    }

    /// The device, if there is one. Hold it for a short time: a new key waits for it.
    pub(crate) async fn device(&self) -> Option<RwLockReadGuard<'_, Device>> {
        let running = self.running.read().await;
        RwLockReadGuard::try_map(running, |running| running.as_ref().map(|running| &running.device)).ok()
    }

    /// Gives the device its configuration; starts it in `group` first if there is none with this key and MTU.
    pub(crate) async fn apply(&self, plan: &Plan, group: &TaskGroup) -> Result<(), Fault> {
        let key = PublicKey::from(&plan.private_key);
        let fits = |running: &Running| running.device.public_key() == key && running.mtu == plan.mtu;
        if let Some(running) = self.running.read().await.as_ref().filter(|running| fits(running)) {
            return give(&running.device, plan).await;
        }
        let mut slot = self.running.write().await;
        if let Some(old) = slot.take() {
            tracing::info!("WireGuard key or MTU changed: the device starts afresh");
            old.device.stop().await;
        }
        let device = self.start(plan, group).await?;
        match give(&device, plan).await {
            Ok(()) => {
                *slot = Some(Running { device, mtu: plan.mtu });
                Ok(())
            }
            Err(fault) => {
                device.stop().await;
                Err(fault)
            }
        }
    }

    /// Closes socket and interface.
    pub(crate) async fn stop(&self) {
        if let Some(running) = self.running.write().await.take() {
            running.device.stop().await;
        }
    }

    async fn start(&self, plan: &Plan, group: &TaskGroup) -> Result<Device, Fault> {
        let tun = self.tun.as_ref().map(|tun| TunConfig { mtu: plan.mtu, ..tun.clone() });
        let settings = DeviceSettings {
            private_key: plan.private_key.clone(),
            underlay: self.underlay,
            tun,
            paths: Some(self.paths.clone()),
        };
        let started = Device::start(settings, group, Clock::new()).await;
        started.map_err(|error| Fault::new(error.reason(), with_cause(&error)))
    }
}

async fn give(device: &Device, plan: &Plan) -> Result<(), Fault> {
    let applied = device.apply(plan.device.clone()).await;
    applied.map_err(|error| Fault::new(error.reason(), with_cause(&error)))
}

fn with_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
