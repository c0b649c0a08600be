//! What a relay needs of the processor, beside a bare proxy that decrypts and encrypts, and what it keeps in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rap_mesh::PathEvent;
use rap_runtime::tls::{CertificateCell, TrustStore, any_server_name, link_server};
use rap_types::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::findings::Findings;
use super::planes::{Node, Plane, link_of, node};
use super::scene::{A, B, Places, RELAYS, Scene};
use super::support::{self, Authority, HOME, client, config};
use crate::measure::Stopwatch;
use crate::process::resident_bytes;

/// Processor seconds per gigabyte of relay and proxy, and how they compare.
pub(super) async fn processor(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let lasts = Duration::from_secs(if quick { 2 } else { 5 });
    let (mut relays, mut proxies, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let (relay, proxy) = (of_relay(programs, lasts).await?, of_proxy(lasts).await?);
        relays.push(relay);
        proxies.push(proxy);
        ratios.push(relay / proxy);
    }
    findings.add(
        "relay_cpu",
        relays,
        "the relay's process; datagrams of 1,300 bytes on lane C, twelve in a frame, as fast as they are taken; payload bytes that arrived",
    );
    findings.add(
        "proxy_cpu",
        proxies,
        "a thread that decrypts and encrypts again, same TLS, records of 16 KiB",
    );
    findings.add("relay_cpu_ratio", ratios, "of runs one after the other");
    Ok(())
}

async fn of_relay(programs: &Path, lasts: Duration) -> Result<f64> {
    let authority = Authority::new(HOME);
    let ends = [A, B].map(|number| node(number, Ipv4Addr::LOCALHOST));
    let relays = relays();
    let planes = relays.map(|relay| Plane::relay(programs, &authority, &relay, &ends));
    let [primary, _backup] = planes.map(Some);
    let primary = primary.context("a relay")??;
    let mut scene = Scene::join(&authority, relays.map(|relay| link_of(&relay))).await;
    // The lane is made, and its rate is found.
    flood(&mut scene, Duration::from_secs(1)).await?;
    let before = processor_seconds(primary.pid())?;
    let bytes = flood(&mut scene, lasts).await?;
    ensure!(bytes > 1_000_000, "{bytes} bytes arrived");
    Ok((processor_seconds(primary.pid())? - before) / (bytes as f64 / 1e9))
}

fn relays() -> [Node; 2] {
    RELAYS.map(|number| node(number, Ipv4Addr::new(127, 8, 0, number)))
}

/// Sends as much as is taken; bytes that arrived.
async fn flood(scene: &mut Scene, lasts: Duration) -> Result<u64> {
    let (watch, datagram, mut bytes) = (Stopwatch::start(), vec![0; DATAGRAM], 0);
    while watch.elapsed() < lasts {
        for _ in 0..GROUPS {
            match scene.a.mesh().send_group_on_path(scene.primary, &[&datagram[..]; TOGETHER]) {
                Ok(()) => {}
                Err(Reason::LinkQueueFull) => break,
                Err(reason) => anyhow::bail!("{reason}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        while let Ok(event) = scene.b.events.try_recv() {
            if let PathEvent::Received { datagram, .. } = event {
                bytes += datagram.len() as u64;
            }
        }
    }
    Ok(bytes)
}

/// Processor time of all threads of a process.
fn processor_seconds(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().context("schedstat")?.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}

/// A proxy in a thread of its own: TLS on both sides, and nothing between.
async fn of_proxy(lasts: Duration) -> Result<f64> {
    let authority = Arc::new(Authority::new(HOME));
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let to = sink.local_addr()?;
    let (asked, proxy) = tokio::sync::oneshot::channel::<SocketAddr>();
    let (done, used) = tokio::sync::oneshot::channel::<f64>();
    let there = authority.clone();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let used = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let _given_up = asked.send(listener.local_addr()?);
            let mut inbound = server(&there, A)?.accept(listener.accept().await?.0).await?;
            let mut outbound = dial(&there, B, to).await?;
            let before = thread_seconds()?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = inbound.read(&mut buffer).await.unwrap_or(0);
                if count == 0 {
                    break;
                }
                outbound.write_all(&buffer[..count]).await?;
                outbound.flush().await?;
            }
            anyhow::Ok(thread_seconds()? - before)
        })?;
        let _given_up = done.send(used);
        Ok(())
    });
    let proxy = proxy.await?;
    let acceptor = server(&authority, B)?;
    let received = async {
        let mut stream = acceptor.accept(sink.accept().await?.0).await?;
        let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
        while let Ok(count) = stream.read(&mut buffer).await
            && count > 0
        {
            bytes += count as u64;
        }
        anyhow::Ok(bytes)
    };
    let sent = async {
        let mut stream = dial(&authority, A, proxy).await?;
        let (watch, block) = (Stopwatch::start(), vec![0; 16 << 10]);
        while watch.elapsed() < lasts {
            stream.write_all(&block).await?;
        }
        stream.shutdown().await?;
        anyhow::Ok(())
    };
    let (bytes, ()) = tokio::try_join!(received, sent)?;
    Ok(used.await? / (bytes as f64 / 1e9))
}

