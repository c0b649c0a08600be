//! Many seeds, each with a world of its own, on as many threads as there are cores.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Map, Value, json};

use crate::events::Counts;
use crate::world::World;

/// What all seeds together saw.
pub struct Outcome {
    pub counts: Counts,
    /// Seeds that broke a rule.
    pub failed: Vec<u64>,
    seeds: u64,
    took: Duration,
    threads: usize,
}

/// Runs the seeds and tells of each in their order: the sum over all that happened, or the rule that did not hold.
pub fn run(
    seeds: RangeInclusive<u64>,
    nodes: u32,
    length: Duration,
    mut tell: impl FnMut(u64, &Result<u64>),
) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (began, next, last) = (now(), AtomicU64::new(*seeds.start()), *seeds.end());
    let (done, results) = mpsc::sync_channel(threads);
    let (mut counts, mut failed) = (Counts::default(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || done.send((seed, one(seed, nodes, length))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut early = std::collections::BTreeMap::new();
        let mut expected = *seeds.start();
        for (seed, ran) in results {
            early.insert(seed, ran);
            while let Some((saw, ran)) = early.remove(&expected) {
                counts.merge(&saw);
                if ran.is_err() {
                    failed.push(expected);
                }
                tell(expected, &ran);
                expected += 1;
            }
        }
    });
    Outcome { counts, failed, seeds: last - *seeds.start() + 1, took: began.elapsed(), threads }
}

fn one(seed: u64, nodes: u32, length: Duration) -> (Counts, Result<u64>) {
    let mut counts = Counts::default();
    // A panic of a core is a rule that did not hold, and names its seed too.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, nodes)?;
        world.run(length, &mut counts)?;
        Ok(world.fabric.trail.sum())
    }));
    let ran = ran.unwrap_or_else(|_| Err(anyhow!("panicked")));
    (counts, ran)
}

/// How long a run takes is measured; nothing in it depends on that.
#[expect(clippy::disallowed_methods, reason = "the run itself has a simulated clock")]
fn now() -> Instant {
    Instant::now()
}

impl Outcome {
    /// Writes the report.
    pub fn write(&self, file: &Path, nodes: u32, minutes: u64) -> Result<()> {
        let events: Map<String, Value> =
            self.counts.all().map(|(name, count)| (name, count.into())).collect();
        let report = json!({
            "schema": "rap.sim.v1", "name": "fabric", "ok": self.failed.is_empty() && self.counts.never().is_empty(),
            "seeds": self.seeds, "nodes": nodes, "simulated_minutes": minutes, "failed_seeds": self.failed,
            "seconds": (self.took.as_secs_f64() * 10.0).round() / 10.0, "threads": self.threads,
            "profile": if cfg!(debug_assertions) { "debug" } else { "optimised" },
            "never": self.counts.never(), "events": events,
        });
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(std::fs::write(file, serde_json::to_string_pretty(&report)? + "\n")?)
    }
}
