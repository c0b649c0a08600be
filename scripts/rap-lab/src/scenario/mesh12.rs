//! Twelve nodes, three of them relays, whose wires come and go at random: whoever the true graph connects answers soon.
//!
//! Owns the storm. The graph of the topology says who is connected; the lab cuts and heals exactly what the graph says.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::Scenario;
use crate::check::{Finding, Report};
use crate::command::Invocation;
use crate::fabric::{CALL, Installation, Node, Pace, Pings, Way};
use crate::lab::Lab;
use crate::mode::Mode;
use crate::topology::{Graph, Topology};
use crate::wait::{now, rest};

/// See the module.
pub const MESH12: Scenario = Scenario {
    name: "mesh12",
    shows: "twelve nodes whose wires are cut at random for two minutes: who is connected answers within seconds",
    needs_programs: true,
    run: |lab, report| run(lab, report, Duration::from_secs(120), 20),
};

/// The same for a shorter time.
pub const MESH12_SHORT: Scenario = Scenario {
    name: "mesh12-short",
    shows: "mesh12 for half a minute",
    needs_programs: true,
    run: |lab, report| run(lab, report, Duration::from_secs(30), 4),
};

fn run(lab: &Lab, report: &mut Report, lasts: Duration, moves: usize) -> Result<()> {
    ensure!(lab.mode() == Mode::Namespaces, "cuts need network namespaces, and those need root");
    let topology = Topology::mesh12();
    let made = Installation::make(lab, &topology, ("mesh12", Pace::default()), |_| String::new())?;
    let mut storm = Storm::new(lab, &made, &topology)?;
    report.check("every_pair_answers", || storm.whole());
    report.check("connected_pairs_answer_after_each_cut", || storm.blow(lasts, moves));
    report.check("who_is_cut_off_is_not_heard", || storm.control());
    Ok(())
}

struct Storm<'a> {
    lab: &'a Lab,
    nodes: BTreeMap<&'static str, &'a Node>,
    pairs: Vec<(&'static str, &'static str)>,
    addresses: BTreeMap<&'static str, String>,
    graph: Graph,
    /// Pairs that do not hear each other, the oldest cut first.
    cut: Vec<(&'static str, &'static str)>,
    random: StdRng,
}

