//! A stream and a sequence between two nodes while something happens to the network: what an application notices of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Arrived, Node, Sequence, Stream, wait_arrivals};
use crate::wait::rest;

/// What was noticed.
#[derive(Debug, Clone)]
pub struct Noticed {
    bytes: u64,
    arrived: Arrived,
    silence: [Duration; 2],
}

/// Opens both, does something, waits until that has its effect, and undoes it, on the same sockets from the first byte to the last.
pub fn under_traffic(
    [from, to]: [&Node; 2],
    act: impl FnOnce() -> Result<()>,
    effect: impl FnOnce() -> Result<()>,
    undo: impl FnOnce() -> Result<()>,
) -> Result<Noticed> {
    let (stream, sequence) = (Stream::open(from, to)?, Sequence::open(from, to)?);
    wait_arrivals(&stream, &sequence)?;
    rest(Duration::from_secs(2));
    stream.longest_silence();
    sequence.longest_silence();
    act()?;
    let effect = effect();
    rest(Duration::from_secs(2));
    let silence = [stream.longest_silence(), sequence.longest_silence()];
    let undone = undo();
    let (bytes, arrived) = (stream.end(), sequence.end());
    undone?;
    effect?;
    Ok(Noticed { bytes: bytes?, arrived: arrived?, silence })
}

impl Noticed {
    /// The figures.
    pub fn value(&self) -> Value {
        json!({
            "bytes": self.bytes, "datagrams": self.arrived.sent, "lost": self.arrived.lost,
            "reordered": self.arrived.reordered, "duplicates": self.arrived.duplicates,
            "stream_silence_ms": self.silence[0].as_millis() as u64,
            "sequence_silence_ms": self.silence[1].as_millis() as u64,
        })
    }

    /// Fails if it was silent for longer, if a datagram came twice, or if more was lost than was sent in the silence.
    pub fn within(&self, bar: Duration) -> Result<()> {
        let value = self.value();
        ensure!(
            self.silence.iter().all(|silence| *silence <= bar),
            "silent for longer than {bar:?}: {value}"
        );
        ensure!(self.arrived.duplicates == 0, "datagrams came twice: {value}");
        // 1,000 each second: what is lost was sent during the silence.
        let silent = self.silence[1].as_millis() as u64;
        ensure!(
            self.arrived.lost <= silent + SPARE,
            "more was lost than was sent during the silence: {value}"
        );
        Ok(())
    }
}

/// Datagrams that a busy machine loses at other times.
const SPARE: u64 = 100;
