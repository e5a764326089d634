//! Durations as people write them: `90s`, `15m`, `24h`, `7d`.

use std::time::Duration;

/// Why a duration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number followed by a unit.
    #[error(
        "{0:?} is not a duration: write a whole number and a unit, such as 90s, 15m, 24h or 7d"
    )]
    Syntax(String),
    /// A unit that is not known.
    #[error("{0:?} has an unknown unit: use s, m, h or d")]
    Unit(String),
    /// Less than a second.
    #[error("a duration is at least 1s")]
    TooShort,
    /// More than is allowed.
    #[error("a duration is at most {0}")]
    TooLong(String),
}

/// Reads a duration of 1 second to `max`.
pub fn parse_duration(text: &str, max: Duration) -> Result<Duration, DurationError> {
    let shown = || text.chars().take(40).collect::<String>();
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(|| DurationError::Syntax(shown()))?;
    let (digits, unit) = text.split_at(split);
    if digits.is_empty() {
        return Err(DurationError::Syntax(shown()));
    }
    let seconds_per_unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(DurationError::Unit(shown())),
    };
    let seconds = digits
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(seconds_per_unit))
        .ok_or_else(|| DurationError::TooLong(format_duration(max)))?;
    match seconds {
        0 => Err(DurationError::TooShort),
        s if s > max.as_secs() => Err(DurationError::TooLong(format_duration(max))),
        s => Ok(Duration::from_secs(s)),
    }
}

/// Writes a duration in the largest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds != 0 && seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("90s", YEAR), Ok(Duration::from_secs(90)));
        assert_eq!(
            parse_duration("7d", YEAR),
            Ok(Duration::from_secs(7 * 86_400))
        );
        assert_eq!(parse_duration("0s", YEAR), Err(DurationError::TooShort));
        for bad in ["", "0", "-1", "banana", "s", "1", "1.5h", " 1s", "1s "] {
            assert!(parse_duration(bad, YEAR).is_err(), "{bad:?} was taken");
        }
        assert_eq!(
            parse_duration("10y", YEAR),
            Err(DurationError::Unit("10y".into()))
        );
        assert_eq!(
            parse_duration("366d", YEAR),
            Err(DurationError::TooLong("365d".into()))
        );
        assert!(parse_duration("99999999999999999999d", YEAR).is_err());
    }

    #[test]
    fn durations_are_written_in_their_largest_unit() {
        assert_eq!(format_duration(Duration::from_secs(7_200)), "2h");
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
    }
}
