//! SPDX 2.x as text, a tag and a value a line: brought into the form that the JSON documents have,
//! and read as one of them.

use serde_json::{Map, Value, json};

use super::{Bill, SbomError, cut, spdx};

/// Whether a document begins as such a text does.
pub(super) fn looks_like_one(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.find(|line| !line.starts_with('#')).unwrap_or_default();
    first.starts_with("SPDXVersion:")
}

/// The tags and values of a text. A value in `<text>` goes on over lines.
fn fields(text: &str) -> Result<Vec<(&str, String)>, SbomError> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let (tag, value) = line.split_once(':').ok_or_else(|| {
            SbomError::Malformed(format!("the line `{}` has no tag", cut(line, 80)))
        })?;
        let value = value.trim();
        let Some(inner) = value.strip_prefix("<text>") else {
            fields.push((tag.trim(), value.to_owned()));
            continue;
        };
        let mut whole = inner.to_owned();
        while !whole.contains("</text>") {
            let next = lines.next().ok_or_else(|| {
                SbomError::Malformed(format!("the text of `{}` does not end", cut(tag, 80)))
            })?;
            whole.push('\n');
            whole.push_str(next);
        }
        let whole = whole.split("</text>").next().unwrap_or_default();
        fields.push((tag.trim(), whole.to_owned()));
    }
    Ok(fields)
}

/// Reads a document.
///
/// # Errors
/// When a line has no tag, or the version is not one of SPDX 2.
pub(super) fn read(text: &str, bill: &mut Bill) -> Result<(), SbomError> {
    let mut packages: Vec<Map<String, Value>> = Vec::new();
    let mut relationships = Vec::new();
    let mut comments = Vec::new();
    let mut describes = Vec::new();
    // Files and snippets have tags of the same names.
    let mut in_package = false;
    for (tag, value) in fields(text)? {
        match tag {
            "SPDXVersion" if !value.starts_with("SPDX-2.") => {
                return Err(SbomError::Version(cut(&value, 40)));
            }
            "PackageName" => {
                in_package = true;
                packages.push(Map::from_iter([("name".to_owned(), json!(value))]));
            }
            "FileName" | "SnippetSPDXID" | "LicenseID" => in_package = false,
            "SPDXID" | "PackageVersion" | "PackageSourceInfo" | "PrimaryPackagePurpose" => {
                let key = match tag {
                    "SPDXID" => "SPDXID",
                    "PackageVersion" => "versionInfo",
                    "PackageSourceInfo" => "sourceInfo",
                    _ => "primaryPackagePurpose",
                };
                if let Some(package) = packages.last_mut().filter(|_| in_package) {
                    package.insert(key.to_owned(), json!(value));
                }
            }
            "ExternalRef" => {
                let mut words = value.split_whitespace();
                let (_, ty, locator) = (words.next(), words.next(), words.next());
                let package = packages.last_mut().filter(|_| in_package);
                if let (Some(package), Some(ty), Some(locator)) = (package, ty, locator) {
                    let all = package.entry("externalRefs").or_insert_with(|| json!([]));
                    if let Value::Array(all) = all {
                        all.push(json!({"referenceType": ty, "referenceLocator": locator}));
                    }
                }
            }
            "Relationship" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                if let [from, ty, to] = words[..] {
                    relationships.push(json!({
                        "spdxElementId": from, "relationshipType": ty, "relatedSpdxElement": to,
                    }));
                }
            }
            "DocumentDescribes" => describes.push(json!(value)),
            "AnnotationComment" => comments.push(json!({"comment": value})),
            _ => {}
        }
    }
    let document = json!({
        "packages": packages,
        "relationships": relationships,
        "annotations": comments,
        "documentDescribes": describes,
    });
    spdx::read(&serde_json::to_vec(&document).unwrap_or_default(), bill)
}
