//! Packages of conda: `conda-meta/NAME-VERSION-BUILD.json`, one for each.

use serde::Deserialize;

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::{Ecosystem, FileHash};
use crate::unassessed::UnassessedKind;

/// Reads what conda wrote of each package.
pub(super) struct Conda;

impl Cataloger for Conda {
    fn name(&self) -> &'static str {
        "conda"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.folder_is("conda-meta") && place.has_extension(&["json"])
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        package(&content.whole()?).map(|entry| Some(entry.into()))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::Conda
    }
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    version: String,
    /// Older tools wrote it under another name.
    #[serde(alias = "build_string")]
    build: Option<String>,
    channel: Option<String>,
    subdir: Option<String>,
    license: Option<String>,
    sha256: Option<String>,
    #[serde(rename = "fn")]
    file: Option<String>,
}

fn package(json: &[u8]) -> Result<Entry, Unreadable> {
    let meta: Meta = serde_json::from_slice(json)
        .map_err(|error| Unreadable::Lost(format!("it is no record of conda's: {error}")))?;
    if meta.name.is_empty() || meta.version.is_empty() {
        return Err(Unreadable::lost("it names no package or no version"));
    }
    // `https://host/channel/subdir` is that channel, wherever its mirror is.
    let channel = meta.channel.map(|channel| {
        let subdir = meta.subdir.as_deref().unwrap_or_default();
        let channel = channel.trim_end_matches('/');
        let channel = channel.strip_suffix(subdir).unwrap_or(channel).trim_end_matches('/');
        channel.rsplit('/').next().unwrap_or_default().to_owned()
    });
    let ty = meta.file.as_deref().and_then(|file| {
        ["conda", "tar.bz2"].into_iter().find(|ty| file.ends_with(&format!(".{ty}")))
    });
    let qualifiers = [
        ("build", meta.build),
        ("channel", channel),
        ("subdir", meta.subdir),
        ("type", ty.map(str::to_owned)),
    ];
    let hash =
        meta.sha256.filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(Entry {
        license: meta.license.filter(|license| !license.is_empty()),
        qualifiers: qualifiers.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        hashes: hash
            .map(|hash| FileHash { algorithm: "SHA-256", hex: hash.to_ascii_lowercase() })
            .into_iter()
            .collect(),
        ..Entry::new(Ecosystem::Conda, meta.name, meta.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read() {
        let json = r#"{"name": "zlib", "version": "1.2.13", "build": "h5eee18b_0", "license": "Zlib",
          "channel": "https://example.com/pkgs/main/linux-64", "subdir": "linux-64",
          "fn": "zlib-1.2.13-h5eee18b_0.conda", "sha256": "00"}"#;
        let found = package(json.as_bytes()).unwrap();
        assert_eq!(
            found.purl(None).unwrap(),
            "pkg:conda/zlib@1.2.13?build=h5eee18b_0&channel=main&subdir=linux-64&type=conda"
        );
        assert_eq!((found.license.as_deref(), found.hashes.len()), (Some("Zlib"), 0));
        for bad in
            ["", "{}", r#"{"name": "", "version": "1"}"#, r#"{"name": "a", "version": null}"#]
        {
            assert!(package(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
