//! The two documents: one description of an image, written as SPDX and as CycloneDX.
//!
//! A document depends on the image's digest and on the version of Fairlead, and on nothing else:
//! not on the clock, not on the repository that the image was read from.

mod cyclonedx;
mod license;
mod spdx;

use bytes::Bytes;
use fairlead_step::Digest;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::inventory::Inventory;

/// A format of documents.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// SPDX 2.3, as JSON.
    SpdxJson,
    /// `CycloneDX` 1.6, as JSON.
    CyclonedxJson,
    /// `CycloneDX` 1.7, as JSON, for readers that know it.
    #[serde(rename = "cyclonedx-1.7-json")]
    Cyclonedx17Json,
}

impl Format {
    /// The media type of a document, which is also the artifact type when it is attached.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::SpdxJson => "application/spdx+json",
            Self::CyclonedxJson | Self::Cyclonedx17Json => "application/vnd.cyclonedx+json",
        }
    }

    /// The end of the name of a file in this format.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::SpdxJson => "spdx.json",
            Self::CyclonedxJson => "cdx.json",
            Self::Cyclonedx17Json => "1.7.cdx.json",
        }
    }
}

/// What kind of thing a document describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An image.
    Image,
    /// A folder: a root file system, or a project.
    Folder,
}

/// What a document describes: the image manifest of one platform, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The digest of the image manifest; of an image that an engine saved, that of its
    /// configuration; of a folder, that of what was found in it.
    pub manifest: Digest,
    /// What it is.
    pub subject: Subject,
    /// The operating system and architecture, such as `linux/amd64`; empty where the image's
    /// configuration does not say.
    pub platform: String,
    /// When the image says that it was made.
    pub created: Timestamp,
    /// The name that the image gives itself in the label `org.opencontainers.image.title`.
    pub title: Option<String>,
    /// The version that it gives itself in the label `org.opencontainers.image.version`.
    pub version: Option<String>,
    /// Who distributes it, by the label `org.opencontainers.image.vendor`.
    pub vendor: Option<String>,
    /// The name and the digest of the image that it was made from, by the labels
    /// `org.opencontainers.image.base.name` and `.digest`.
    pub base: (Option<String>, Option<String>),
    /// The digests of the layers, the lowest first.
    pub layers: Vec<Digest>,
    /// The packages.
    pub inventory: Inventory,
}

impl Description {
    /// Writes the document.
    ///
    /// # Errors
    /// Never for the types of this crate; the error is the JSON writer's.
    pub fn write(&self, format: Format) -> Result<Bytes, serde_json::Error> {
        let mut bytes = Vec::with_capacity(4096 + self.inventory.packages.len() * 1024);
        match format {
            Format::SpdxJson => spdx::write(self, &mut bytes)?,
            Format::CyclonedxJson | Format::Cyclonedx17Json => {
                cyclonedx::write(self, format, &mut bytes)?;
            }
        }
        bytes.push(b'\n');
        Ok(bytes.into())
    }

    fn name(&self) -> String {
        self.title.clone().unwrap_or_else(|| self.manifest.to_string())
    }

    /// The time as both formats want it: UTC, whole seconds.
    fn created(&self) -> String {
        self.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn layer(&self, number: usize) -> String {
        self.layers.get(number).map(Digest::to_string).unwrap_or_default()
    }

    /// A UUID of version 8 (RFC 9562, section 5.8) that is the same for the same image, format and
    /// version of Fairlead.
    fn uuid(&self, format: Format) -> String {
        let name =
            format!("{}\n{}\n{}", self.manifest, format.extension(), env!("CARGO_PKG_VERSION"));
        let hash = Sha256::digest(name.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = hex::encode(bytes);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Who made or maintains a package: `NAME <EMAIL>`, as most metadata has it.
struct Supplier {
    name: String,
    email: Option<String>,
}

impl Supplier {
    /// Reads a text of people and addresses; `None` when no name is in it. Of several, the first.
    fn read(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('<').unwrap_or((text, ""));
        let email = rest.split('>').next().unwrap_or_default().trim();
        let is_email = email.contains('@') && !email.contains(char::is_whitespace);
        // Parentheses are where SPDX has the address.
        let clean = |c: char| if c.is_control() || matches!(c, '(' | ')') { ' ' } else { c };
        let name: String = name.chars().take(200).map(clean).collect();
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = name.trim_matches(['"', ',', ' ']).to_owned();
        let name = if name.is_empty() && is_email { email.to_owned() } else { name };
        (!name.is_empty()).then(|| Self { name, email: is_email.then(|| email.to_owned()) })
    }
}

/// What stands before each thing that was seen and not read.
const UNASSESSED: &str = "fairlead:unassessed";

/// What wrote the document.
const TOOL: &str = "fairlead";
