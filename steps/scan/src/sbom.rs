//! Reads the package URLs of a bill of materials: SPDX 2.x JSON or CycloneDX 1.x JSON.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

/// Packages of one bill of materials.
const MAX_PACKAGES: usize = 500_000;
/// How deep CycloneDX components may be nested.
const MAX_DEPTH: usize = 32;

/// What a bill of materials lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    /// The distinct package URLs, sorted.
    pub(crate) purls: BTreeSet<String>,
    /// Packages without a package URL.
    pub(crate) unnamed: u64,
}

/// Why a document cannot be scanned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SbomError {
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("it is neither SPDX 2 nor CycloneDX 1 (`spdxVersion` or `bomFormat` is missing)")]
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

#[derive(Deserialize)]
struct Spdx {
    #[serde(default)]
    packages: Vec<SpdxPackage>,
}

#[derive(Deserialize)]
struct SpdxPackage {
    #[serde(default, rename = "externalRefs")]
    references: Vec<SpdxReference>,
}

#[derive(Deserialize)]
struct SpdxReference {
    #[serde(rename = "referenceType")]
    kind: String,
    #[serde(rename = "referenceLocator")]
    locator: String,
}

#[derive(Deserialize)]
struct CycloneDx {
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default, rename = "type")]
    kind: String,
    purl: Option<String>,
    #[serde(default)]
    components: Vec<Component>,
}

/// Reads a document of either kind.
pub(crate) fn read(bytes: &[u8]) -> Result<Bill, SbomError> {
    let head: Head =
        parse(bytes).map_err(|error| match serde_json::from_slice::<Value>(bytes) {
            Ok(_) => SbomError::Unknown,
            Err(_) => SbomError::Json(error),
        })?;
    let mut bill = Bill::default();
    match (head.spdx, head.format, head.context) {
        (Some(version), _, _) if version.starts_with("SPDX-2.") => {
            let document: Spdx = parse(bytes).map_err(SbomError::Malformed)?;
            for package in document.packages {
                let is_purl = |r: &SpdxReference| r.kind == "purl" || r.kind.ends_with("/purl");
                let purl = package.references.into_iter().find(is_purl);
                bill.add(purl.map(|reference| reference.locator))?;
            }
        }
        (Some(version), _, _) => return Err(SbomError::Version(cut(&version))),
        (None, Some(format), _) if format == "CycloneDX" => {
            let version = head.version.unwrap_or_default();
            if !version.starts_with("1.") {
                return Err(SbomError::Version(format!("CycloneDX {}", cut(&version))));
            }
            let document: CycloneDx = parse(bytes).map_err(SbomError::Malformed)?;
            bill.add_components(document.components, 0)?;
        }
        (None, _, Some(_)) => return Err(SbomError::Version("SPDX 3 or JSON-LD".to_owned())),
        (None, _, None) => return Err(SbomError::Unknown),
    }
    Ok(bill)
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

impl Bill {
    fn add(&mut self, purl: Option<String>) -> Result<(), SbomError> {
        match purl {
            Some(purl) => drop(self.purls.insert(purl)),
            None => self.unnamed += 1,
        }
        if self.purls.len() > MAX_PACKAGES { Err(SbomError::TooMany) } else { Ok(()) }
    }

    fn add_components(
        &mut self,
        components: Vec<Component>,
        depth: usize,
    ) -> Result<(), SbomError> {
        if depth > MAX_DEPTH {
            return Err(SbomError::Malformed(format!(
                "its components are nested more than {MAX_DEPTH} deep"
            )));
        }
        for component in components {
            // Files and the system itself are not packages; they are listed without a package URL.
            if component.purl.is_some()
                || matches!(component.kind.as_str(), "library" | "framework" | "application")
            {
                self.add(component.purl)?;
            }
            self.add_components(component.components, depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_list_their_package_urls() {
        let spdx = br#"{"spdxVersion": "SPDX-2.3", "packages": [
            {"name": "a", "externalRefs": [
              {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:x"},
              {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:npm/a@1"}]},
            {"name": "image"}]}"#;
        let cyclonedx = br#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [
            {"type": "operating-system", "name": "debian"},
            {"type": "library", "name": "a", "purl": "pkg:npm/a@1", "components": [
              {"type": "library", "name": "b", "purl": "pkg:npm/b@1"}]},
            {"type": "library", "name": "c"}]}"#;
        let bill = |purls: &[&str], unnamed| Bill {
            purls: purls.iter().map(|p| (*p).to_owned()).collect(),
            unnamed,
        };
        assert_eq!(read(spdx), Ok(bill(&["pkg:npm/a@1"], 1)));
        assert_eq!(read(cyclonedx), Ok(bill(&["pkg:npm/a@1", "pkg:npm/b@1"], 1)));
    }

    #[test]
    fn other_documents_are_refused_with_the_reason() {
        let (open, close) = (r#"[{"components": "#.repeat(40), "}]".repeat(40));
        let deep = format!(
            r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": {open}[]{close}}}"#
        );
        for (text, want) in [
            ("{", "not JSON"),
            ("{}", "neither"),
            ("[1]", "neither"),
            (r#"{"spdxVersion": "SPDX-3.0"}"#, "it is SPDX-3.0"),
            (r#"{"bomFormat": "CycloneDX", "specVersion": "2.0"}"#, "CycloneDX 2.0"),
            (r#"{"spdxVersion": "SPDX-2.3", "packages": 7}"#, "invalid type"),
            (&deep, "nested"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
