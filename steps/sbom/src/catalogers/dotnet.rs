//! .NET applications: the list of libraries in `NAME.deps.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::{Cataloger, Place, Unreadable, ends_with_ignoring_case};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::{Ecosystem, FileHash};
use crate::unassessed::UnassessedKind;

/// Reads the lists of .NET applications.
pub(super) struct Dotnet;

impl Cataloger for Dotnet {
    fn name(&self) -> &'static str {
        "dotnet"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        ends_with_ignoring_case(place.name, ".deps.json")
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let bytes = content.whole()?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        Ok(Some(libraries(bytes)?.into()))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::DotnetDeps
    }
}

#[derive(Deserialize)]
struct Deps {
    libraries: BTreeMap<String, Library>,
}

#[derive(Deserialize)]
struct Library {
    #[serde(default, rename = "type")]
    ty: String,
    #[serde(default)]
    sha512: String,
}

fn libraries(json: &[u8]) -> Result<Vec<Entry>, Unreadable> {
    let deps: Deps = serde_json::from_slice(json)
        .map_err(|error| Unreadable::Lost(format!("it is no list of .NET's: {error}")))?;
    let mut found = Vec::new();
    for (key, library) in deps.libraries {
        // The application's own projects and loose files are in no registry.
        let name = match library.ty.as_str() {
            "package" => &*key,
            "runtimepack" => key.strip_prefix("runtimepack.").unwrap_or(&key),
            _ => continue,
        };
        let Some((name, version)) = name.split_once('/') else { continue };
        let hash = library.sha512.strip_prefix("sha512-");
        let hash = hash.and_then(|hash| BASE64_STANDARD.decode(hash).ok());
        let hash = hash.filter(|hash| hash.len() == 64);
        found.push(Entry {
            hashes: hash
                .map(|hash| FileHash { algorithm: "SHA-512", hex: hex::encode(hash) })
                .into_iter()
                .collect(),
            ..Entry::new(Ecosystem::Nuget, name, version)
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_listed_and_projects_are_not() {
        let hash = BASE64_STANDARD.encode([7; 64]);
        let json = format!(
            r#"{{"runtimeTarget": {{"name": ".NETCoreApp,Version=v8.0"}}, "libraries": {{
              "Shop/1.0.0": {{"type": "project", "serviceable": false, "sha512": ""}},
              "Serilog/3.1.1": {{"type": "package", "serviceable": true, "sha512": "sha512-{hash}"}},
              "runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1": {{"type": "runtimepack"}},
              "odd": {{"type": "package"}}}}}}"#
        );
        let found = libraries(json.as_bytes()).unwrap();
        let purls: Vec<_> = found.iter().map(|entry| entry.purl(None).unwrap()).collect();
        assert_eq!(
            purls,
            ["pkg:nuget/Serilog@3.1.1", "pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@8.0.1"]
        );
        assert_eq!(found[0].hashes[0].hex, "07".repeat(64));
        assert!(libraries(b"{}").is_err());
    }
}
