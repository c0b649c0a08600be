//! How often a data plane was started for a membership, on disk: the first half of the generation of its paths.
//!
//! Owns the record. Refuses to own paths: the data plane signs them.

use rap_state::{MembershipDir, Record, base64_text};
use serde::{Deserialize, Serialize};

use super::records::Kept;

/// The data plane that was there last, and the number of its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaneStarts {
    /// Random id of the process.
    #[serde(with = "base64_text")]
    pub process: Vec<u8>,
    /// Number of its start, from 1.
    pub starts: u32,
}

impl Record for PlaneStarts {
    const SCHEMA: &'static str = "rap.plane-starts.v1";
}

impl Kept for PlaneStarts {
    const FILE: &'static str = "plane-starts.json";
}

impl PlaneStarts {
    /// The number of the start of this process; another process than the last one has the next number. A disk that
    /// fails keeps nothing from the data plane: a number that is used again is too low at hops that remember it, and
    /// they say so. Blocks.
    pub fn of(dir: &MembershipDir, process: &[u8]) -> u32 {
        let last = Self::read(dir).or_else(|error| Self::set_aside(dir, error).map(|()| None));
        let last = last.unwrap_or_else(|error| {
            tracing::warn!(%error, "how often a data plane was started cannot be read");
            None
        });
        if let Some(last) = last.as_ref().filter(|last| last.process == process) {
            return last.starts;
        }
        let starts = last.map_or(0, |last| last.starts).saturating_add(1);
        if let Err(fault) = (Self { process: process.to_vec(), starts }).store(dir) {
            tracing::warn!(reason = %fault.reason, %fault, "the start of the data plane is not on disk");
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_state::MembershipName;

    #[test]
    fn another_process_has_the_next_number_and_the_same_one_keeps_its_own() {
        let data = tempfile::tempdir().unwrap();
        let dir = MembershipDir::open(data.path(), &MembershipName::new("m").unwrap()).unwrap();
        let of = |process: u8| PlaneStarts::of(&dir, &[process; 16]);
        assert_eq!([of(1), of(1), of(2), of(2), of(1)], [1, 1, 2, 2, 3]);
        for name in ["plane-starts.json", "plane-starts.json.twin"] {
            std::fs::write(dir.join(name), b"{}").unwrap();
        }
        assert_eq!(of(5), 1, "what is damaged is moved aside");
    }
}
