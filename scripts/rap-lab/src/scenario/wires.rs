//! The lab itself: hosts hear each other until they are cut, unplugged or slow. Needs none of the product's programs, so a failure
//! here is the machine's or the lab's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::check::{Finding, Report};
use crate::command::Invocation;
use crate::host::Host;
use crate::lab::Lab;
use crate::mode::Mode;
use crate::slow::Slowness;
use crate::wait::wait_until;

/// See the module.
pub const WIRES: Scenario = Scenario {
    name: "wires",
    shows: "hosts hear each other until they are cut, unplugged or slow",
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
        Ok(Finding::new(true, serde_json::json!({"slow_ms": slow, "fast_ms": fast}), "50 ms each way added"))
    });
    Ok(())
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

const DEADLINE: Duration = Duration::from_secs(20);
