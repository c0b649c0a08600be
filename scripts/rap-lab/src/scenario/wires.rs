//! The lab itself: hosts hear each other until they are cut, unplugged, lossy or slow. Needs none of the product's programs, so a failure
//! here is the machine's or the lab's.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Scenario;
use crate::check::{Finding, Report};
use crate::command::Invocation;
use crate::fabric::inside;
use crate::host::Host;
use crate::lab::Lab;
use crate::mode::Mode;
use crate::slow::Slowness;
use crate::wait::wait_until;

/// See the module.
pub const WIRES: Scenario = Scenario {
    name: "wires",
    shows: "hosts hear each other until they are cut, unplugged, lossy or slow",
    needs_programs: false,
    run,
};

fn run(lab: &Lab, report: &mut Report) -> Result<()> {
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    report.check("hosts_hear", || {
        let milliseconds = heard(&a, &b)?;
        Ok(Finding::new(true, milliseconds, "round trip in ms"))
    });
    if lab.mode() == Mode::Loopback {
        return Ok(());
    }
    report.check("pair_cut_and_healed", || {
        lab.cut("a", Some("b"))?;
        let deaf = !hears(&a, &b)? && !hears(&b, &a)?;
        lab.heal("a", Some("b"))?;
        heard(&a, &b)?;
        Ok(Finding::new(deaf, deaf, "nothing passed while cut"))
    });
    report.check("one_way_cut_and_healed", || one_way(lab, &a, &b));
    report.check("line_lossy_and_clean", || lossy(lab, &a, &b));
    report.check("host_unplugged_and_plugged", || {
        lab.cut("b", None)?;
        let deaf = !hears(&a, &b)?;
        lab.heal("b", None)?;
        heard(&a, &b)?;
        Ok(Finding::new(deaf, deaf, "nothing passed while unplugged"))
    });
    report.check("line_slow_and_fast", || {
        lab.slow("b", Slowness { delay: Duration::from_millis(50), ..Slowness::default() })?;
        let slow = heard(&a, &b)?;
        lab.fast("b")?;
        let fast = heard(&a, &b)?;
        ensure!(slow >= 100.0, "{slow} ms with 50 ms each way");
        Ok(Finding::new(true, json!({"slow_ms": slow, "fast_ms": fast}), "50 ms each way added"))
    });
    Ok(())
}

/// Datagrams of one host arrive at the other, and none of the other here.
fn one_way(lab: &Lab, a: &Host, b: &Host) -> Result<Finding> {
    let [to_a, to_b] = [sockets(a)?, sockets(b)?];
    lab.cut_one_way("a", "b")?;
    let arrived = [arrived(&to_a, &to_b, DATAGRAMS)?, arrived(&to_b, &to_a, DATAGRAMS)?];
    lab.heal("a", Some("b"))?;
    let healed = self::arrived(&to_a, &to_b, DATAGRAMS)?;
    ensure!(arrived[0] == 0, "{} of {DATAGRAMS} passed the cut", arrived[0]);
    ensure!(arrived[1] >= DATAGRAMS * 9 / 10, "{} of {DATAGRAMS} came the other way", arrived[1]);
    ensure!(healed >= DATAGRAMS * 9 / 10, "{healed} of {DATAGRAMS} came afterwards");
    Ok(Finding::new(true, json!({ "cut": arrived[0], "other": arrived[1] }), "only one direction was cut"))
}

/// About as many datagrams get lost as were to be.
fn lossy(lab: &Lab, a: &Host, b: &Host) -> Result<Finding> {
    let [at_a, at_b] = [sockets(a)?, sockets(b)?];
    lab.lossy("a", "b", 0.3)?;
    let counts = [arrived(&at_a, &at_b, DATAGRAMS)?, arrived(&at_b, &at_a, DATAGRAMS)?];
    lab.heal("b", Some("a"))?;
    let clean = arrived(&at_a, &at_b, DATAGRAMS)?;
    // 700 of 1,000 within seven deviations.
    ensure!(counts.iter().all(|count| (600..=800).contains(count)), "{counts:?} of {DATAGRAMS} arrived");
    ensure!(clean >= DATAGRAMS * 9 / 10, "{clean} of {DATAGRAMS} came afterwards");
    Ok(Finding::new(true, json!(counts), "of 1,000 datagrams with 30 % loss, each way"))
}

fn sockets(host: &Host) -> Result<UdpSocket> {
    let address = host.address();
    inside(host, || {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(socket)
    })
}

/// How many datagrams of this many arrive, a few under way at a time.
fn arrived(from: &UdpSocket, to: &UdpSocket, count: usize) -> Result<usize> {
    let (target, mut arrived, mut buffer) = (to.local_addr()?, 0, [0; 16]);
    for _ in 0..count {
        from.send_to(b"datagram", target)?;
        to.set_nonblocking(true)?;
        arrived += usize::from(to.recv(&mut buffer).is_ok());
    }
    to.set_nonblocking(false)?;
    while to.recv(&mut buffer).is_ok() {
        arrived += 1;
    }
    Ok(arrived)
}

fn hears(from: &Host, to: &Host) -> Result<bool> {
    Ok(ping(from, to)?.is_some())
}

/// Round trip in milliseconds of the first ping that is answered.
fn heard(from: &Host, to: &Host) -> Result<f64> {
    wait_until(DEADLINE, &format!("{} hears {}", from.name(), to.name()), || ping(from, to))
}

fn ping(from: &Host, to: &Host) -> Result<Option<f64>> {
    let call = Invocation::new("ping").arguments(["-c1", "-W1", "-n"]).argument(to.address().to_string());
    let answer = from.run(&call, DEADLINE)?;
    if answer.code != Some(0) {
        return Ok(None);
    }
    let (_, time) = answer.stdout.split_once("time=").context("time of ping")?;
    let time = time.split_whitespace().next().unwrap_or_default();
    Ok(Some(time.parse().with_context(|| time.to_owned())?))
}

const DATAGRAMS: usize = 1000;
const DEADLINE: Duration = Duration::from_secs(20);
