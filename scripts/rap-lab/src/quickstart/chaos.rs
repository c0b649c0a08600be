//! `--chaos`: the control plane and its PostgreSQL are killed. Owns what is measured meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Story;
use crate::check::{Finding, Report};
use crate::fabric::{Control, Health, Node, Watch};
use crate::lab::Lab;
use crate::wait::now;

/// Kills, watches, starts again.
pub fn run(lab: &Lab, control: &Control, nodes: &[Node], story: &Story, report: &mut Report) -> Result<()> {
    let pairs = nodes.iter().zip(nodes.iter().cycle().skip(1));
    let watches: Vec<Watch> = pairs.map(|(from, to)| from.watch(lab, to)).collect::<Result<_>>()?;
    story.step("killing the control plane and PostgreSQL; pings go on");
    control.kill_with_postgres(lab)?;
    let killed = now();
    report.check("time_to_degraded", || {
        for node in nodes {
            node.wait_status("says that it is degraded", FRESH_AND_MORE, |health, status| {
                health == Health::Degraded && status["freshness"]["state"] == "degraded"
            })?;
        }
        let seconds = killed.elapsed().as_secs_f64();
        Ok(Finding::new(
            true,
            seconds,
            "seconds until every node says that what it knows is stale; traffic goes on",
        ))
    });
    story.check(report);
    for watch in &watches {
        watch.wait_answers(20).context("with the control plane dead and nodes degraded")?;
    }
    story.step("starting the control plane again");
    control.restart(lab)?;
    let restarted = now();
    report.check("time_to_healthy", || {
        control.wait_answering()?;
        for node in nodes {
            node.wait_healthy()?;
        }
        let seconds = restarted.elapsed().as_secs_f64();
        Ok(Finding::new(true, seconds, "seconds from its start until every node is healthy"))
    });
    story.check(report);
    report.check("ping_loss", || {
        let (mut sent, mut lost) = (0, 0);
        for watch in watches {
            let pings = watch.end()?;
            (sent, lost) = (sent + pings.sent, lost + pings.lost());
        }
        let percent = 100.0 * lost as f64 / sent.max(1) as f64;
        let note =
            format!("percent of {sent} pings over the overlay, from before the kill until all was healthy");
        Ok(Finding::new(lost == 0 && sent > 0, percent, note))
    });
    story.check(report);
    Ok(())
}

/// Longer than the cluster's heads are fresh.
const FRESH_AND_MORE: Duration = Duration::from_secs(60);
