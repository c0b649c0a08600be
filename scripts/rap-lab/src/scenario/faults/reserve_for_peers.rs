//! Silent connections of many sources keep out neither known peers nor somebody new.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::json;

use super::scene::{Scene, extra, leave};
use super::shown::{half, shown};
use crate::check::Finding;
use crate::fabric::{CALL, Node, SETTLE};
use crate::host::Host;
use crate::wait::{now, rest, wait_until};

/// A crowd of sources opens connections to a node and to the control plane, says nothing, and opens each again that is ended. Meanwhile
/// a node starts anew, links are made anew, and a host that nobody saw before joins.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    rap_runtime::descriptors::raise_limit();
    let [one, two] = &scene.nodes;
    let crowd = scene.lab.host("crowd")?;
    // Each in a network of its own: shares are counted by network, too.
    for source in sources() {
        crowd.typed(&format!("ip address add {source}/32 dev eth0"), CALL)?;
    }
    for host in [one.host(), scene.control.host()] {
        host.typed(&format!("ip route add {NETWORK} dev eth0"), CALL)?;
    }
    let doors = [
        (SocketAddrV4::new(scene.control.host().address(), 8443), OF_CONTROL),
        (SocketAddrV4::new(one.host().address(), 7443), OF_LINKS),
    ];
    let flood = Flood::start(&crowd, &doors)?;
    let measured = through(scene, one, two);
    let (opened, ended) = flood.stop()?;
    for host in [one.host(), scene.control.host()] {
        host.typed(&format!("ip route del {NETWORK} dev eth0"), CALL)?;
    }
    let (again, link, new) = measured?;
    let millis = |took: Duration| took.as_millis() as u64;
    Ok(shown(
        half(
            again.max(link).max(new) < LONGEST,
            json!({
                "known_node_back_after_ms": millis(again), "link_after_ms": millis(link), "new_node_after_ms": millis(new),
            }),
        ),
        half(
            ended > 0,
            json!({ "sources": SOURCES, "silent_connections": opened, "ended_for_others": ended }),
        ),
        "known peers and a new host get in beside a crowd of silent connections, some of which are ended for them",
    ))
}

fn through(scene: &Scene<'_>, one: &Node, two: &Node) -> Result<(Duration, Duration, Duration)> {
    let timed = |act: &dyn Fn() -> Result<()>| -> Result<Duration> {
        let started = now();
        act()?;
        Ok(started.elapsed())
    };
    let agent = two.agent(scene.lab)?;
    let again = timed(&|| {
        agent.stop()?;
        agent.restart()?;
        two.wait_status("has its control plane", SETTLE, |_, status| status["control"]["connected"] == true)
            .map(drop)
    })?;
    let link = timed(&|| {
        two.kill_all(scene.lab)?;
        agent.restart()?;
        two.wait_status("has its link", SETTLE, |_, status| {
            let links = status["links"].as_array().map(Vec::as_slice).unwrap_or_default();
            links.iter().any(|link| link["name"] == one.name() && link["state"] == "established")
        })
        .map(drop)
    })?;
    let new = timed(&|| {
        let node = extra(scene, "honest", &[])?;
        leave(scene, &node, "honest")
    })?;
    two.wait_healthy()?;
    one.wait_answer(two)?;
    Ok((again, link, new))
}

/// Silent connections that are opened again when they are ended.
struct Flood {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    thread: JoinHandle<Result<usize>>,
}

impl Flood {
    /// Begins, and waits until every connection was opened once.
    fn start(from: &Host, doors: &[(SocketAddrV4, usize)]) -> Result<Self> {
        let wanted: Vec<(Ipv4Addr, SocketAddrV4)> = doors
            .iter()
            .flat_map(|(door, each)| {
                sources().flat_map(move |source| std::iter::repeat_n((source, *door), *each))
            })
            .collect();
        let (stop, ended, opened) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (host, stopping, counted, reached) = (from.clone(), stop.clone(), ended.clone(), opened.clone());
        let all = wanted.len();
        let thread = std::thread::spawn(move || {
            host.view().enter(|| {
                let mut open: Vec<TcpStream> = Vec::new();
                for (source, door) in &wanted {
                    open.push(silent(*source, *door)?);
                    reached.fetch_add(1, Ordering::SeqCst);
                }
                while !stopping.load(Ordering::SeqCst) {
                    for (stream, (source, door)) in open.iter_mut().zip(&wanted) {
                        if is_over(stream) {
                            counted.fetch_add(1, Ordering::SeqCst);
                            *stream = silent(*source, *door)?;
                        }
                    }
                    rest(PACE);
                }
                Ok(open.len())
            })
        });
        wait_until(
            SETTLE,
            "the crowd is there",
            || Ok((opened.load(Ordering::SeqCst) == all).then_some(())),
        )?;
        Ok(Self { stop, ended, thread })
    }

    /// Ends it: how many connections there were at once, and how often one was ended.
    fn stop(self) -> Result<(usize, usize)> {
        self.stop.store(true, Ordering::SeqCst);
        let opened = self.thread.join().map_err(|_| anyhow!("panic in the crowd"))??;
        Ok((opened, self.ended.load(Ordering::SeqCst)))
    }
}

/// A connection that is under way.
fn silent(source: Ipv4Addr, door: SocketAddrV4) -> Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).context("socket")?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0))).context("bind")?;
    match connect(socket.as_raw_fd(), &SockaddrIn::from(door)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error).context("connect"),
    }
}

fn is_over(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
    }
}

fn sources() -> impl Iterator<Item = Ipv4Addr> {
    (0..SOURCES).map(|number| Ipv4Addr::new(10, 78, number, 1))
}

const SOURCES: u8 = 17;
const NETWORK: &str = "10.78.0.0/16";
/// Of one source: together more than the control plane has places.
const OF_CONTROL: usize = 64;
/// Together more than a node has.
const OF_LINKS: usize = 16;
const PACE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(45);
