//! What an application would notice: one TCP stream and one sequence of UDP datagrams between two hosts, on the same sockets from
//! the first byte to the last. Owns the sockets, the sums of what went in and came out, and the longest silence.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest as _, Sha256};

use super::{CALL, Node};
use crate::host::Host;
use crate::wait::{now, rest, wait_until};

/// When something last arrived, and the longest time without since the last mark.
#[derive(Debug)]
struct Silence {
    last: Instant,
    longest: Duration,
}

/// Shared by the thread that receives and whoever asks.
#[derive(Debug, Clone)]
struct Arrivals(Arc<Mutex<Silence>>);

impl Arrivals {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Silence { last: now(), longest: Duration::ZERO })))
    }

    fn arrived(&self) {
        let mut silence = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silence.longest = silence.longest.max(silence.last.elapsed());
        silence.last = now();
    }

    /// The longest silence since the last call, the present one included.
    fn take(&self) -> Duration {
        let mut silence = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = silence.longest.max(silence.last.elapsed());
        silence.longest = Duration::ZERO;
        longest
    }
}

/// A stream of bytes that goes on until it is ended.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    arrivals: Arrivals,
    sender: JoinHandle<Result<(u64, Vec<u8>)>>,
    receiver: JoinHandle<Result<(u64, Vec<u8>)>>,
}

impl Stream {
    /// Opens a stream to `to` at its overlay address.
    pub fn open(from: &Node, to: &Node) -> Result<Self> {
        let address: Ipv4Addr = to.overlay_address(from)?.parse()?;
        let listener = inside(to.host(), || Ok(TcpListener::bind((address, 0))?))?;
        let target = listener.local_addr()?;
        let client = inside(from.host(), || Ok(TcpStream::connect_timeout(&target, CALL)?))?;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(CALL))?;
            stream.set_write_timeout(Some(CALL))?;
            stream.set_nodelay(true)?;
        }
        let (stop, arrivals) = (Arc::new(AtomicBool::new(false)), Arrivals::new());
        let (stopping, arriving) = (stop.clone(), arrivals.clone());
        Ok(Self {
            stop,
            arrivals,
            sender: std::thread::spawn(move || send_stream(client, &stopping)),
            receiver: std::thread::spawn(move || receive_stream(server, &arriving)),
        })
    }

    /// The longest time without a byte since the last call.
    pub fn longest_silence(&self) -> Duration {
        self.arrivals.take()
    }

    /// Ends it; the number of bytes that went in and came out unchanged.
    pub fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.sender.join().map_err(|_| anyhow!("panic while sending"))?.context("sending")?;
        let received =
            self.receiver.join().map_err(|_| anyhow!("panic while receiving"))?.context("receiving")?;
        ensure!(sent == received, "{} bytes went in, {} came out, or others", sent.0, received.0);
        Ok(sent.0)
    }
}

fn send_stream(mut stream: TcpStream, stop: &AtomicBool) -> Result<(u64, Vec<u8>)> {
    let (mut sum, mut sent) = (Sha256::new(), 0_u64);
    while !stop.load(Ordering::SeqCst) {
        let piece: [u8; PIECE] = std::array::from_fn(|_| rand::random());
        stream.write_all(&piece)?;
        sum.update(piece);
        sent += PIECE as u64;
        rest(BETWEEN_PIECES);
    }
    stream.shutdown(Shutdown::Write)?;
    Ok((sent, sum.finalize().to_vec()))
}

fn receive_stream(mut stream: TcpStream, arrivals: &Arrivals) -> Result<(u64, Vec<u8>)> {
    let (mut sum, mut received, mut buffer) = (Sha256::new(), 0_u64, [0; 64 * 1024]);
    loop {
        let count = stream.read(&mut buffer)?;
        arrivals.arrived();
        if count == 0 {
            return Ok((received, sum.finalize().to_vec()));
        }
        sum.update(&buffer[..count]);
        received += count as u64;
    }
}

/// Numbered datagrams, 1,000 each second.
#[derive(Debug)]
pub struct Sequence {
    stop: Arc<AtomicBool>,
    arrivals: Arrivals,
    target: SocketAddr,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Arrived>>,
}

