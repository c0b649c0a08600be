//! The network of a test: a UDP way that can be cut, and paths that lose, delay and duplicate.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rap_wireguard::{PathEnd, PathEvent, PathPort, PathRefusal, PathSlot, PublicKey};
use tokio::sync::mpsc;

use crate::fixture::{Node, public};

/// Forwards between one device and another until it is cut. Each sees the other at an address of this.
pub struct UdpWay {
    near: tokio::net::UdpSocket,
    far: tokio::net::UdpSocket,
    pub open: AtomicBool,
    /// Datagrams of full size from the near device, and from the far one.
    pub full: [AtomicU64; 2],
}

impl UdpWay {
    pub fn new() -> Self {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            tokio::net::UdpSocket::from_std(socket).unwrap()
        };
        Self { near: socket(), far: socket(), open: AtomicBool::new(true), full: Default::default() }
    }

    /// Where the near device sends to.
    pub fn endpoint(&self) -> SocketAddr {
        self.near.local_addr().unwrap()
    }

    /// Carries datagrams for ever.
    pub async fn carry(&self, near: SocketAddr, far: SocketAddr) {
        let (mut there, mut back) = ([0; 2048], [0; 2048]);
        loop {
            let (side, socket, to, datagram) = tokio::select! {
                got = self.near.recv(&mut there) => (0, &self.far, far, &there[..got.unwrap()]),
                got = self.far.recv(&mut back) => (1, &self.near, near, &back[..got.unwrap()]),
            };
            self.full[side].fetch_add(u64::from(datagram.len() > 1280), Ordering::Relaxed);
            if self.open.load(Ordering::Relaxed) {
                socket.send_to(datagram, to).await.unwrap();
            }
        }
    }
}

/// Paths between two devices. A path has the same number at both ends.
pub struct Paths {
    queue: Mutex<mpsc::Receiver<(usize, PathEnd, Vec<u8>)>>,
    ports: [Arc<Port>; 2],
    pub delay: Duration,
    pub copies: usize,
    /// One of so many datagrams is lost. 0: none.
    pub lost_of: usize,
}

/// What one device has of them.
pub struct Port {
    side: usize,
    pub wanted: AtomicU64,
    sent: mpsc::Sender<(usize, PathEnd, Vec<u8>)>,
    /// Ends that take datagrams.
    standing: Mutex<Vec<u64>>,
    /// Every datagram that was taken, by its path and first byte.
    pub taken: Mutex<Vec<(u64, u8)>>,
}

impl PathPort for Port {
    fn want(&self, _: &PublicKey) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    fn send(&self, end: PathEnd, datagrams: &[&[u8]]) -> Result<(), PathRefusal> {
        if !self.standing.lock().unwrap().contains(&end.0) {
            return Err(PathRefusal::Gone);
        }
        for datagram in datagrams {
            self.taken.lock().unwrap().push((end.0, datagram[0]));
            let sent = self.sent.try_send((self.side, end, datagram.to_vec()));
            sent.map_err(|_| PathRefusal::Full)?;
        }
        Ok(())
    }
}

impl Paths {
    pub fn new(delay: Duration, copies: usize, lost_of: usize) -> Self {
        let (sent, queue) = mpsc::channel(4096);
        let port = |side| {
            let (wanted, standing, taken) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
            Arc::new(Port { side, wanted, sent: sent.clone(), standing, taken })
        };
        Self { queue: Mutex::new(queue), ports: [port(0), port(1)], delay, copies, lost_of }
    }

    pub fn port(&self, side: usize) -> Arc<Port> {
        self.ports[side].clone()
    }

    /// Tells both devices of a path; the first one installed it.
    pub async fn up(&self, end: u64, slot: PathSlot, nodes: [&Node; 2]) {
        for (side, slot) in [(0, slot), (1, PathSlot::Answering)] {
            self.ports[side].standing.lock().unwrap().push(end);
            let up = PathEvent::Up { end: PathEnd(end), peer: public(nodes[1 - side].seed), slot };
            nodes[side].device.path_event(up).await;
        }
    }

    /// The path ends, and the first device is told.
    pub async fn down(&self, end: u64, nodes: [&Node; 2]) {
        for side in [0, 1] {
            self.ports[side].standing.lock().unwrap().retain(|standing| *standing != end);
            let down = PathEvent::Down { end: PathEnd(end), peer: public(nodes[1 - side].seed) };
            nodes[side].device.path_event(down).await;
        }
    }

    /// Carries datagrams for ever, in their order.
    pub async fn carry(&self, nodes: [&Node; 2]) {
        let mut waiting = std::collections::VecDeque::new();
        let mut count = 0;
        loop {
            let next = std::future::poll_fn(|context| self.queue.lock().unwrap().poll_recv(context));
            let due = waiting.front().map(|(due, ..): &(tokio::time::Instant, usize, PathEnd, Vec<u8>)| *due);
            tokio::select! {
                Some((side, end, datagram)) = next => {
                    waiting.push_back((tokio::time::Instant::now() + self.delay, 1 - side, end, datagram));
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    let Some((_, side, end, datagram)) = waiting.pop_front() else { continue };
                    count += 1;
                    if self.lost_of > 0 && count % self.lost_of == 0 {
                        continue;
                    }
                    for _ in 0..self.copies {
                        let datagram = datagram.clone();
                        nodes[side].device.path_event(PathEvent::Received { end, datagram }).await;
                    }
                }
            }
        }
    }
}
