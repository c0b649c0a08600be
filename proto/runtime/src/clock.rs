//! The one place where a clock is read. Owns `Now` and the boot id; refuses to own deadlines.

use std::io;
use std::time::Duration;

use nix::time::ClockId;
use rap_types::{Mono, Now, Wall};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// The machine's clocks. Cheap to clone; every clone reads the same clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock(());

impl Clock {
    /// The machine's clocks.
    pub const fn new() -> Self {
        Self(())
    }

    /// Both clocks: nanoseconds since boot (suspend included) and Unix milliseconds.
    pub fn now(&self) -> Now {
        Now { mono: mono(), wall: wall() }
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.now().wall.0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// The kernel's boot id: another value after every boot.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

fn mono() -> Mono {
    let time = read(ClockId::CLOCK_BOOTTIME);
    Mono(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn wall() -> Wall {
    let time = read(ClockId::CLOCK_REALTIME);
    let wall = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Wall(wall.saturating_add(offset()))
}

/// Zero when the kernel lacks the clock, which no supported kernel does (Linux 2.6.39 and later).
fn read(clock: ClockId) -> Duration {
    nix::time::clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

#[cfg(not(all(feature = "test-hooks", debug_assertions)))]
fn offset() -> i64 {
    0
}

/// Milliseconds to add to the wall clock, from the file that the environment names. Never in a release build, whatever its features.
#[cfg(all(feature = "test-hooks", debug_assertions))]
fn offset() -> i64 {
    std::env::var_os(WALL_OFFSET_FILE).map_or(0, |path| offset_in(path.as_ref()))
}

#[cfg(all(feature = "test-hooks", debug_assertions))]
fn offset_in(path: &std::path::Path) -> i64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Environment variable that names the file with the offset of the wall clock, in milliseconds. Only debug builds read it.
#[cfg(feature = "test-hooks")]
pub const WALL_OFFSET_FILE: &str = "RAP_TEST_WALL_OFFSET_FILE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_never_goes_back() {
        let clock = Clock::new();
        let first = clock.now().mono;
        let second = clock.now().mono;
        assert!(first.0 > 0);
        assert!(second >= first);
    }

    #[test]
    fn tls_sees_the_same_wall_clock() {
        let clock = Clock::new();
        let before = clock.now().wall.0 / 1000;
        let tls = clock.current_time().unwrap().as_secs();
        let after = clock.now().wall.0 / 1000;
        let tls = i64::try_from(tls).unwrap();
        assert!((before..=after).contains(&tls), "{before} {tls} {after}");
    }

    #[test]
    fn boot_id_is_stable_within_a_boot() {
        let id = boot_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id, boot_id().unwrap());
    }

    /// The step of the test command that builds this without debug assertions names a file that would set the clock back.
    #[cfg(all(feature = "test-hooks", not(debug_assertions)))]
    #[test]
    fn a_release_build_reads_no_wall_offset() {
        let file = std::env::var_os("RAP_TEST_WALL_OFFSET_FILE").expect("the step names a file");
        let offset: i64 = std::fs::read_to_string(file).expect("the file").trim().parse().expect("a number");
        let real = i64::try_from(read(ClockId::CLOCK_REALTIME).as_millis()).expect("milliseconds");
        assert!(offset.abs() > 3_600_000);
        assert!((Clock::new().now().wall.0 - real).abs() < 60_000);
    }

    #[cfg(all(feature = "test-hooks", debug_assertions))]
    #[test]
    fn wall_offset_is_read_at_each_call_and_nonsense_is_zero() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, offset) in [("-90000\n", -90_000), ("60000", 60_000), ("soon", 0)] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(offset_in(file.path()), offset);
        }
    }
}
