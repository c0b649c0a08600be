//! Pings between nodes over the overlay: a few that are counted, or many while something else happens. With a TUN device the host's
//! own `ping` goes through it; without one the data plane pings.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::{CALL, Node, SETTLE};
use crate::command::Invocation;
use crate::lab::Lab;
use crate::wait::{now, wait_until};

/// What came back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pings {
    /// How many were sent.
    pub sent: usize,
    /// Round trips of those that were answered, milliseconds.
    pub answered: Vec<f64>,
}

impl Pings {
    /// Share without an answer, 0 to 1; nothing sent is all lost.
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    /// How many had no answer.
    pub fn lost(&self) -> usize {
        self.sent.saturating_sub(self.answered.len())
    }

    /// Median round trip, milliseconds.
    pub fn median_ms(&self) -> Option<f64> {
        let mut sorted = self.answered.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// Pings that the data plane of `from` makes.
    fn of_agent(from: &Node, to: &str, count: usize) -> Result<Self> {
        let line =
            format!("rap-node-agent --membership default ping {to} --count {count} --interval 50 --json");
        // An unanswered ping exits 6 and still says what was sent.
        let answer = from.host().run(&Invocation::typed(&line)?, CALL)?;
        let document = answer.json().or_else(|_| answer.clone().success()?.json())?;
        let samples = document["overlay"]["samples"].as_array().context("no overlay samples")?;
        let answered = samples.iter().filter_map(|sample| sample["rtt_ms"].as_f64()).collect();
        Ok(Self { sent: samples.len(), answered })
    }

    /// Pings that the host of `from` makes.
    pub fn of_host(from: &Node, address: &str, count: usize) -> Result<Self> {
        let line = format!("ping -n -O -i 0.05 -W 1 -c {count} {address}");
        let answer = from.host().run(&Invocation::typed(&line)?, CALL)?;
        Ok(Self::read(&answer.stdout, Some(count)))
    }

    /// Reads what `ping -n -O` printed; of the first `count` pings, or of as many as it numbered.
    pub fn read(text: &str, count: Option<usize>) -> Self {
        let mut times = BTreeMap::new();
        let mut highest = 0;
        for line in text.lines() {
            let Some(number) = field(line, "icmp_seq=").and_then(|number| number.parse::<usize>().ok())
            else {
                continue;
            };
            highest = highest.max(number);
            if let Some(time) = field(line, "time=").and_then(|time| time.parse::<f64>().ok()) {
                times.entry(number).or_insert(time);
            }
        }
        let sent = count.unwrap_or(highest);
        Self { sent, answered: times.range(..=sent).map(|(_, time)| *time).collect() }
    }
}

impl Node {
    /// Pings another node over the overlay.
    pub fn ping(&self, other: &Self, count: usize) -> Result<Pings> {
        if self.has_tun() {
            Pings::of_host(self, &other.overlay_address(self)?, count)
        } else {
            Pings::of_agent(self, other.name(), count)
        }
    }

    /// Waits for the first answer; returns how long that took.
    pub fn wait_answer(&self, other: &Self) -> Result<Duration> {
        let started = now();
        wait_until(SETTLE, &format!("{} hears {} over the overlay", self.name(), other.name()), || {
            Ok((!self.ping(other, 1)?.answered.is_empty()).then_some(()))
        })?;
        Ok(started.elapsed())
    }

    /// Pings another node until the watch is ended.
    pub fn watch(&self, lab: &Lab, other: &Self) -> Result<Watch> {
        let watch = if self.has_tun() {
            let name = format!("ping-{}-{}-{}", self.name(), other.name(), rand::random::<u16>());
            let line = format!("ping -n -O -i 0.05 -W 1 {}", other.overlay_address(self)?);
            self.host().spawn(&name, &Invocation::typed(&line)?)?;
            Watch::Host(lab.part(&name)?)
        } else {
            Watch::Agent(AgentWatch::start(self.clone(), other.name().to_owned()))
        };
        wait_until(SETTLE, "the first answer", || Ok((!watch.pings().answered.is_empty()).then_some(())))?;
        Ok(watch)
    }
}

/// Pings that go on.
#[derive(Debug)]
pub enum Watch {
    /// The host's own.
    Host(crate::part::Part),
    /// The data plane's.
    Agent(AgentWatch),
}

impl Watch {
    /// What came back so far.
    pub fn pings(&self) -> Pings {
        match self {
            Self::Host(part) => Pings::read(&part.log(), None),
            Self::Agent(watch) => watch.pings.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Waits until this many more were answered: what happened before them is counted.
    pub fn wait_answers(&self, more: usize) -> Result<()> {
        let wanted = self.pings().answered.len() + more;
        wait_until(SETTLE, "pings are answered", || Ok((self.pings().answered.len() >= wanted).then_some(())))
    }

    /// Ends it.
    pub fn end(self) -> Result<Pings> {
        match self {
            Self::Host(part) => {
                // The newest ones may still be under way.
                let sent = Pings::read(&part.log(), None).sent;
                let counted = || Pings::read(&part.log(), Some(sent));
                let all = wait_until(LATE, "the last answers", || Ok((counted().lost() == 0).then_some(())));
                drop(all);
                part.kill()?;
                Ok(counted())
            }
            Self::Agent(watch) => watch.end(),
        }
    }
}

/// A thread that asks the agent for pings, a batch at a time.
#[derive(Debug)]
pub struct AgentWatch {
    pings: Arc<Mutex<Pings>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl AgentWatch {
    fn start(from: Node, to: String) -> Self {
        let (pings, stop) = (Arc::new(Mutex::new(Pings::default())), Arc::new(AtomicBool::new(false)));
        let (sum, stopping) = (pings.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::SeqCst) {
                // A batch that could not be asked for counts as lost as a whole.
                let batch =
                    Pings::of_agent(&from, &to, BATCH).unwrap_or(Pings { sent: BATCH, answered: Vec::new() });
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                sum.sent += batch.sent;
                sum.answered.extend(batch.answered);
            }
        });
        Self { pings, stop, thread }
    }

    fn end(self) -> Result<Pings> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("panic while pinging"))?;
        Ok(self.pings.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split_whitespace().next()
}

/// An answer that comes later than this is none.
const LATE: Duration = Duration::from_secs(2);
const BATCH: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "PING 100.96.0.2 (100.96.0.2) 56(84) bytes of data.
64 bytes from 100.96.0.2: icmp_seq=1 ttl=64 time=0.610 ms
no answer yet for icmp_seq=2
64 bytes from 100.96.0.2: icmp_seq=3 ttl=64 time=0.210 ms
64 bytes from 100.96.0.2: icmp_seq=2 ttl=64 time=70.4 ms
64 bytes from 100.96.0.2: icmp_seq=3 ttl=64 time=0.210 ms (DUP!)
no answer yet for icmp_seq=4
";

    #[test]
    fn a_late_answer_is_one_and_a_second_answer_is_none() {
        let pings = Pings::read(TEXT, None);
        assert_eq!((pings.sent, pings.lost()), (4, 1));
        assert_eq!(pings.median_ms(), Some(0.61));
        assert_eq!(Pings::read(TEXT, Some(3)).loss(), 0.0);
        assert_eq!(Pings::read(TEXT, Some(10)).lost(), 7);
    }

    #[test]
    fn nothing_sent_is_all_lost() {
        assert_eq!(Pings::read("ping: connect: Network is unreachable", None).loss(), 1.0);
    }
}
