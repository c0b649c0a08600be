//! `--sites`: two sites behind routers that let nothing in, and two relays. Owns the story; the network and the installation are
//! those of the scenario `two-sites`.

use anyhow::Result;
use serde_json::json;

use super::{PairPing, Story, Wish};
use crate::check::{Finding, Report};
use crate::fabric::SETTLE;
use crate::lab::Lab;
use crate::mode::Mode;
use crate::scenario::two_sites::{faults, nat, scene};
use crate::wait::now;

/// Runs it on an empty lab; true if everything went as it should.
pub fn run(lab: &Lab, wish: Wish) -> Result<bool> {
    anyhow::ensure!(lab.mode() == Mode::Namespaces, "--sites needs root: a site is a network of its own");
    let started = now();
    let story = Story::new(wish.json);
    let mut report = Report::silent(super::NAME);
    story
        .step("two sites, each behind a router that gives every connection another port and lets nothing in");
    report.check("nat_is_symmetric_and_closed", || nat::check(lab));
    story.check(&report);
    story.step("starting the control plane, two relays, and one node in each site");
    let scene = scene::prepare(lab)?;
    story.step("pinging from site to site");
    let [a, b] = &scene.sites;
    let mut pings = Vec::new();
    for (from, to) in [(a, b), (b, a)] {
        from.wait_answer(to)?;
        let counted = from.ping(to, super::PINGS)?;
        pings.push(PairPing {
            from: from.name().to_owned(),
            to: to.name().to_owned(),
            overlay_rtt_ms: counted.median_ms(),
            loss: counted.loss(),
        });
    }
    story.pings(&pings);
    report.check("through_a_relay", || {
        let way = scene.wait_way("a relay is in use", SETTLE, |way| way.kind == "relayed")?;
        scene.nothing_direct()?;
        Ok(Finding::new(
            true,
            json!(way.via),
            "relays of the way, as the first site says; nothing went directly",
        ))
    });
    story.check(&report);
    if wish.chaos {
        story.step("killing the relay in use under a TCP stream, and starting it again");
        report.check("relay_killed", || faults::killed(&scene));
        story.check(&report);
    }
    let ok = report.ok() && pings.iter().all(|ping| ping.loss == 0.0);
    if ok {
        let (relay, _) = scene.relay_in_use()?;
        let cut = format!(
            "scripts/lab cut {0}            (the relay in use; and: scripts/lab heal {0})",
            relay.name()
        );
        story.try_these(&[
            "scripts/lab exec cp rapctl ping a b",
            "scripts/lab exec a rap-node-agent peers",
            "scripts/lab exec cp rapctl mesh --all",
            &cut,
            "scripts/lab kill cp-control   (and: scripts/lab restart cp-control)",
        ]);
    } else {
        story.ends(lab, false);
    }
    if wish.json {
        let document = json!({
            "schema": "rap.quickstart.v1", "ok": ok, "mode": lab.mode(), "seconds": started.elapsed().as_secs_f64(),
            "nodes": scene.control.ask(&format!("node list --cluster {}", scene::CLUSTER))?["nodes"],
            "pings": pings, "checks": report.checks(),
        });
        println!("{document}");
    }
    Ok(ok)
}
