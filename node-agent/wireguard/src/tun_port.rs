//! Reads and writes batches of inner packets on the TUN device. The only file that uses the device.

use std::io;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use tun::{AsyncDevice, Device};

use crate::batch::Batch;
use crate::config::TunConfig;
use crate::counters::{Counters, DropReason};

/// An open TUN interface. The kernel removes it when this is dropped.
pub(crate) struct TunPort {
    device: AsyncDevice,
    name: String,
    index: u32,
}

impl TunPort {
    /// Creates the interface. It is down and has no address.
    pub(crate) fn open(config: &TunConfig) -> io::Result<Self> {
        let mut wanted = tun::Configuration::default();
        wanted.tun_name(&config.name).mtu(config.mtu);
        // Addresses, MTU and state are set by netlink, for both families.
        wanted.platform_config(|linux| {
            linux.ensure_root_privileges(false);
        });
        let device = tun::create(&wanted).map_err(io::Error::from)?;
        let index = if_nametoindex(config.name.as_str())?;
        Ok(Self { device: AsyncDevice::new(device)?, name: config.name.clone(), index })
    }

    /// Index of the interface.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Fails if the interface was removed. The runtime does not report that as readable.
    pub(crate) fn check(&self) -> io::Result<()> {
        if is_gone(if_nametoindex(self.name.as_str()), self.index) {
            let text = format!("interface {} is gone", self.name);
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(())
    }

    /// Waits for packets and takes those that are there, up to a full batch.
    pub(crate) async fn receive(&self, batch: &mut Batch<()>) -> io::Result<()> {
        let Some(slot) = batch.slot() else { return Ok(()) };
        let len = self.device.recv(slot).await?;
        batch.push(len, ());
        while let Some(slot) = batch.slot() {
            match Device::recv(&self.device, slot) {
                Ok(len) => batch.push(len, ()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a batch and empties it. The kernel never delays a write. Refused packets are counted.
    pub(crate) fn send(&self, batch: &mut Batch<()>, counters: &Counters) {
        for position in 0..batch.len() {
            let (packet, ()) = batch.packet(position);
            match Device::send(&self.device, packet) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    counters.count(DropReason::QueueFull)
                }
                Err(error) => {
                    tracing::debug!(%error, "packet not written to the TUN");
                    counters.count(DropReason::WriteFailed);
                }
            }
        }
        batch.clear();
    }
}

/// Whether the look-up of the name says that the interface with this index is gone. The look-up needs a descriptor
/// of its own: an error that is not about the interface says nothing.
fn is_gone(found: Result<u32, Errno>, index: u32) -> bool {
    match found {
        Ok(found) => found != index,
        Err(error) => matches!(error, Errno::ENODEV | Errno::ENXIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_gone_only_if_the_kernel_says_so() {
        assert!(is_gone(Err(Errno::ENODEV), 7) && is_gone(Err(Errno::ENXIO), 7));
        assert!(is_gone(Ok(8), 7), "another interface has its name");
        assert!(!is_gone(Ok(7), 7));
        for error in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EPERM] {
            assert!(!is_gone(Err(error), 7), "{error}");
        }
    }
}
