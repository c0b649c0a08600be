//! How late it was, on disk: a start with a wrong wall clock makes nothing fresh again.
//!
//! Owns the record. Refuses to own trusted time: `rap_trust::TrustedClock` is that.

use std::time::Duration;

use rap_runtime::Fault;
use rap_state::{MembershipDir, Record};
use rap_types::{Mono, Now, Wall};
use serde::{Deserialize, Serialize};

use super::records::Kept;

/// Trusted time when it was written, and the boot clock then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTime {
    /// Trusted time.
    pub trusted: Wall,
    /// Nanoseconds since boot.
    pub boottime_ns: u64,
    /// Kernel boot id.
    pub boot_id: String,
}

impl Record for StoredTime {
    const SCHEMA: &'static str = "rap.time.v1";
}

impl Kept for StoredTime {
    const FILE: &'static str = "time.json";
}

impl StoredTime {
    /// The earliest that it can be now, by what a membership's disk remembers: what was trusted, and what passed since
    /// if the kernel is the same. 0 if it remembers nothing. Blocks.
    ///
    /// # Errors
    /// `state.corrupt` if both copies are damaged, because a stale head could count as fresh again; `state.io` and others of
    /// reading.
    pub fn remembered(dir: &MembershipDir, boot_id: &str, now: Now) -> Result<Wall, Fault> {
        Ok(Self::read(dir)?.map_or(Wall(0), |stored| {
            let same = stored.boot_id == boot_id;
            let passed = if same { now.mono.since(Mono(stored.boottime_ns)) } else { Duration::ZERO };
            stored.trusted.plus(passed)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_state::MembershipName;
    use rap_types::Reason;

    #[test]
    fn time_goes_on_from_what_was_trusted_and_only_the_same_boot_counts_what_passed() {
        let data = tempfile::tempdir().unwrap();
        let dir = MembershipDir::open(data.path(), &MembershipName::new("m").unwrap()).unwrap();
        let at = |seconds: u64| Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(5) };
        let remembered = |boot: &str, seconds| StoredTime::remembered(&dir, boot, at(seconds));
        assert_eq!(remembered("boot", 1), Ok(Wall(0)));
        let stored =
            StoredTime { trusted: Wall(1_000_000), boottime_ns: 10_000_000_000, boot_id: "boot".into() };
        stored.store(&dir).unwrap();
        assert_eq!(remembered("boot", 70), Ok(Wall(1_060_000)));
        assert_eq!(remembered("other boot", 70), Ok(Wall(1_000_000)));
        for name in ["time.json", "time.json.twin"] {
            std::fs::write(dir.join(name), b"{}").unwrap();
        }
        assert_eq!(remembered("boot", 70).unwrap_err().reason, Reason::StateCorrupt);
    }
}
