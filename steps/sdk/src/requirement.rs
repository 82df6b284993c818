//! What an attempt would have of its machine and of what stands around it, for a host that does not
//! give everything to everybody: [`Requirement`]. And how its containers are shut in: [`Confinement`].

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use crate::{Digest, ImageRef, schema_format as format};

/// One thing that an attempt would have, and the place in its input that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The JSON pointer of the place within `with`, such as `/container/network`. Where the place is
    /// empty, it is what the kind has by default.
    pub pointer: String,
    /// What it would have.
    pub what: Required,
}

/// What an attempt would have. Whoever lets attempts be made decides about each, so that a new one is heard of
/// from the compiler; a host of a person's own machine gives all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Required {
    /// To start this program on the host, with the rights of the process itself.
    HostProgram(String),
    /// To start programs of the host that cannot be told beforehand, for this reason.
    AnyHostProgram(String),
    /// To run programs of this image in a container.
    Image(ImageRef),
    /// To attach a container to this network of the engine: `none`, `bridge`, `host`, `container:NAME`, or the
    /// name of one.
    Network(String),
    /// To run a container's program as its root, by the step's own word.
    ContainerRoot,
    /// To give a container this capability of Linux, such as `NET_RAW`.
    LinuxCapability(String),
    /// To read or write this absolute path of the host, outside of the workspace.
    HostPath(PathBuf),
}

impl Requirement {
    /// What the input at `pointer` asks for.
    pub fn at(pointer: impl Into<String>, what: Required) -> Self {
        Self { pointer: pointer.into(), what }
    }
}

impl fmt::Display for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostProgram(program) => write!(f, "the program `{program}` on the host"),
            Self::AnyHostProgram(why) => write!(f, "any program on the host ({why})"),
            Self::Image(image) => write!(f, "a container of {image}"),
            Self::Network(network) => write!(f, "the network `{network}`"),
            Self::ContainerRoot => f.write_str("root in a container"),
            Self::LinuxCapability(name) => write!(f, "the capability `{name}`"),
            Self::HostPath(path) => write!(f, "the path {} of the host", path.display()),
        }
    }
}

/// A number of bytes, as people write it: `512MiB`, `2GiB`, `1500MB`, or plain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// The units of [`ByteSize`], largest first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size: write bytes, or `512MiB`, `2GiB`");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = match unit.trim_start() {
            "" => 1,
            unit => UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, size)| *size)
                .ok_or_else(wrong)?,
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            UNITS[..4].iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size));
        match whole {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl de::Visitor<'_> for Visit {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `512MiB`, or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "pattern": "^[0-9]+ ?([KMGT]iB|[kMGT]B|B)?$", "minimum": 0 })
    }
}

/// How much an attempt may use. What is not given is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Processor time, in thousandths of one processor.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

impl Limits {
    /// The smaller of each of two limits.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            memory: smaller(self.memory, other.memory),
            cpu_millis: smaller(self.cpu_millis, other.cpu_millis),
            pids: smaller(self.pids, other.pids),
        }
    }
}

/// How the containers of an attempt are shut in. The default is that of the engine itself: what a person
/// has on their own machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Confinement {
    /// How much they may use.
    pub limits: Limits,
    /// Whether a program may not come to rights that its starter does not have, and a container has no
    /// capability of Linux but those that are given back.
    pub restricted: bool,
    /// The capabilities that every container has all the same.
    pub capabilities: Vec<String>,
    /// The user of a container whose step and image name none.
    pub user: Option<String>,
    /// Whether the file system of the image cannot be written to.
    pub read_only: bool,
}

/// What stands for a leaf of an input that is not known before the run.
const UNKNOWN: &str = "unknown";

/// An input in which null stands for what is not known yet, with something that has the type of the schema
/// in each such place, and the pointers of those places. Whether it fits is for the kind to say.
pub(crate) fn guess(with: &Value, schema: &Value) -> (Value, Vec<String>) {
    let mut unknown = Vec::new();
    let guessed = guess_at(with, schema, schema, "", &mut unknown);
    (guessed, unknown)
}

