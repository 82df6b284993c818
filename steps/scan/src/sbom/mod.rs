//! Reads a bill of materials, SPDX 2.x as JSON or text, or CycloneDX 1.x as JSON or XML: its
//! packages, and what it says was seen and not read.
//!
//! Bills of other programs are read as well as Fairlead's own. What matching needs beside the
//! package URL (the source package, the operating system, the spelling of a name) stands in other
//! places in each of them.

mod cyclonedx;
mod spdx;
mod tag_value;
#[cfg(test)]
mod tests;
mod xml;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Packages of one bill of materials.
const MAX_PACKAGES: usize = 500_000;
/// Marks of what was seen and not read; more of them are counted.
const MAX_MARKS: usize = 100_000;
/// Characters of a mark that are kept.
const MAX_MARK: usize = 1024;
/// The property of CycloneDX, and the beginning of the comment in SPDX, that names something in
/// the image that was seen and not read: `<kind>:<subject>`.
const UNASSESSED: &str = "fairlead:unassessed";
/// How many more there are that the bill does not name.
const OMITTED: &str = "fairlead:unassessed-omitted";

/// What a bill of materials says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    /// Every package that has a package URL, sorted, each once.
    pub(crate) packages: Vec<Listed>,
    /// The names of packages without a package URL, sorted.
    pub(crate) unnamed: Vec<String>,
    /// What was seen in the image and not read, `<kind>:<subject>`, sorted, each once.
    pub(crate) marks: Vec<String>,
    /// How much more of that there is, unnamed.
    pub(crate) omitted: u64,
    /// The operating system that the bill names, such as `debian` and `12.5`.
    pub(crate) system: Option<System>,
}

/// A package as a bill lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    /// The package URL.
    pub(crate) purl: String,
    /// The name beside it, with its namespace.
    pub(crate) name: Option<String>,
    /// The version beside it.
    pub(crate) version: Option<String>,
    /// The source package, where the bill states it outside of the package URL.
    pub(crate) source: Option<SourcePackage>,
    /// Where it was found.
    pub(crate) found: Vec<Location>,
}

/// A source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourcePackage {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

/// A place in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) path: String,
    /// The package URL of the distribution's package that installed it.
    pub(crate) owner: Option<String>,
}

/// An operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) id: String,
    pub(crate) version: Option<String>,
}

/// Why a document cannot be scanned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SbomError {
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("it is not XML: {0}")]
    Xml(String),
    #[error(
        "it is neither SPDX 2 nor CycloneDX 1 (`spdxVersion`, `bomFormat` or the namespace of \
         CycloneDX is missing)"
    )]
    Unknown,
    #[error("it is {0}, which cannot be read")]
    Version(String),
    #[error("{0}")]
    Malformed(String),
    #[error("it lists more than {MAX_PACKAGES} packages")]
    TooMany,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "spdxVersion")]
    spdx: Option<String>,
    #[serde(rename = "bomFormat")]
    format: Option<String>,
    #[serde(rename = "specVersion")]
    version: Option<String>,
    #[serde(rename = "@context")]
    context: Option<Value>,
}

/// Text that stays where it is in the document.
#[derive(Debug, Default, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a document of either kind, in any of its forms.
pub(crate) fn read(bytes: &[u8]) -> Result<Bill, SbomError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut bill = Bill::default();
    if bytes.trim_ascii_start().first() == Some(&b'<') {
        xml::read(bytes, &mut bill)?;
    } else if let Some(text) =
        std::str::from_utf8(bytes).ok().filter(|text| tag_value::looks_like_one(text))
    {
        tag_value::read(text, &mut bill)?;
    } else {
        read_json(bytes, &mut bill)?;
    }
    bill.settle();
    Ok(bill)
}

fn read_json(bytes: &[u8], bill: &mut Bill) -> Result<(), SbomError> {
    let head: Head =
        parse(bytes).map_err(|error| match serde_json::from_slice::<Value>(bytes) {
            Ok(_) => SbomError::Unknown,
            Err(_) => SbomError::Json(error),
        })?;
    match (head.spdx, head.format, head.context) {
        (Some(version), _, _) if version.starts_with("SPDX-2.") => spdx::read(bytes, bill)?,
        (Some(version), _, _) => return Err(SbomError::Version(cut(&version, 40))),
        (None, Some(format), _) if format == "CycloneDX" => {
            let version = head.version.unwrap_or_default();
            if !version.starts_with("1.") {
                return Err(SbomError::Version(format!("CycloneDX {}", cut(&version, 40))));
            }
            cyclonedx::read(bytes, bill)?;
        }
        (None, _, Some(_)) => return Err(SbomError::Version("SPDX 3 or JSON-LD".to_owned())),
        (None, _, None) => return Err(SbomError::Unknown),
    }
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

/// `null` stands for nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Text<'_> {
    /// The text, when there is any.
    fn some(self) -> Option<String> {
        let trimmed = self.0.trim();
        match trimmed.len() == self.0.len() {
            _ if trimmed.is_empty() => None,
            true => Some(self.0.into_owned()),
            false => Some(trimmed.to_owned()),
        }
    }
}

impl Bill {
    fn add(&mut self, package: Listed) -> Result<(), SbomError> {
        self.packages.push(package);
        self.bounded()
    }

    fn add_unnamed(&mut self, name: Option<Text<'_>>) -> Result<(), SbomError> {
        let name = name.and_then(Text::some).unwrap_or_else(|| "(no name)".to_owned());
        self.unnamed.push(cut(&name, MAX_MARK));
        self.bounded()
    }

    fn bounded(&self) -> Result<(), SbomError> {
        let listed = self.packages.len() + self.unnamed.len();
        if listed > MAX_PACKAGES { Err(SbomError::TooMany) } else { Ok(()) }
    }

    /// Takes a mark, or the number of those that were left out. A number that cannot be read is at
    /// least one: something was left out.
    fn add_mark(&mut self, name: &str, value: &str) {
        let value = value.trim();
        if name == OMITTED {
            self.omitted = self.omitted.saturating_add(value.parse().unwrap_or(1));
        } else if name == UNASSESSED && self.marks.len() >= MAX_MARKS {
            self.omitted = self.omitted.saturating_add(1);
        } else if name == UNASSESSED {
            let mark = if value.is_empty() { "unknown" } else { value };
            self.marks.push(cut(mark, MAX_MARK));
        }
    }

    /// Sorts everything, and joins what is listed several times.
    fn settle(&mut self) {
        self.packages.sort();
        self.packages.dedup_by(|next, held| {
            let same = next.purl == held.purl
                && next.name == held.name
                && next.version == held.version
                && next.source == held.source;
            if same {
                // Of two entries, one that says nothing of its place may be anywhere.
                if held.found.is_empty() != next.found.is_empty() {
                    held.found.push(Location::default());
                }
                held.found.append(&mut next.found);
            }
            same
        });
        for package in &mut self.packages {
            package.found.sort();
            package.found.dedup();
        }
        self.unnamed.sort();
        self.marks.sort();
        self.marks.dedup();
    }
}