impl<'a> Storm<'a> {
    fn new(lab: &'a Lab, made: &'a Installation, topology: &Topology) -> Result<Self> {
        let names = topology.places.iter().map(|place| place.name);
        let found = |name: &'static str| {
            let node = made.all().find(|node| node.name() == name);
            Ok((name, node.with_context(|| format!("no node {name}"))?))
        };
        let nodes = names.map(found).collect::<Result<BTreeMap<_, _>>>()?;
        let mut addresses = BTreeMap::new();
        for (name, node) in &nodes {
            let other = nodes.values().find(|other| other.name() != *name).context("two nodes")?;
            addresses.insert(*name, node.overlay_address(other)?);
        }
        let (pairs, graph) = (topology.pairs(), topology.graph.clone());
        let random = StdRng::seed_from_u64(lab.seed());
        Ok(Self { lab, nodes, pairs, addresses, graph, cut: Vec::new(), random })
    }

    fn whole(&self) -> Result<Finding> {
        let slowest = self.settle(now())?;
        Ok(Finding::new(
            true,
            json!({ "pairs": self.pairs.len(), "slowest_ms": slowest.1 }),
            "ms to the last answer",
        ))
    }

    /// Cuts and heals until the time is over.
    fn blow(&mut self, lasts: Duration, moves: usize) -> Result<Finding> {
        let (began, mut cuts, mut moved, mut slowest) = (now(), 0, 0, (("", ""), 0));
        let mut all = Vec::new();
        while began.elapsed() < lasts || moved < moves && began.elapsed() < lasts * 2 {
            let before = self.ways()?;
            let struck = self.strike(&before)?;
            cuts += 1;
            let settled = self.settle(now()).with_context(|| {
                format!("seed {}, cut {cuts}: {struck:?}; cut are {:?}", self.lab.seed(), self.cut)
            })?;
            all.push(settled.1);
            if settled.1 > slowest.1 {
                slowest = settled;
            }
            let after = self.ways()?;
            moved +=
                usize::from(before.iter().any(|(pair, way)| after.get(pair).is_some_and(|now| now != way)));
            if self.cut.len() > CUT_AT_ONCE {
                self.heal_oldest()?;
            }
        }
        all.sort_unstable();
        let value = json!({
            "seed": self.lab.seed(), "cuts": cuts, "moved": moved, "slowest_ms": slowest.1,
            "slowest": [slowest.0.0, slowest.0.1], "median_ms": all.get(all.len() / 2),
        });
        ensure!(moved >= moves, "only {moved} cuts moved a path: {value}");
        Ok(Finding::new(
            true,
            value,
            "cuts of wires; `moved`: cuts after which a pair took another way; ms from a cut to the last answer",
        ))
    }

    /// Somebody without a wire is not heard, and then heard again: the pings of the storm can fail.
    fn control(&mut self) -> Result<Finding> {
        while !self.cut.is_empty() {
            self.heal_oldest()?;
        }
        let (alone, other) = ("n1", "n2");
        self.lab.cut(alone, None)?;
        let deaf = Pings::of_host(self.nodes[alone], &self.addresses[other], 3)?;
        self.lab.heal(alone, None)?;
        let again = self.settle(now())?;
        ensure!(deaf.answered.is_empty(), "{alone} has no wire and was answered");
        Ok(Finding::new(true, again.1, "ms from the wire's return until every pair answers"))
    }

    /// Cuts a wire. More often than not it is one that a path uses now.
    fn strike(
        &mut self,
        ways: &BTreeMap<(&'static str, &'static str), Way>,
    ) -> Result<(&'static str, &'static str)> {
        let used = |pair: &&(&'static str, &'static str)| {
            self.graph.linked(pair.0, pair.1) && ways.get(*pair).is_some_and(|way| way.kind == "direct")
        };
        let standing = |pair: &&(&'static str, &'static str)| self.graph.linked(pair.0, pair.1);
        let direct = self.pairs.iter().filter(used).choose(&mut self.random).copied();
        let any = self.pairs.iter().filter(standing).choose(&mut self.random).copied();
        let often = self.random.random_bool(0.7);
        let pair = direct.filter(|_| often).or(any).context("no wire is left")?;
        let one_way = self.random.random_bool(0.25);
        match one_way {
            true => self.lab.cut_one_way(pair.0, pair.1)?,
            false => self.lab.cut(pair.0, Some(pair.1))?,
        }
        self.graph.cut(pair.0, pair.1);
        if !one_way {
            self.graph.cut(pair.1, pair.0);
        }
        self.cut.push(pair);
        Ok(pair)
    }

    fn heal_oldest(&mut self) -> Result<()> {
        let (one, other) = self.cut.remove(0);
        self.lab.heal(one, Some(other))?;
        self.graph.heal(one, other);
        Ok(())
    }

    /// The way of every pair that says one.
    fn ways(&self) -> Result<BTreeMap<(&'static str, &'static str), Way>> {
        let mut found = BTreeMap::new();
        for (name, node) in &self.nodes {
            for (other, way) in node.ways()? {
                if let Some(pair) = self.pairs.iter().find(|pair| pair.0 == *name && pair.1 == other) {
                    found.insert(*pair, way);
                }
            }
        }
        Ok(found)
    }

    /// Waits until every pair that the graph connects has answered since `since`; the slowest one and its milliseconds.
    fn settle(&self, since: Instant) -> Result<((&'static str, &'static str), u64)> {
        let connected: Vec<_> = self
            .pairs
            .iter()
            .filter(|(one, other)| self.graph.relays_between(one, other).is_some())
            .collect();
        let mut by_node: BTreeMap<&str, Vec<(&'static str, &'static str)>> = BTreeMap::new();
        connected.iter().for_each(|pair| by_node.entry(pair.0).or_default().push(**pair));
        let results = thread::scope(|scope| {
            let asked: Vec<_> = by_node
                .iter()
                .map(|(name, pairs)| {
                    let node = self.nodes[name];
                    scope.spawn(move || self.answers(node, pairs, since))
                })
                .collect();
            asked
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("panic while pinging"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        let slowest = results.into_iter().flatten().max_by_key(|(_, took)| *took);
        slowest.context("nobody is connected")
    }

    /// Asks until each of these has answered.
    fn answers(
        &self,
        node: &Node,
        pairs: &[(&'static str, &'static str)],
        since: Instant,
    ) -> Result<Vec<((&'static str, &'static str), u64)>> {
        let (mut open, mut answered) = (pairs.to_vec(), Vec::new());
        while !open.is_empty() {
            let mut still = Vec::new();
            for pair in open {
                let line = format!("ping -n -c 1 -W 0.5 {}", self.addresses[pair.1]);
                match node.host().run(&Invocation::typed(&line)?, CALL)?.code {
                    Some(0) => answered.push((pair, since.elapsed().as_millis() as u64)),
                    _ => still.push(pair),
                }
            }
            open = still;
            let waited = since.elapsed();
            ensure!(
                open.is_empty() || waited <= ANSWERED,
                "no answer within {ANSWERED:?}: {:?}",
                open.iter()
                    .map(|pair| (pair.0, pair.1, self.graph.relays_between(pair.0, pair.1)))
                    .collect::<Vec<_>>()
            );
            if !open.is_empty() {
                rest(Duration::from_millis(100));
            }
        }
        Ok(answered)
    }
}

/// Cuts that stand at once.
const CUT_AT_ONCE: usize = 12;
/// A cut that nobody tells is found in a second, and then a path may have to be tried and refused.
const ANSWERED: Duration = Duration::from_secs(5);
