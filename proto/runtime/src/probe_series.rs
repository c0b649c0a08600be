//! Round trips of a few probes, as programs show them.
//!
//! Owns counting, the median and the part of a `rap.ping.v1` document. Refuses to own texts.

use serde_json::{Value, json};

/// The probes of one way to a peer.
#[derive(Debug, Clone)]
pub struct ProbeSeries {
    /// Sequence number and round trip in nanoseconds of each probe; 0 = it was lost.
    probes: Vec<(u32, u64)>,
    answered: Vec<u64>,
}

impl ProbeSeries {
    /// Of sequence numbers and round trips in nanoseconds; a round trip of 0 means that the probe was lost.
    pub fn of(probes: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let probes: Vec<(u32, u64)> = probes.into_iter().collect();
        let mut answered: Vec<u64> = probes.iter().map(|(_, rtt)| *rtt).filter(|rtt| *rtt > 0).collect();
        answered.sort_unstable();
        Self { probes, answered }
    }

    /// Probes in all.
    pub fn sent(&self) -> usize {
        self.probes.len()
    }

    /// Probes without an answer.
    pub fn lost(&self) -> usize {
        self.probes.len() - self.answered.len()
    }

    /// Shortest, median and longest round trip, milliseconds; nothing if no probe was answered.
    pub fn spread_ms(&self) -> Option<[f64; 3]> {
        let (lowest, highest) = self.answered.first().zip(self.answered.last())?;
        let median = self.answered.get(self.answered.len() / 2)?;
        Some([*lowest, *median, *highest].map(milliseconds))
    }

    /// `{ sent, lost, loss, rtt_ms_min, rtt_ms_median, rtt_ms_max, samples }`: loss 0 to 1; null for what is not known.
    pub fn document(&self) -> Value {
        let (sent, lost) = (self.sent(), self.lost());
        let [lowest, median, highest] = self.spread_ms().map_or([None; 3], |spread| spread.map(Some));
        let sample = |(sequence, rtt): &(u32, u64)| json!({ "sequence": sequence, "rtt_ms": (*rtt > 0).then(|| milliseconds(*rtt)) });
        json!({
            "sent": sent, "lost": lost, "loss": (sent > 0).then(|| lost as f64 / sent as f64),
            "rtt_ms_min": lowest, "rtt_ms_median": median, "rtt_ms_max": highest,
            "samples": self.probes.iter().map(sample).collect::<Value>(),
        })
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_probes_count_as_sent_and_have_no_round_trip() {
        let series = ProbeSeries::of([(1, 3_000_000), (2, 0), (3, 1_000_000), (4, 2_000_000)]);
        assert_eq!((series.sent(), series.lost()), (4, 1));
        assert_eq!(series.spread_ms(), Some([1.0, 2.0, 3.0]));
        let document = series.document();
        assert_eq!((&document["loss"], &document["rtt_ms_median"]), (&0.25.into(), &2.0.into()));
        assert_eq!((&document["rtt_ms_min"], &document["rtt_ms_max"]), (&1.0.into(), &3.0.into()));
        assert_eq!(document["samples"][1], json!({ "sequence": 2, "rtt_ms": null }));
        let none = ProbeSeries::of([]).document();
        assert_eq!(
            (&none["loss"], &none["rtt_ms_median"], &none["sent"]),
            (&Value::Null, &Value::Null, &0.into())
        );
    }
}
