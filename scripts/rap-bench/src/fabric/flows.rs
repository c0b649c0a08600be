//! Sixteen TCP connections over the overlay, through a relay, one leg of which is long and loses packets.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rap_runtime::Clock;
use rap_types::Mono;

use super::findings::Findings;
use super::first::end_table;
use super::inner;
use super::planes::{Node, Plane, answered, node, until};
use super::support::{Authority, HOME};

/// Megabits per second that all of them get together.
pub(super) fn measure(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let offered = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    ensure!(
        offered.split_whitespace().any(|name| name == "bbr"),
        "the kernel has no bbr: {}",
        offered.trim()
    );
    let authority = Arc::new(Authority::new(HOME));
    let (source, target, relay) = (node(1, INSIDE), node(2, Ipv4Addr::new(127, 9, 0, 2)), node(101, OUTSIDE));
    let near = device(OUTSIDE)?;
    let _relay = Plane::relay(programs, &authority, &relay, &[source, target])?;
    let start = {
        let (programs, authority) = (programs.to_owned(), authority.clone());
        move |own: &Node, other: &Node| {
            let command = Command::new(programs.join("rap-dataplane"));
            Plane::start(command, own, end_table(&authority, own, &relay, &[*other]))
        }
    };
    let mut there = start(&target, &source)?;
    until("linked with the relay", || {
        there.agent.stats_of(&relay.id().to_vec()).filter(|stats| stats.link_state == "established")
    })?;
    let address: IpAddr = target.overlay_v4().parse()?;
    let listener = TcpListener::bind((address, 0))?;
    let (to, arrived) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let count = arrived.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || swallow(stream, &count));
        }
    });
    let lasts = Duration::from_secs(if quick { 4 } else { 15 });
    let rate = inner::joined(inner::within(move |_| {
        let far = device(INSIDE)?;
        std::thread::spawn(move || leg(near, far));
        let mut here = start(&source, &target)?;
        until("an answer over the overlay", || {
            (answered(&here.agent.ping(&target.id().to_vec(), 1).overlay) == 1).then_some(())
        })?;
        for _ in 0..FLOWS {
            let mut stream = TcpStream::connect(to)?;
            std::thread::spawn(move || {
                let block = vec![0; 64 << 10];
                while stream.write_all(&block).is_ok() {}
            });
        }
        std::thread::park_timeout(WARM);
        let (before, watch) = (arrived.load(Ordering::Relaxed), crate::measure::Stopwatch::start());
        while watch.elapsed() < lasts {
            std::thread::park_timeout(lasts.saturating_sub(watch.elapsed()));
        }
        Ok((arrived.load(Ordering::Relaxed) - before) as f64 * 8.0 / 1e6 / watch.elapsed().as_secs_f64())
    }))?;
    let note = format!(
        "{FLOWS} connections over two TUN interfaces; the leg to the relay: 25 ms and 1 % of the packets lost each way, in this \
         process; {} s",
        lasts.as_secs()
    );
    findings.add("flows", vec![rate], &note);
    Ok(())
}

fn swallow(mut stream: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = stream.read(&mut buffer)
        && read > 0
    {
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// One end of the leg, in the network of the calling thread.
fn device(address: Ipv4Addr) -> Result<(impl Read + Send + use<>, impl Write + Send + use<>)> {
    let mut settings = tun::Configuration::default();
    settings.tun_name("leg").address(address).netmask(Ipv4Addr::new(255, 255, 255, 252)).mtu(1500).up();
    Ok(tun::create(&settings).context("a TUN device")?.split())
}

/// Carries packets between two devices until they are gone.
fn leg<R: Read + Send, W: Write + Send>(near: (R, W), far: (impl Read + Send, impl Write + Send)) {
    std::thread::scope(|scope| {
        let (outward, outbound) = sync_channel(QUEUE);
        let (inward, inbound) = sync_channel(QUEUE);
        scope.spawn(move || take(near.0, &outward));
        scope.spawn(move || give(far.1, &outbound));
        scope.spawn(move || take(far.0, &inward));
        scope.spawn(move || give(near.1, &inbound));
    });
}

/// Reads packets and stamps them with the moment they are due. A full queue drops, as a router does.
fn take(mut from: impl Read, queue: &SyncSender<(Mono, Vec<u8>)>) {
    let (mut packet, clock) = (vec![0; 2048], Clock::new());
    while let Ok(length) = from.read(&mut packet) {
        if rand::random_range(0..100) < LOST_PERCENT {
            continue;
        }
        let due = clock.now().mono.plus(DELAY);
        if let Err(TrySendError::Disconnected(_)) = queue.try_send((due, packet[..length].to_vec())) {
            return;
        }
    }
}

fn give(mut to: impl Write, queue: &Receiver<(Mono, Vec<u8>)>) {
    let clock = Clock::new();
    while let Ok((due, packet)) = queue.recv() {
        loop {
            let rest = due.since(clock.now().mono);
            if rest.is_zero() {
                break;
            }
            std::thread::park_timeout(rest);
        }
        // A packet that the device refuses is lost, like any other on a bad line.
        let _ = to.write(&packet);
    }
}

const FLOWS: u32 = 16;
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
const LOST_PERCENT: u32 = 1;
const DELAY: Duration = Duration::from_millis(25);
const QUEUE: usize = 4096;
/// The rates of the connections and of the lane are found.
const WARM: Duration = Duration::from_secs(4);
