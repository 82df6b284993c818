//! Where the attempts of a step are made, and how much of a machine each of them may take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the attempts of a step are made: nothing of it is said when the machine does not matter.
///
/// Stored as it stands here, within [`crate::StoredPlan::V3`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Placement {
    /// The pool whose runners may take them; the pool of whoever drives the run when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The labels that a runner must have, each with this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How much one attempt may take.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

impl Placement {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pool.is_none() && self.labels.is_empty() && self.resources.is_empty()
    }
}

/// How much one attempt may take, and what a runner must have left for it. What is not said is for
/// whoever makes the attempt to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Main memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Time of processors, in thousandths of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Processes and threads at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Room on the disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
}

impl Resources {
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.memory.is_none()
            && self.cpu_millis.is_none()
            && self.pids.is_none()
            && self.disk.is_none()
    }
}

/// The form of a quantity of bytes: what [`bytes`] reads.
pub(crate) const BYTES_PATTERN: &str = "^[0-9]+(K|M|G|T|Ki|Mi|Gi|Ti)?$";
/// The form of a share of processors: what [`cpu`] reads.
pub(crate) const CPU_PATTERN: &str = r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$";
/// The form of the name of a pool or of a label, and of the value of a label.
pub(crate) const LABEL_PATTERN: &str = "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$";
/// The most processors that a step may ask for.
const MOST_CPUS: u32 = 1024;

const UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

/// Reads a quantity of bytes: a whole number, alone or with a unit such as `Mi` (of 1,024) or `M` (of
/// 1,000). None is not one: zero, what is malformed, what is too much to count.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1));
    digits(number)?.parse::<u64>().ok()?.checked_mul(size).filter(|bytes| *bytes > 0)
}

/// Reads a share of processors, in thousandths: `2`, `0.5`, `500m`.
pub(crate) fn cpu(text: &str) -> Option<u32> {
    let millis = match (text.strip_suffix('m'), text.split_once('.')) {
        (Some(millis), _) => digits(millis)?.parse().ok()?,
        (None, Some((whole, part))) if part.len() <= 3 => {
            let part = format!("{:0<3}", digits(part)?);
            let whole: u32 = digits(whole)?.parse().ok()?;
            whole.checked_mul(1_000)?.checked_add(part.parse().ok()?)?
        }
        (None, Some(_)) => return None,
        (None, None) => digits(text)?.parse::<u32>().ok()?.checked_mul(1_000)?,
    };
    (1..=MOST_CPUS * 1_000).contains(&millis).then_some(millis)
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// Whether this may be the name of a pool or of a label, or the value of a label.
pub(crate) fn is_label(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn quantities_are_read_as_their_patterns_say() {
        let pattern = Regex::new(BYTES_PATTERN).unwrap();
        for (text, want) in [
            ("1", Some(1)),
            ("512Mi", Some(512 << 20)),
            ("2Gi", Some(2 << 30)),
            ("3G", Some(3_000_000_000)),
            ("10K", Some(10_000)),
            ("1Ti", Some(1 << 40)),
            ("", None),
            ("Mi", None),
            ("1.5Gi", None),
            ("-1", None),
            ("+1", None),
            ("1 Gi", None),
            ("1GiB", None),
            ("1mi", None),
        ] {
            assert_eq!(bytes(text), want, "{text}");
            assert_eq!(pattern.is_match(text), want.is_some(), "{text}");
        }
        assert_eq!((bytes("0"), bytes("99999999999Ti")), (None, None));
        let pattern = Regex::new(CPU_PATTERN).unwrap();
        for (text, want) in [
            ("2", Some(2_000)),
            ("0.5", Some(500)),
            ("1.25", Some(1_250)),
            ("0.001", Some(1)),
            ("500m", Some(500)),
            ("", None),
            ("m", None),
            (".5", None),
            ("1.", None),
            ("0.0001", None),
            ("1.5m", None),
            ("-1", None),
            ("two", None),
        ] {
            assert_eq!(cpu(text), want, "{text}");
            assert_eq!(pattern.is_match(text), want.is_some(), "{text}");
        }
        assert_eq!(
            (cpu("0"), cpu("0.0"), cpu("4000000000"), cpu("1025")),
            (None, None, None, None)
        );
    }

    #[test]
    fn labels_are_read_as_their_pattern_says() {
        let pattern = Regex::new(LABEL_PATTERN).unwrap();
        let long = "a".repeat(63);
        for (text, good) in [
            ("arm64", true),
            ("kubernetes.io/arch", true),
            ("a", true),
            (long.as_str(), true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
            ("a=b", false),
            ("{{ x }}", false),
            ("grün", false),
        ] {
            assert_eq!((is_label(text), pattern.is_match(text)), (good, good), "{text}");
        }
        assert!(!is_label(&"a".repeat(64)));
    }
}