fn server(authority: &Authority, number: u8) -> Result<TlsAcceptor> {
    let (leaf, trust) = (CertificateCell::new(), TrustStore::new());
    let (chain, key) = authority.leaf(support::node(number), 1, Duration::from_secs(3600));
    leaf.set(chain, key)?;
    trust.replace(HOME, authority.trust(&[]));
    Ok(TlsAcceptor::from(link_server(&leaf, &trust, config(number).time)?))
}

async fn dial(
    authority: &Authority,
    target: u8,
    to: SocketAddr,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let client = client(authority, 3, support::node(target));
    Ok(TlsConnector::from(client).connect(any_server_name(), stream).await?)
}

/// Processor time of this thread.
fn thread_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split_whitespace().next().context("schedstat")?.parse::<f64>()? / 1e9)
}

/// What a relay's memory rises by while a source floods it and the other end reads hardly anything.
pub(super) async fn memory(programs: &Path, quick: bool, findings: &mut Findings) -> Result<()> {
    let authority = Authority::new(HOME);
    let ends = [A, B].map(|number| node(number, Ipv4Addr::LOCALHOST));
    let relays = relays();
    let primary = Plane::relay(programs, &authority, &relays[0], &ends)?;
    let _backup = Plane::relay(programs, &authority, &relays[1], &ends)?;
    let there = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let places = Places { b: Some(there.handle().clone()), ..Places::default() };
    let mut scene = Scene::join_at(&authority, relays.map(|relay| link_of(&relay)), &places).await;
    flood(&mut scene, Duration::from_secs(1)).await?;
    let base = resident_bytes(primary.pid())?;
    let halves = if quick { [2, 2] } else { [6, 6] };
    let mut most = [0.0_f64; 2];
    for (seconds, most) in halves.into_iter().zip(&mut most) {
        let watch = Stopwatch::start();
        while watch.elapsed() < Duration::from_secs(seconds) {
            // The only thread of the other end does nothing: nothing is read there.
            let stalled = there.handle().spawn(async { std::thread::park_timeout(STALL) });
            while !stalled.is_finished() {
                flood(&mut scene, Duration::from_millis(50)).await?;
                let now = resident_bytes(primary.pid())?;
                *most = most.max((now as f64 - base as f64) / 1e6);
            }
        }
    }
    let note = "against the relay's memory after a second of traffic; the other end reads for moments between stalls of 1.2 s";
    findings.add("relay_memory", vec![most[0].max(most[1])], note);
    let note = "by how much the second half of the flood rises above the first";
    findings.add("relay_memory_growth", vec![(most[1] - most[0]).max(0.0)], note);
    there.shutdown_background();
    Ok(())
}

const DATAGRAM: usize = 1_300;
/// As many as a frame holds, and as many frames as may wait.
const TOGETHER: usize = 12;
const GROUPS: usize = 16;
/// Shorter than the time after which a silent peer is given up.
const STALL: Duration = Duration::from_millis(1_200);
