//! How much longer the paths are that the shipped engine chooses than the best ones, on matrices of round trips.
//!
//! Owns the matrices and which nodes are relays. A node knows what it measures to relays, what relays say of each other, and
//! what probes of the paths in use find; it never sees the matrix.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rap_routing::{Destination, Engine, Input, Own, Probes, RelayFacts, Said};
use rap_types::{Mono, NodeId};

use super::findings::Findings;
use super::rows::wants;
use crate::settings::Settings;

/// Measures both matrices; the message says why the one outside of the repository is missing.
pub(super) fn measure(settings: &Settings, findings: &mut Findings) -> Result<(), String> {
    if wants(settings, "stretch_generated") {
        let matrix = Matrix::read(GENERATED).map_err(|error| format!("{error:#}"))?;
        stretch_of(&matrix, usize::MAX, "stretch_generated", findings);
    }
    if wants(settings, "stretch_planetlab") {
        let file = Path::new(MEASURED);
        let text = std::fs::read_to_string(file).map_err(|error| format!("{MEASURED}: {error}"))?;
        let matrix = Matrix::read(&text).map_err(|error| format!("{error:#}"))?;
        stretch_of(&matrix, if settings.quick { 20 } else { 100 }, "stretch_planetlab", findings);
    }
    Ok(())
}

/// Round trips in microseconds between nodes; symmetric.
struct Matrix(Vec<Vec<u32>>);

impl Matrix {
    /// The strict upper triangle in milliseconds, a line per node.
    fn read(text: &str) -> Result<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let nodes = lines.len() + 1;
        let mut rtt = vec![vec![0; nodes]; nodes];
        for (one, line) in lines.iter().enumerate() {
            let values = line.split(',').collect::<Vec<_>>();
            ensure!(values.len() == nodes - 1 - one, "line {one} has {} values", values.len());
            for (other, value) in (one + 1..).zip(values) {
                let milliseconds: f64 = value.parse().context("a round trip")?;
                let us = (milliseconds * 1e3).max(1.0) as u32;
                (rtt[one][other], rtt[other][one]) = (us, us);
            }
        }
        Ok(Self(rtt))
    }

    /// The relays whose detours shorten the most round trips, one after the other.
    fn relays(&self) -> Vec<usize> {
        let mut best: Vec<Vec<u32>> = self.0.clone();
        let mut relays = Vec::new();
        while relays.len() < RELAYS {
            let gain = |through: usize| -> u64 {
                let of = |one: usize, row: &[u32]| -> u64 {
                    let first = self.0[one][through];
                    let gains = row.iter().zip(&self.0[through]);
                    gains.map(|(now, second)| u64::from(now.saturating_sub(first + second))).sum()
                };
                best.iter().enumerate().map(|(one, row)| of(one, row)).sum()
            };
            let candidates = (0..self.0.len()).filter(|node| !relays.contains(node));
            let Some(next) = candidates.max_by_key(|node| gain(*node)) else { break };
            for (one, row) in best.iter_mut().enumerate() {
                for (now, second) in row.iter_mut().zip(&self.0[next]) {
                    *now = (*now).min(self.0[one][next] + second);
                }
            }
            relays.push(next);
        }
        relays
    }
}

fn stretch_of(matrix: &Matrix, sources: usize, of: &str, findings: &mut Findings) {
    let relays = matrix.relays();
    let ends: Vec<usize> = (0..matrix.0.len()).filter(|node| !relays.contains(node)).collect();
    let mut stretches = Vec::new();
    for source in ends.iter().step_by((ends.len() / sources.min(ends.len())).max(1)) {
        stretches.extend(from(matrix, &relays, *source, &ends));
    }
    let note = format!(
        "{} nodes, {} of them relays, chosen by their gain by this bench (the planner ranks none); 5 attachments; pairs \
         without a direct way: the engine's path after {ROUNDS} rounds of its own probes against the best through at most 3 relays",
        matrix.0.len(),
        relays.len(),
    );
    findings.add(of, stretches, &note);
}

