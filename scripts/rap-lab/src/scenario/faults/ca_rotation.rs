//! The cluster's CA is replaced while three nodes ping each other and the control plane starts anew in between.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::presented_leaf::PresentedLeaf;
use super::scene::{CLUSTER, Scene, extra, leave};
use super::shown::{half, shown};
use crate::check::Finding;
use crate::command::Invocation;
use crate::fabric::{CALL, Node, SETTLE};
use crate::wait::{now, wait_until};

/// No ping is lost over the overlay or over links; afterwards a certificate of the old CA is refused and one of the new is not.
pub fn check(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let three = &extra(scene, "third", &[])?;
    for (from, to) in [(one, three), (two, three)] {
        from.wait_answer(to)?;
    }
    let (old, server) = (PresentedLeaf::of(two)?, PresentedLeaf::of(one)?);
    let before = old.shown_to(two, one, &server)?;
    let watches = [(one, two), (two, three), (three, one)].map(|(from, to)| from.watch(scene.lab, to));
    let watches: Vec<_> = watches.into_iter().collect::<Result<_>>()?;

    let started = now();
    scene.control.rapctl(&format!("cluster rotate-ca {CLUSTER} --yes --reason drill"))?;
    let mut links = LinkPings::default();
    let stages = [follow(scene, "moving", one, two, &mut links)?, {
        // Where it is stands in the database.
        scene.control.kill_with_postgres(scene.lab)?;
        scene.control.restart(scene.lab)?;
        scene.control.wait_answering()?;
        follow(scene, "single", one, two, &mut links)?
    }];
    let took = started.elapsed();
    for node in [one, two, three] {
        node.wait_healthy()?;
    }
    let mut pings = (0, 0);
    for watch in watches {
        watch.wait_answers(20)?;
        let seen = watch.end()?;
        pings = (pings.0 + seen.sent, pings.1 + seen.lost());
    }
    let (new, server) = (PresentedLeaf::of(two)?, PresentedLeaf::of(one)?);
    let (refused, taken) = (old.shown_to(two, one, &server)?, new.shown_to(two, one, &server)?);
    let replaced = old.authority != new.authority && new.authority == server.authority;
    leave(scene, three, "third")?;
    let effect = half(
        refused.is_some() && replaced && pings.1 == 0 && links.lost == 0 && links.sent > 0,
        json!({
            "took_ms": took.as_millis() as u64, "stages": stages, "pings": pings.0, "lost": pings.1,
            "link_pings": links.sent, "link_lost": links.lost, "certificate_of_the_old_ca": refused,
        }),
    );
    let control = half(
        before.is_none() && taken.is_none(),
        json!({ "same_certificate_before": before, "certificate_of_the_new_ca": taken }),
    );
    Ok(shown(
        effect,
        control,
        "every node moved to the new CA, no ping was lost, and the old CA vouches for nobody",
    ))
}

/// A node is off during a whole rotation, which goes on without it; it comes back by itself.
pub fn slept_through(scene: &Scene<'_>) -> Result<Finding> {
    let [one, two] = &scene.nodes;
    let three = &extra(scene, "sleeper", &[])?;
    one.wait_answer(three)?;
    let old = PresentedLeaf::of(three)?;
    three.kill_all(scene.lab)?;
    scene.control.rapctl(&format!("cluster rotate-ca {CLUSTER} --yes --reason drill"))?;
    let mut refused = 0;
    for stage in ["introducing", "moving"] {
        wait_until(SETTLE, &format!("only the sleeper is missing while {stage}"), || {
            let ca = scene.control.ask(&format!("cluster ca {CLUSTER}"))?;
            Ok((ca["stage"] == stage && ca["missing"] == 1).then_some(()))
        })?;
        // Nobody goes on without it unless told to.
        scene.control.refuses(&format!("cluster rotate-ca {CLUSTER} --yes"), "ca.state")?;
        refused += 1;
        scene.control.rapctl(&format!("cluster rotate-ca {CLUSTER} --advance --yes --reason drill"))?;
    }
    // A node presents its new certificate once it has it.
    let renewed = |node: &Node| {
        wait_until(SETTLE, "a certificate of the new CA", || {
            let leaf = PresentedLeaf::of(node)?;
            Ok((leaf.authority != old.authority).then_some(leaf))
        })
    };
    let server = renewed(one)?;
    // The old CA ends at each node with the table that follows.
    let shut_out =
        Some(wait_until(SETTLE, "the old certificate is refused", || old.shown_to(two, one, &server))?);
    three.agent(scene.lab)?.restart()?;
    let back = now();
    three.wait_healthy()?;
    one.wait_answer(three)?;
    let took = back.elapsed();
    let new = renewed(three)?;
    let taken: Option<String> = wait_until(SETTLE, "the new certificate is taken", || {
        Ok(new.shown_to(two, one, &server)?.is_none().then_some(None))
    })?;
    leave(scene, three, "sleeper")?;
    let effect = half(
        new.authority == server.authority && taken.is_none(),
        json!({ "back_after_ms": took.as_millis() as u64, "certificate_of_the_new_ca": taken }),
    );
    let control = half(
        shut_out.is_some() && refused == 2 && old.authority != new.authority,
        json!({ "its_old_certificate_meanwhile": shut_out, "begun_again": refused }),
    );
    Ok(shown(
        effect,
        control,
        "the rotation waits for a node that is off until told to go on; that node comes back by itself",
    ))
}

/// Pings over the link between two nodes.
#[derive(Default)]
struct LinkPings {
    sent: usize,
    lost: usize,
}

/// Pings over a link until the rotation is in this stage; returns what an operator sees then.
fn follow(scene: &Scene<'_>, stage: &str, from: &Node, to: &Node, links: &mut LinkPings) -> Result<Value> {
    let mut seen = Vec::new();
    wait_until(SETTLE * 2, &format!("the rotation of the CA is {stage}"), || {
        let line =
            format!("rap-node-agent --membership default ping {} --count 10 --interval 50 --json", to.name());
        let answer = from.host().run(&Invocation::typed(&line)?, CALL)?;
        let document = answer.json().or_else(|_| answer.clone().success()?.json())?;
        let samples = document["link"]["samples"].as_array().context("no link samples")?;
        links.sent += samples.len();
        links.lost += samples.iter().filter(|sample| !sample["rtt_ms"].is_number()).count();
        let ca = scene.control.ask(&format!("cluster ca {CLUSTER}"))?;
        let counted = json!([ca["stage"], ca["missing"], ca["members"]]);
        if seen.last() != Some(&counted) {
            seen.push(counted);
        }
        Ok((ca["stage"] == stage).then_some(()))
    })?;
    Ok(json!(seen))
}
