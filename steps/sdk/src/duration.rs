//! Durations as people write them: `250ms`, `30s`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration written as numbers with units: `d`, `h`, `m`, `s`, `ms`, largest first, none twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(pub Duration);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: {problem}")]
pub struct DurationError {
    text: String,
    problem: &'static str,
}

impl HumanDuration {
    /// The time that lies this long behind `at`; the last one there is where it would lie behind that.
    #[must_use]
    pub fn after(self, at: Timestamp) -> Timestamp {
        let by = SignedDuration::try_from(self.0).ok();
        by.and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
    }
}

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let fail = |problem| Err(DurationError { text: text.chars().take(40).collect(), problem });
        let mut rest = text;
        let mut total: u64 = 0;
        let mut next_unit = 0;
        if rest.is_empty() {
            return fail("it is empty; write `30s`, `5m` or `1h30m`");
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let Ok(count) = rest[..digits].parse::<u64>() else {
                return fail("write whole numbers with units, as in `30s`, `5m` or `1h30m`");
            };
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let Some(unit) = UNITS.iter().position(|(name, _)| *name == &rest[..letters]) else {
                return fail("the units are d, h, m, s and ms");
            };
            if unit < next_unit {
                return fail("units stand largest first, each at most once");
            }
            next_unit = unit + 1;
            rest = &rest[letters..];
            let Some(sum) = count.checked_mul(UNITS[unit].1).and_then(|ms| total.checked_add(ms))
            else {
                return fail("it is too long to count in milliseconds");
            };
            total = sum;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{name}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": crate::schema_format::DURATION,
            "pattern": r"^(\d+(d|h|m|s|ms))+$",
            "description": "A duration such as `250ms`, `30s` or `1h30m`.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["250ms", "30s", "1h30m", "2d", "1m1s1ms"] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), text);
        }
        for bad in ["", "30", "s", "1s1m", "1s1s", "1y", "-1s", "99999999999999999999s"] {
            assert!(bad.parse::<HumanDuration>().is_err(), "{bad}");
        }
    }
}