/// Stretches of the paths from one node to all others.
fn from(matrix: &Matrix, relays: &[usize], source: usize, ends: &[usize]) -> Vec<f64> {
    let rtt = |one: usize, other: usize| matrix.0[one][other];
    let mut engine = Engine::new(1);
    let own = Own { node: id(source), organization: None, region: String::new() };
    let facts = relays.iter().map(|relay| RelayFacts {
        node: id(*relay),
        organization: None,
        region: String::new(),
        draining: false,
        revoked: false,
        kept: true,
    });
    engine.handle(Input::Relays(own, facts.collect()), at(0));
    for relay in relays {
        engine.handle(Input::LinkUp(id(*relay)), at(0));
        let said = |other: &usize| (id(*other), Said { rtt_us: rtt(*relay, *other), loss_ppm: 0 });
        let row = relays.iter().filter(|other| *other != relay).map(said).collect();
        engine.handle(Input::RelayRow(id(*relay), row), at(0));
    }
    let destinations: Vec<usize> = ends.iter().copied().filter(|end| *end != source).collect();
    for destination in &destinations {
        let mut homes = relays.to_vec();
        homes.sort_by_key(|relay| rtt(*relay, *destination));
        let homes = homes.iter().take(ATTACHMENTS).map(|relay| id(*relay)).collect();
        let node = id(*destination);
        engine.handle(
            Input::Destination(Destination { node, organization: None, region: String::new(), homes }),
            at(0),
        );
    }
    let length = |path: &[usize], destination| {
        let nodes: Vec<usize> = [&[source], path, &[destination]].concat();
        nodes.windows(2).map(|pair| rtt(pair[0], pair[1])).sum::<u32>()
    };
    for round in 1..=ROUNDS {
        for relay in relays {
            let probes = Probes { rtt_us: rtt(source, *relay), answered: 15, lost: 0 };
            engine.handle(Input::LinkMeasured(id(*relay), probes), at(round * 60));
            let said = |other: &usize| (id(*other), Said { rtt_us: rtt(*relay, *other), loss_ppm: 0 });
            let row = relays.iter().filter(|other| *other != relay).map(said).collect();
            engine.handle(Input::RelayRow(id(*relay), row), at(round * 60));
        }
        for second in 0..60 {
            engine.decide(at(round * 60 + second));
        }
        for destination in &destinations {
            let Some(decision) = engine.decision(id(*destination)) else { continue };
            for path in [decision.primary, decision.backup] {
                let rtt_us = length(&numbers(&path), *destination);
                let probes = Probes { rtt_us, answered: 5, lost: 0 };
                (0..5).for_each(|_| {
                    engine.handle(
                        Input::PathMeasured(id(*destination), path.clone(), probes),
                        at(round * 60 + 59),
                    )
                });
            }
        }
    }
    let best = |destination: usize| {
        let mut sums: Vec<u32> = relays.iter().map(|relay| rtt(source, *relay)).collect();
        let mut least = u32::MAX;
        for _ in 0..3 {
            least = sums
                .iter()
                .zip(relays)
                .map(|(sum, relay)| sum + rtt(*relay, destination))
                .fold(least, u32::min);
            let onward =
                |to: &usize| sums.iter().zip(relays).map(|(sum, relay)| sum + rtt(*relay, *to)).min();
            sums = relays.iter().filter_map(onward).collect();
        }
        least
    };
    let stretch = |destination: &usize| {
        let chosen =
            engine.decision(id(*destination)).map(|decision| numbers(&decision.primary)).unwrap_or_default();
        // Without a path the stretch is beyond every bar.
        if chosen.is_empty() {
            return f64::from(u32::MAX);
        }
        f64::from(length(&chosen, *destination)) / f64::from(best(*destination))
    };
    destinations.iter().map(stretch).collect()
}

fn id(number: usize) -> NodeId {
    let mut id = [7; 16];
    id[8..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    NodeId::from_bytes(id)
}

fn numbers(path: &[NodeId]) -> Vec<usize> {
    let number =
        |id: &NodeId| id.as_bytes()[8..].iter().fold(0, |sum: usize, byte| sum << 8 | usize::from(*byte)) - 1;
    path.iter().map(number).collect()
}

fn at(seconds: u64) -> Mono {
    Mono((1000 + seconds) * 1_000_000_000)
}

/// 64 nodes around twelve cities: round trips by distance, routes that are longer than that by drawn shares, access lines.
const GENERATED: &str = include_str!("../../data/rtt64.csv");
/// Measured round trips; beside the repository, if somebody put them there.
const MEASURED: &str = "../shared/data/latency/planetlab490_upper_rtt_ms_slices01-09_median.csv";
const RELAYS: usize = 16;
const ATTACHMENTS: usize = 5;
/// Rounds of a minute.
const ROUNDS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_detour_is_found_by_the_engine_and_by_the_optimum() {
        let matrix = Matrix::read(GENERATED).unwrap();
        let relays = matrix.relays();
        assert_eq!((matrix.0.len(), relays.len()), (64, RELAYS));
        let ends: Vec<usize> = (0..64).filter(|node| !relays.contains(node)).collect();
        let stretches = from(&matrix, &relays, ends[0], &ends);
        assert_eq!(stretches.len(), ends.len() - 1);
        assert!(stretches.iter().all(|stretch| (1.0 - 1e-9..100.0).contains(stretch)), "{stretches:?}");
    }

    #[test]
    fn a_matrix_with_a_value_too_few_is_refused() {
        assert!(Matrix::read("1,2\n3").is_ok());
        assert!(Matrix::read("1\n3").is_err() && Matrix::read("1,x\n3").is_err());
    }
}
