//! The limit of open descriptors.
//!
//! Owns how far a program raises its own soft limit. Refuses to touch the hard limit: the host sets it.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open descriptors to the hard limit, at most to 65,536. A limit that is higher already
/// stays. If the kernel refuses, that is logged and the limit before stays.
pub fn raise_limit() {
    if let Err(error) = raise() {
        tracing::warn!(%error, "the limit of open descriptors was not raised");
    }
}

fn raise() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    match raised(soft, hard) {
        Some(raised) => Ok(setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?),
        None => Ok(()),
    }
}

/// The soft limit to set; `None` if the present one is high enough.
fn raised(soft: u64, hard: u64) -> Option<u64> {
    Some(hard.min(MOST)).filter(|wanted| *wanted > soft)
}

/// Some programs and libraries walk all descriptors that the limit allows.
const MOST: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_rises_to_the_hard_one_and_never_falls() {
        assert_eq!(raised(1024, 4096), Some(4096));
        assert_eq!(raised(1024, u64::MAX), Some(MOST));
        assert_eq!(raised(4096, 4096), None);
        assert_eq!(raised(1 << 20, 1 << 20), None, "a higher one stays");
    }

    #[test]
    fn the_kernel_keeps_the_raised_limit() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(soft >= hard.min(MOST), "{soft} {hard}");
    }
}
