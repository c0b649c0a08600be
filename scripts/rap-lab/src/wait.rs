//! Waiting for a condition. Owns the polling; a condition is a level, not an edge, so a missed moment does not matter.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks again until the answer is there. Errors of the question count as "not yet", and the last one is reported.
pub fn wait_until<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = now();
    let mut pause = Duration::from_millis(10);
    loop {
        let last = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() >= deadline {
            match last {
                Some(error) => bail!("{what}: not within {deadline:?}: {error:#}"),
                None => bail!("{what}: not within {deadline:?}"),
            }
        }
        rest(pause.min(deadline.saturating_sub(started.elapsed())));
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// Start of a measurement or of a deadline; the lab does not outlive a suspend.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

/// Pause between two questions.
#[allow(clippy::disallowed_methods)]
pub(crate) fn rest(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_ends_the_wait() {
        let mut asked = 0;
        let answer = wait_until(Duration::from_secs(60), "third question", || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.expect("answer"), 3);
    }

    #[test]
    fn the_deadline_names_what_was_awaited_and_the_last_error() {
        let error =
            wait_until::<()>(Duration::from_millis(30), "the moon", || bail!("too far")).expect_err("late");
        assert_eq!(error.to_string(), "the moon: not within 30ms: too far");
    }
}
