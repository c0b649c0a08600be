//! Small messages of class `input` beside bulk, before a bottleneck of 200 Mb/s.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use rap_mesh::PathEvent;
use rap_types::{ChannelClass, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::findings::Findings;
use super::inner;
use super::part::run_tool;
use super::scene::{Places, RELAYS, Scene, relay};
use super::support::{Authority, HOME, node};
use crate::measure::{Stopwatch, percentile};

/// Milliseconds of the round trips of 64 bytes.
pub(super) async fn measure(quick: bool, findings: &mut Findings) -> Result<()> {
    let source = bottleneck()?;
    let times = if quick { 600 } else { 2_500 };
    let authority = Authority::new(HOME);
    let relays = RELAYS.map(|number| relay(&authority, number, OUTSIDE));
    let places = Places { a: Some(source.handle().clone()), ..Places::default() };
    let addresses = [relays[0].node.address(), relays[1].node.address()];
    let mut scene = Scene::join_at(&authority, addresses, &places).await;
    let idle = echoes(&mut scene, times, false).await?;
    // The lane is made, and its rate is found.
    echoes(&mut scene, 400, true).await?;
    let beside = echoes(&mut scene, times, true).await?;
    let idle_p99 = percentile(&idle, 0.99).context("no answer")?;
    let added = beside.iter().map(|rtt| rtt - idle_p99).collect();
    let line = "200 Mb/s token bucket with a queue of 50 ms";
    findings.add("input_idle", idle, line);
    findings.add(
        "input_added",
        added,
        &format!("{line}; vpn datagrams to another node as fast as they are taken; less idle p99"),
    );
    let (idle, beside) = bare(&source, times).await?;
    let idle_p99 = percentile(&idle, 0.99).context("no answer")?;
    let added = beside.iter().map(|rtt| rtt - idle_p99).collect();
    findings.add(
        "input_unpaced",
        added,
        &format!("{line}; two bare TCP connections, bbr without pacing by the sender; less idle p99"),
    );
    source.shutdown_background();
    Ok(())
}

/// A runtime whose network has one line, that of 200 Mb/s, to this one.
fn bottleneck() -> Result<Runtime> {
    inner::joined(inner::within(|own| {
        run_tool("ip", &["link", "add", "line", "type", "veth", "peer", "name", "far", "netns", "1"])?;
        run_tool("ip", &["address", "add", "10.99.0.2/24", "dev", "line"])?;
        run_tool("ip", &["link", "set", "line", "up"])?;
        let shape = "qdisc add dev line root tbf rate 200mbit burst 32k latency 50ms";
        run_tool("tc", &shape.split(' ').collect::<Vec<_>>()).with_context(|| format!("network {own}"))?;
        inner::runtime()
    }))
    .and_then(|runtime| {
        run_tool("ip", &["address", "add", "10.99.0.1/24", "dev", "far"])?;
        run_tool("ip", &["link", "set", "far", "up"])?;
        Ok(runtime)
    })
}

/// Round trips to the relay, one every 4 ms.
async fn echoes(scene: &mut Scene, times: usize, beside_bulk: bool) -> Result<Vec<f64>> {
    let mut rtts = Vec::new();
    let (mesh, datagram) = (scene.a.mesh().clone(), vec![0; 1_300]);
    let bulk = async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            tick.tick().await;
            for _ in 0..64 {
                match mesh.send_on_path(scene.primary, &datagram) {
                    Ok(()) => {}
                    Err(Reason::LinkQueueFull) => break,
                    Err(reason) => return reason,
                }
            }
        }
    };
    let events = &mut scene.b.events;
    let drain = async {
        let mut bytes = 0;
        while let Some(event) = events.recv().await {
            if let PathEvent::Received { datagram, .. } = event {
                bytes += datagram.len();
            }
        }
        bytes
    };
    let asked = async {
        let mut tick = tokio::time::interval(Duration::from_millis(4));
        while rtts.len() < times {
            tick.tick().await;
            match mesh.echo(node(RELAYS[0]), ChannelClass::Input, vec![0; 64]).await {
                Ok(rtt) => rtts.push(rtt.as_secs_f64() * 1e3),
                Err(reason) => bail!("no answer: {reason}"),
            }
        }
        Ok(())
    };
    tokio::select! {
        asked = asked => asked?,
        reason = bulk, if beside_bulk => bail!("bulk: {reason}"),
        _ = drain => bail!("the other end is gone"),
    }
    Ok(rtts)
}

/// The same with two connections and nothing of this product: alone, and beside bulk.
async fn bare(source: &Runtime, times: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let listener = TcpListener::bind((OUTSIDE, 0)).await?;
    let to = listener.local_addr()?;
    let answers = async {
        let (mut small, _) = listener.accept().await?;
        let (mut bulk, _) = listener.accept().await?;
        small.set_nodelay(true)?;
        let answer = async {
            let mut message = [0; 64];
            while small.read_exact(&mut message).await.is_ok() {
                small.write_all(&message).await?;
            }
            anyhow::Ok(())
        };
        let swallow = async {
            let mut buffer = vec![0; 64 << 10];
            while bulk.read(&mut buffer).await? > 0 {}
            anyhow::Ok(())
        };
        tokio::try_join!(answer, swallow)
    };
    let asked = source.spawn(ask(to, times));
    tokio::select! {
        rtts = asked => rtts?,
        answers = answers => bail!("{answers:?}"),
    }
}

async fn ask(to: SocketAddr, times: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut small = TcpStream::connect(to).await?;
    small.set_nodelay(true)?;
    let mut bulk = TcpStream::connect(to).await?;
    setsockopt(&bulk, TcpCongestion, &OsString::from("bbr")).context("bbr")?;
    let alone = trips(&mut small, times).await?;
    let fill = async {
        let block = vec![0; 64 << 10];
        loop {
            if let Err(error) = bulk.write_all(&block).await {
                return error;
            }
        }
    };
    tokio::select! {
        error = fill => bail!("bulk: {error}"),
        beside = trips(&mut small, times) => Ok((alone, beside?)),
    }
}

async fn trips(stream: &mut TcpStream, times: usize) -> Result<Vec<f64>> {
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    let (mut rtts, mut message) = (Vec::new(), [0; 64]);
    while rtts.len() < times {
        tick.tick().await;
        let watch = Stopwatch::start();
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await?;
        rtts.push(watch.elapsed_ms());
    }
    Ok(rtts)
}

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
