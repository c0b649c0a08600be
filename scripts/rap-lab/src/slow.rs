//! A slow line to one host. The kernel has no delay queue everywhere, so the frames take a way through a small process: the
//! host's port leaves the switch's bridge for a bridge of its own, and an emulator carries frames between the two.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tun::{AbstractDevice as _, Layer};

use crate::network::{BRIDGE, SWITCH, ip, port};
use crate::run_id::RunId;

/// What a slow line does to each frame, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slowness {
    /// Added to each frame's way.
    pub delay: Duration,
    /// Share of frames that get lost, 0 to 1.
    pub loss: f64,
    /// What the line carries, kilobits per second; `None` is no bound. At most [`WAIT`] of it waits before the line.
    pub kbit_per_s: Option<u32>,
}

impl Slowness {
    /// How long a frame of this many bytes takes the line.
    fn takes(self, bytes: usize) -> Duration {
        // Kilobits per second are bits per millisecond.
        self.kbit_per_s.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(bytes as f64 * 8.0 / 1000.0 / f64::from(rate.max(1)))
        })
    }
}

/// Name of the part that carries the frames of a host's slow line.
pub fn part_name(host: &str) -> String {
    format!("slow-{host}")
}

/// True once the emulator made its two devices.
pub fn devices_made(run: &RunId, host: &str) -> bool {
    let switch = run.namespace(SWITCH);
    [near(host), far(host)].iter().all(|device| ip(&["-n", &switch, "link", "show", device]).is_ok())
}

/// Sends a host's frames through the emulator, which must have made its two devices.
pub fn divert(run: &RunId, host: &str) -> Result<()> {
    let (switch, own) = (run.namespace(SWITCH), own_bridge(host));
    ip(&["-n", &switch, "link", "add", &own, "type", "bridge"])?;
    ip(&["-n", &switch, "link", "set", &own, "up"])?;
    ip(&["-n", &switch, "link", "set", &near(host), "master", &own, "up"])?;
    ip(&["-n", &switch, "link", "set", &far(host), "master", BRIDGE, "up"])?;
    ip(&["-n", &switch, "link", "set", &port(host), "master", &own])
}

/// Puts a host's port back on the switch.
pub fn restore(run: &RunId, host: &str) -> Result<()> {
    let switch = run.namespace(SWITCH);
    ip(&["-n", &switch, "link", "set", &port(host), "master", BRIDGE])?;
    ip(&["-n", &switch, "link", "delete", &own_bridge(host)])
}

/// The emulator: makes its devices and carries frames until it is ended. Runs in the switch namespace.
pub fn emulate(host: &str, slowness: Slowness) -> Result<()> {
    let (near_reader, near_writer) = device(&near(host))?;
    let (far_reader, far_writer) = device(&far(host))?;
    std::thread::scope(|scope| {
        for (from, to) in [(near_reader, far_writer), (far_reader, near_writer)] {
            let (sender, receiver) = sync_channel(QUEUE_FRAMES);
            scope.spawn(move || take(from, &sender, slowness));
            scope.spawn(move || give(to, &receiver));
        }
    });
    Ok(())
}

fn device(name: &str) -> Result<(impl Read + Send + use<>, impl Write + Send + use<>)> {
    let mut settings = tun::Configuration::default();
    settings.tun_name(name).layer(Layer::L2).mtu(MTU).up();
    let device = tun::create(&settings).with_context(|| format!("device {name}"))?;
    debug_assert_eq!(device.tun_name().ok().as_deref(), Some(name));
    Ok(device.split())
}

/// Reads frames and stamps them with the moment they are due. A full queue drops, as a router does.
fn take(mut from: impl Read, queue: &SyncSender<(Instant, Vec<u8>)>, slowness: Slowness) {
    let mut frame = vec![0; FRAME_BYTES];
    let mut free = crate::wait::now();
    while let Ok(length) = from.read(&mut frame) {
        let arrived = crate::wait::now();
        if rand::random::<f64>() < slowness.loss || free.saturating_duration_since(arrived) > WAIT {
            continue;
        }
        free = free.max(arrived) + slowness.takes(length);
        let due = free + slowness.delay;
        if let Err(TrySendError::Disconnected(_)) = queue.try_send((due, frame[..length].to_vec())) {
            return;
        }
    }
}

fn give(mut to: impl Write, queue: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, frame)) = queue.recv() {
        crate::wait::rest(due.saturating_duration_since(crate::wait::now()));
        // A frame that the device refuses is lost, like any other on a bad line.
        let _ = to.write(&frame);
    }
}

fn near(host: &str) -> String {
    format!("n-{host}")
}

fn far(host: &str) -> String {
    format!("f-{host}")
}

fn own_bridge(host: &str) -> String {
    format!("b-{host}")
}

const MTU: u16 = 1500;
const FRAME_BYTES: usize = 2048;
const QUEUE_FRAMES: usize = 4096;
/// Of a line with a bound.
const WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_64_kbit_takes_a_second_for_8000_bytes_and_one_without_a_bound_none() {
        let narrow = Slowness { kbit_per_s: Some(64), ..Slowness::default() };
        assert_eq!(narrow.takes(8_000), Duration::from_secs(1));
        assert_eq!(Slowness::default().takes(8_000), Duration::ZERO);
    }
}
