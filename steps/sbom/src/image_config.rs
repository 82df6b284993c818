//! An image's configuration (image-spec v1.1, "Image Configuration"), as far as a document repeats
//! it.

use fairlead_step::Digest;
use jiff::Timestamp;
use serde::Deserialize;

use crate::document::{Description, Subject};
use crate::inventory::Inventory;
use crate::unassessed::{Unassessed, UnassessedKind};

/// The most bytes of an image's configuration.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;

/// The parts of a configuration that a document repeats.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Config {
    created: Option<String>,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
    config: Option<ConfigConfig>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct ConfigConfig {
    #[serde(rename = "Labels")]
    labels: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The digests of the layers as they are unpacked, the lowest first.
    pub(crate) fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }

    /// What the documents say of an image with this configuration, and with `inventory` in it;
    /// `unseen` is what of it did not come.
    pub(crate) fn describe(
        &self,
        manifest: Digest,
        layers: Vec<Digest>,
        mut inventory: Inventory,
        mut unseen: Vec<Unassessed>,
    ) -> Description {
        if let Some(what) = self.other_system() {
            unseen.push(Unassessed { kind: UnassessedKind::Distribution, what });
        }
        inventory.unassessed.append(&mut unseen);
        inventory.unassessed.sort_unstable();
        let created = self.created.as_deref().and_then(|t| t.parse().ok());
        Description {
            manifest,
            subject: Subject::Image,
            platform: self.platform(),
            created: created.unwrap_or(Timestamp::UNIX_EPOCH),
            title: self.label("org.opencontainers.image.title"),
            version: self.label("org.opencontainers.image.version"),
            vendor: self.label("org.opencontainers.image.vendor"),
            base: (
                self.label("org.opencontainers.image.base.name"),
                self.label("org.opencontainers.image.base.digest"),
            ),
            layers,
            inventory,
        }
    }

    fn platform(&self) -> String {
        if self.os.is_empty() || self.architecture.is_empty() {
            return String::new();
        }
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        let slash = if variant.is_some() { "/" } else { "" };
        format!("{}/{}{slash}{}", self.os, self.architecture, variant.unwrap_or_default())
    }

    /// The operating system with its version, when it is one that has none of the databases that
    /// are read, such as Windows.
    fn other_system(&self) -> Option<String> {
        let version = self.os_version.as_ref().filter(|version| !version.is_empty());
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        (!matches!(self.os.as_str(), "" | "linux")).then(|| format!("{}{version}", self.os))
    }

    fn label(&self, name: &str) -> Option<String> {
        let value = self.config.as_ref()?.labels.as_ref()?.get(name)?.as_str()?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }
}