/// What came of a sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Datagrams that were sent.
    pub sent: u64,
    /// Of them, those that never came.
    pub lost: u64,
    /// Datagrams that arrived twice.
    pub duplicates: u64,
    /// Datagrams that arrived after one with a higher number.
    pub reordered: u64,
}

impl Sequence {
    /// Opens a sequence to `to` at its overlay address.
    pub fn open(from: &Node, to: &Node) -> Result<Self> {
        let address: Ipv4Addr = to.overlay_address(from)?.parse()?;
        let server = inside(to.host(), || Ok(UdpSocket::bind((address, 0))?))?;
        let target = server.local_addr()?;
        let client = inside(from.host(), || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        server.set_read_timeout(Some(Duration::from_millis(200)))?;
        let (stop, arrivals) = (Arc::new(AtomicBool::new(false)), Arrivals::new());
        let (stopping, arriving) = (stop.clone(), arrivals.clone());
        let ending = stop.clone();
        Ok(Self {
            stop,
            arrivals,
            target,
            sender: std::thread::spawn(move || send_sequence(&client, target, &stopping)),
            receiver: std::thread::spawn(move || receive_sequence(&server, &arriving, &ending)),
        })
    }

    /// The longest time without a datagram since the last call.
    pub fn longest_silence(&self) -> Duration {
        self.arrivals.take()
    }

    /// Ends it and counts.
    pub fn end(self) -> Result<Arrived> {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.sender.join().map_err(|_| anyhow!("panic while sending"))?;
        let sent = sent.with_context(|| format!("sending to {}", self.target))?;
        let received = self.receiver.join().map_err(|_| anyhow!("panic while receiving"))??;
        Ok(Arrived { sent, lost: sent.saturating_sub(received.sent), ..received })
    }
}

fn send_sequence(socket: &UdpSocket, target: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let (began, mut sent) = (now(), 0_u64);
    while !stop.load(Ordering::SeqCst) {
        // As many as are due: a late thread catches up.
        while u128::from(sent) < began.elapsed().as_millis() {
            let mut datagram = [0; 100];
            datagram[..8].copy_from_slice(&sent.to_be_bytes());
            // A full queue of the device is a lost datagram.
            let _ = socket.send_to(&datagram, target);
            sent += 1;
        }
        rest(Duration::from_millis(1));
    }
    Ok(sent)
}

/// The datagrams that came, `sent` being how many different ones did.
fn receive_sequence(socket: &UdpSocket, arrivals: &Arrivals, stop: &AtomicBool) -> Result<Arrived> {
    let (mut seen, mut found, mut highest) = (BTreeSet::new(), Arrived::default(), 0);
    let mut buffer = [0; 2048];
    let mut quiet_since = None;
    loop {
        match socket.recv(&mut buffer) {
            Ok(count) if count >= 8 => {
                arrivals.arrived();
                let number = u64::from_be_bytes(buffer[..8].try_into()?);
                if !seen.insert(number) {
                    found.duplicates += 1;
                } else if number < highest {
                    found.reordered += 1;
                }
                highest = highest.max(number);
                quiet_since = None;
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let since = *quiet_since.get_or_insert_with(now);
                // What is under way still counts.
                if stop.load(Ordering::SeqCst) && since.elapsed() >= Duration::from_secs(2) {
                    return Ok(Arrived { sent: seen.len() as u64, ..found });
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until something has arrived after this call.
pub fn wait_arrivals(stream: &Stream, sequence: &Sequence) -> Result<()> {
    for arrivals in [&stream.arrivals, &sequence.arrivals] {
        let asked = now();
        wait_until(CALL, "the streams go on", || {
            let last = arrivals.0.lock().unwrap_or_else(PoisonError::into_inner).last;
            Ok((last > asked).then_some(()))
        })?;
    }
    Ok(())
}

/// Makes a socket inside a host; it stays there.
pub fn inside<T: Send>(host: &Host, make: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    host.view().enter(make)
}

const PIECE: usize = 2048;
const BETWEEN_PIECES: Duration = Duration::from_millis(4);
