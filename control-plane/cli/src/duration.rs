//! Durations as people type them: `500ms`, `30s`, `15m`, `1h`, `7d`.

use std::time::Duration;

/// Reads a whole number with a unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a duration is a number with ms, s, m, h or d, for example 1h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "not a number".to_owned())?;
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or("too long".into())
}

/// The same, and more than none.
pub(crate) fn parse_some_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).and_then(|some| if some.is_zero() { Err("more than 0".into()) } else { Ok(some) })
}

/// Whole milliseconds for a request, at most `u64::MAX`.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a duration with its largest whole unit.
pub(crate) fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.iter().find(|(size, _)| milliseconds >= *size && milliseconds.is_multiple_of(*size));
    whole.map_or_else(|| format!("{milliseconds}ms"), |(size, unit)| format!("{}{unit}", milliseconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_and_nonsense_is_refused() {
        for text in ["500ms", "30s", "15m", "1h", "7d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["", "1", "h", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_some_duration("0s"), Err("more than 0".to_owned()));
        assert_eq!(parse_some_duration("1ms"), Ok(Duration::from_millis(1)));
    }
}
