//! Durations as people write them: `10s`, `500ms`, `1h 30m`; a bare number counts seconds.
//!
//! Room  pure.

use std::ops::RangeInclusive;
use std::time::Duration;

/// From a millisecond to a year: for a duration that has no narrower sense.
pub const ANY_DURATION: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(365 * 24 * 3600);

/// The duration, or what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(u64::from(seconds)));
    }
    humantime::parse_duration(text).map_err(|_| {
        format!("{text:?} is not a duration; write a number with its unit, such as \"10s\", \"500ms\" or \"5m\"")
    })
}

/// What is wrong when a duration lies outside its range.
pub(super) fn check(value: Duration, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "{} is out of range; allowed is {} to {}",
        write(value),
        write(*range.start()),
        write(*range.end())
    ))
}

/// A duration as a configuration would write it.
pub fn write(value: Duration) -> String {
    if value.is_zero() {
        return "0s".to_owned();
    }
    humantime::format_duration(value).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{check, parse, write};

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("10s", 10_000),
            ("500ms", 500),
            (" 5m ", 300_000),
            ("1h 30m", 5_400_000),
            ("7", 7_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "ten seconds",
            "10 parsecs",
            "-1s",
            "1.5.2s",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_out_of_range_names_the_range() {
        let range = Duration::from_secs(1)..=Duration::from_secs(3600);
        let refused = check(Duration::ZERO, &range);
        assert_eq!(
            refused,
            Err("0s is out of range; allowed is 1s to 1h".to_owned())
        );
        assert_eq!(write(Duration::from_millis(1500)), "1s 500ms");
    }
}
