//! The tasks of a device: packets from the network, from paths, from the TUN; timers of the protocol and of ways.

use std::io;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::batch::Batch;
use crate::inbound::{Arrivals, INBOUND_ROOM};
use crate::peer_state::{Datagrams, SEND_ROOM, TICK};
use crate::tun_port::TunPort;
use crate::tunnel::Tunnel;
use crate::underlay::Underlay;
use crate::way::{PathEvent, Way};

/// The parts of a device that its tasks share.
pub(crate) struct Parts {
    pub(crate) tunnel: Tunnel,
    pub(crate) underlay: Underlay,
    pub(crate) tun: Option<TunPort>,
    /// Length of a packet buffer in bytes.
    pub(crate) stride: usize,
    /// Notified when the configuration changed, so that the timers run at once.
    pub(crate) changed: Notify,
}

impl Parts {
    pub(crate) fn datagrams(&self, slots: usize) -> Datagrams {
        Batch::new(slots, self.stride)
    }

    async fn deliver(&self, arrivals: &mut Arrivals) {
        self.underlay.send(&mut arrivals.out, &self.tunnel).await;
        if let Some(tun) = &self.tun {
            tun.send(&mut arrivals.inner, &self.tunnel.counters);
        }
    }
}

/// Turns datagrams into inner packets.
pub(crate) async fn from_network(parts: Arc<Parts>) -> io::Result<()> {
    let mut received = parts.datagrams(BATCH);
    let mut arrivals = Arrivals { out: parts.datagrams(BATCH), inner: Batch::new(BATCH, parts.stride) };
    loop {
        parts.underlay.udp.receive(&mut received, &parts.tunnel).await?;
        let mut position = 0;
        while position < received.len() {
            position = receive_some(&parts.tunnel, &received, position, &mut arrivals);
            parts.deliver(&mut arrivals).await;
        }
        received.clear();
        tokio::task::yield_now().await;
    }
}

/// Turns datagrams that came on paths into inner packets, and takes paths that came and went, in their order.
pub(crate) async fn from_paths(parts: Arc<Parts>, mut queue: mpsc::Receiver<PathEvent>) -> io::Result<()> {
    let mut events = Vec::with_capacity(BATCH);
    let mut arrivals = Arrivals { out: parts.datagrams(BATCH), inner: Batch::new(BATCH, parts.stride) };
    while queue.recv_many(&mut events, BATCH).await > 0 {
        let mut position = 0;
        while position < events.len() {
            position = take_some(&parts.tunnel, &events, position, &mut arrivals);
            parts.deliver(&mut arrivals).await;
        }
        events.clear();
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Turns inner packets into datagrams.
pub(crate) async fn from_tun(parts: Arc<Parts>) -> io::Result<()> {
    let Some(tun) = &parts.tun else { return Ok(()) };
    let mut packets = Batch::new(BATCH, parts.stride);
    let mut out = parts.datagrams(BATCH);
    loop {
        if let Err(error) = tun.receive(&mut packets).await {
            tun.check()?;
            return Err(error);
        }
        let mut position = 0;
        while position < packets.len() {
            position = send_some(&parts.tunnel, &packets, position, &mut out);
            parts.underlay.send(&mut out, &parts.tunnel).await;
        }
        packets.clear();
        tokio::task::yield_now().await;
    }
}

/// Runs the timers of the protocol and the deadlines of the configuration.
pub(crate) async fn clock(parts: Arc<Parts>) -> io::Result<()> {
    let mut out = parts.datagrams(BATCH);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = parts.changed.notified() => {}
        }
        if let Some(tun) = &parts.tun {
            tun.check()?;
        }
        let now = parts.tunnel.now();
        parts.tunnel.tick(now);
        let mut next = Some(0);
        while let Some(position) = next {
            next = parts.tunnel.tick_peers(position, now, &mut out);
            parts.underlay.send(&mut out, &parts.tunnel).await;
        }
    }
}

/// Looks at the ways of peers whose time has come.
pub(crate) async fn ways(parts: Arc<Parts>) -> io::Result<()> {
    let (tunnel, mut out) = (&parts.tunnel, parts.datagrams(BATCH));
    loop {
        let pause = tunnel.agenda.next().map(|due| due.since(tunnel.now()));
        tokio::select! {
            () = tunnel.agenda.sooner() => continue,
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
        while tunnel.look_at_ways(tunnel.now(), &mut out) {
            parts.underlay.send(&mut out, tunnel).await;
        }
        parts.underlay.send(&mut out, tunnel).await;
    }
}

/// Handles datagrams until the batch ends or the results must be sent. Returns the position to continue from.
fn receive_some(tunnel: &Tunnel, received: &Datagrams, from: usize, arrivals: &mut Arrivals) -> usize {
    let active = tunnel.active();
    let now = tunnel.now();
    for position in from..received.len() {
        if arrivals.out.room() < INBOUND_ROOM || arrivals.inner.room() == 0 {
            return position;
        }
        let (datagram, sender) = received.packet(position);
        tunnel.receive(&active, now, datagram, *sender, arrivals);
    }
    received.len()
}

/// The same for events of paths.
fn take_some(tunnel: &Tunnel, events: &[PathEvent], from: usize, arrivals: &mut Arrivals) -> usize {
    let active = tunnel.active();
    let now = tunnel.now();
    for (position, event) in events.iter().enumerate().skip(from) {
        if arrivals.out.room() < INBOUND_ROOM || arrivals.inner.room() == 0 {
            return position;
        }
        match event {
            PathEvent::Received { end, datagram } => {
                tunnel.receive(&active, now, datagram, Way::Path(*end), arrivals);
            }
            change => tunnel.path_changed(&active, now, change, &mut arrivals.out),
        }
    }
    events.len()
}

/// The same for packets from the TUN.
fn send_some(tunnel: &Tunnel, packets: &Batch<()>, from: usize, out: &mut Datagrams) -> usize {
    let active = tunnel.active();
    let now = tunnel.now();
    for position in from..packets.len() {
        if out.room() < SEND_ROOM {
            return position;
        }
        let result = tunnel.send(&active, now, packets.packet(position).0, out);
        tunnel.count(result);
    }
    packets.len()
}

/// Packets per batch.
const BATCH: usize = 64;