fn guess_at(
    value: &Value,
    schema: &Value,
    root: &Value,
    pointer: &str,
    unknown: &mut Vec<String>,
) -> Value {
    let schema = shape(schema, root, value);
    match value {
        Value::Null => {
            unknown.push(pointer.to_owned());
            stand_in(schema)
        }
        Value::Array(items) => {
            let of = schema.get("items").unwrap_or(&Value::Null);
            let guessed = items.iter().enumerate().map(|(index, item)| {
                guess_at(item, of, root, &format!("{pointer}/{index}"), unknown)
            });
            guessed.collect()
        }
        Value::Object(fields) => {
            let mut guessed = Map::new();
            for (name, field) in fields {
                let known = schema.get("properties").and_then(|known| known.get(name));
                let of = known.or_else(|| schema.get("additionalProperties"));
                let escaped = name.replace('~', "~0").replace('/', "~1");
                let at = format!("{pointer}/{escaped}");
                let field = guess_at(field, of.unwrap_or(&Value::Null), root, &at, unknown);
                guessed.insert(name.clone(), field);
            }
            Value::Object(guessed)
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The schema itself, or the alternative that `value` could be.
fn shape<'s>(schema: &'s Value, root: &'s Value, value: &Value) -> &'s Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    let schema = target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema);
    let list = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    let Some(list) = list else { return schema };
    let wanted = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => "",
    };
    let not_null = |part: &&Value| part.get("type").and_then(Value::as_str) != Some("null");
    let fits = |part: &&Value| wanted.is_empty() || has_type(part, wanted);
    list.iter().filter(not_null).find(fits).unwrap_or(schema)
}

fn has_type(schema: &Value, wanted: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(many)) => many.iter().any(|one| one == wanted),
        Some(_) | None => false,
    }
}

fn stand_in(schema: &Value) -> Value {
    let digest = || Digest::sha256(UNKNOWN.as_bytes()).to_string();
    let image = || format!("{UNKNOWN}.invalid/{UNKNOWN}@{}", digest());
    match schema.get("format").and_then(Value::as_str) {
        Some(format::DIGEST) => return digest().into(),
        Some(format::IMAGE | format::IMAGE_REF) => return image().into(),
        Some(format::REPOSITORY) => return format!("{UNKNOWN}.invalid/{UNKNOWN}").into(),
        Some(format::DURATION) => return "1s".into(),
        Some(format::ARTIFACT) => {
            return serde_json::json!({
                "name": UNKNOWN, "media_type": "text/plain", "digest": digest(), "size": 0,
            });
        }
        Some(_) | None => {}
    }
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|all| all.first()) {
        return first.clone();
    }
    if has_type(schema, "null") {
        Value::Null
    } else if has_type(schema, "string") {
        UNKNOWN.into()
    } else if has_type(schema, "integer") || has_type(schema, "number") {
        schema.get("minimum").cloned().unwrap_or_else(|| 1.into())
    } else if has_type(schema, "boolean") {
        false.into()
    } else if has_type(schema, "array") {
        Value::Array(Vec::new())
    } else if has_type(schema, "object") {
        Value::Object(Map::new())
    } else {
        Value::Null
    }
}

/// Whether what stands at `pointer` is, or is in, what is not known.
pub(crate) fn is_within(pointer: &str, unknown: &[String]) -> bool {
    unknown.iter().any(|place| {
        pointer
            .strip_prefix(place.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes, shown) in [
            ("512MiB", 512 << 20, "512MiB"),
            ("2 GiB", 2 << 30, "2GiB"),
            ("1500MB", 1_500_000_000, "1500000000B"),
            ("1024", 1024, "1KiB"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5GiB", "1Gi", "99999999999TiB", "1 XB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::from_value::<ByteSize>(json!(7)).unwrap(), ByteSize(7));
        assert!(serde_json::from_value::<ByteSize>(json!(-7)).is_err());
    }

    #[test]
    fn the_smaller_limit_holds() {
        let one = Limits { memory: Some(ByteSize(8)), cpu_millis: None, pids: Some(3) };
        let other = Limits { memory: Some(ByteSize(4)), cpu_millis: Some(500), pids: Some(9) };
        let both = Limits { memory: Some(ByteSize(4)), cpu_millis: Some(500), pids: Some(3) };
        assert_eq!((one.and(other), other.and(one)), (both, both));
    }

    #[test]
    fn what_is_not_known_is_guessed_by_its_type_and_its_place_is_told() {
        let schema = json!({ "type": "object", "properties": {
            "args": { "type": "array", "items": { "type": "string" } },
            "image": { "type": "string", "format": "image" },
            "env": { "type": "object", "additionalProperties": { "type": "string" } },
            "box": { "anyOf": [
                { "type": "object", "properties": { "network": { "type": ["string", "null"] } } },
                { "type": "null" },
            ] },
        } });
        let with = json!({ "args": ["a", null], "image": null, "env": { "A/B": null },
                           "box": { "network": null }, "n": 1 });
        let (guessed, unknown) = guess(&with, &schema);
        assert_eq!(unknown, ["/args/1", "/box/network", "/env/A~1B", "/image"]);
        assert_eq!(guessed["args"], json!(["a", "unknown"]));
        assert!(guessed["image"].as_str().unwrap().parse::<crate::Image>().is_ok());
        assert_eq!(guessed["box"]["network"], Value::Null);
        assert!(is_within("/box/network", &unknown) && is_within("/image/x", &unknown));
        assert!(!is_within("/args/10", &unknown) && !is_within("", &unknown));
        assert_eq!(guess(&json!({ "box": null }), &schema).1, ["/box"]);
    }
}
