//! SPDX 2.3 as JSON (spdx.github.io/spdx-spec/v2.3).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::license::License;
use super::{Description, Format, Subject, Supplier, TOOL, UNASSESSED};
use crate::package::{Certainty, Package};
use crate::unassessed::{named, one_line};

const NO_ASSERTION: &str = "NOASSERTION";
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const SYSTEM: &str = "SPDXRef-OperatingSystem";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<SpdxPackage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<ExtractedLicense>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    comment: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpdxPackage {
    name: String,
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    supplier: String,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Annotation {
    annotation_date: String,
    annotation_type: &'static str,
    annotator: String,
    comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExtractedLicense {
    license_id: String,
    extracted_text: String,
    name: String,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

fn relation(from: &str, what: &'static str, to: &str) -> Relationship {
    Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: what,
        related_spdx_element: to.to_owned(),
    }
}

/// The first 16 hex digits of the hash of `text`: enough to tell the parts of one document apart.
fn short_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

/// An identifier of letters, digits, `.` and `-` that is the package's own.
fn package_id(ty: &str, name: &str, purl: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().take(60).map(clean).collect();
    format!("SPDXRef-{ty}-{name}-{}", short_hash(purl))
}

pub(super) fn write(described: &Description, out: &mut impl Write) -> serde_json::Result<()> {
    let mut licenses: BTreeMap<String, String> = BTreeMap::new();
    let mut packages = vec![image(described)];
    let mut relationships = vec![relation(DOCUMENT, "DESCRIBES", IMAGE)];
    if let Some(os) = &described.inventory.os {
        packages.push(SpdxPackage {
            version_info: os.version.clone(),
            primary_package_purpose: Some("OPERATING-SYSTEM"),
            ..bare(SYSTEM.to_owned(), os.id.clone())
        });
        relationships.push(relation(IMAGE, "CONTAINS", SYSTEM));
    }
    let ids: BTreeMap<&str, String> = described
        .inventory
        .packages
        .iter()
        .map(|p| (&*p.purl, package_id(p.ecosystem.purl_type(), &p.name, &p.purl)))
        .collect();
    for package in &described.inventory.packages {
        let Some(id) = ids.get(&*package.purl) else { continue };
        relationships.push(relation(IMAGE, "CONTAINS", id));
        // A package that somebody installed beside the system's own copy is not the system's: a
        // reader who takes the owner's word for it must find no owner.
        let owned = package.found.iter().all(|at| at.owner.is_some());
        let mut owners: Vec<_> = package
            .found
            .iter()
            .filter(|_| owned)
            .filter_map(|at| ids.get(at.owner.as_deref()?))
            .map(|owner| relation(owner, "CONTAINS", id))
            .collect();
        owners.sort();
        owners.dedup();
        relationships.append(&mut owners);
        packages.push(SpdxPackage {
            version_info: Some(package.version.clone()).filter(|version| !version.is_empty()),
            supplier: supplier(package.supplier.as_deref()),
            source_info: Some(source_info(described, package)),
            comment: (package.certainty == Certainty::Guessed).then_some(GUESSED),
            checksums: package
                .hashes
                .iter()
                .map(|hash| Checksum {
                    algorithm: hash.algorithm.replace('-', ""),
                    checksum_value: hash.hex.clone(),
                })
                .collect(),
            license_declared: declared(package, &mut licenses),
            external_refs: vec![ExternalRef {
                reference_category: "PACKAGE-MANAGER",
                reference_type: "purl",
                reference_locator: package.purl.clone(),
            }],
            ..bare(id.clone(), package.name.clone())
        });
    }
    let document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: described.name(),
        document_namespace: format!(
            "https://fairlead.dev/spdx/{}",
            described.uuid(Format::SpdxJson)
        ),
        creation_info: CreationInfo {
            created: described.created(),
            creators: vec![tool()],
            comment: match described.subject {
                Subject::Image => CONTEXT,
                Subject::Folder => FOLDER_CONTEXT,
            },
        },
        packages,
        has_extracted_licensing_infos: licenses
            .into_iter()
            .map(|(license_id, text)| ExtractedLicense {
                license_id,
                name: text.clone(),
                extracted_text: text,
            })
            .collect(),
        relationships,
    };
    serde_json::to_writer(out, &document)
}

/// A package of which nothing is said yet.
fn bare(id: String, name: String) -> SpdxPackage {
    SpdxPackage {
        name,
        id,
        version_info: None,
        supplier: NO_ASSERTION.to_owned(),
        download_location: NO_ASSERTION,
        files_analyzed: false,
        source_info: None,
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION.to_owned(),
        copyright_text: NO_ASSERTION,
        comment: None,
        primary_package_purpose: None,
        checksums: Vec::new(),
        external_refs: Vec::new(),
        annotations: Vec::new(),
    }
}

/// How the document came about, for whoever asks in which phase of the image's life.
const CONTEXT: &str = "made from what is in the image, after it was built";

const FOLDER_CONTEXT: &str =
    "made from the files of a folder, and from what its lock files ask for";

/// What is said of a package that no installer wrote down.
const GUESSED: &str = "name and version are a guess: by a file's name, or by texts in a program";

/// Who supplies a package, as SPDX writes it; no assertion where nobody says it.
fn supplier(said: Option<&str>) -> String {
    let Some(Supplier { name, email }) = said.and_then(Supplier::read) else {
        return NO_ASSERTION.to_owned();
    };
    match email {
        Some(email) => format!("Organization: {name} ({email})"),
        None => format!("Organization: {name}"),
    }
}

/// Who wrote the document.
fn tool() -> String {
    format!("Tool: {TOOL}-{}", env!("CARGO_PKG_VERSION"))
}

/// What was seen and not read.
fn unassessed(described: &Description) -> Vec<Annotation> {
    let (texts, omitted) = named(&described.inventory.unassessed);
    let mut comments: Vec<String> =
        texts.iter().map(|text| format!("{UNASSESSED} {text}")).collect();
    if omitted > 0 {
        comments.push(format!("{UNASSESSED}-omitted {omitted}"));
    }
    let annotation = |comment| Annotation {
        annotation_date: described.created(),
        annotation_type: "OTHER",
        annotator: tool(),
        comment,
    };
    comments.into_iter().map(annotation).collect()
}

fn image(described: &Description) -> SpdxPackage {
    let manifest = &described.manifest;
    let version = described.version.clone().unwrap_or_else(|| manifest.to_string());
    let platform = Some(&described.platform).filter(|platform| !platform.is_empty());
    SpdxPackage {
        version_info: Some(version),
        supplier: supplier(described.vendor.as_deref()),
        source_info: platform.map(|platform| format!("image manifest {manifest} for {platform}")),
        primary_package_purpose: Some(match described.subject {
            Subject::Image => "CONTAINER",
            Subject::Folder => "SOURCE",
        }),
        checksums: vec![Checksum {
            algorithm: manifest.algorithm().name().to_uppercase(),
            checksum_value: manifest.hex().to_owned(),
        }],
        annotations: unassessed(described),
        ..bare(IMAGE.to_owned(), described.name())
    }
}

/// Where a package was found, for people and to be read back:
/// `found in PATH (layer DIGEST, of OWNER), PATH (layer DIGEST)`.
fn source_info(described: &Description, package: &Package) -> String {
    let mut text = String::from("found in");
    for (number, at) in package.found.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        // A path may hold anything, and must not be taken for what stands behind it.
        let path = one_line(&at.path).replace(" (layer ", r" \(layer ");
        let _ = write!(text, "{comma} {path} (layer {}", described.layer(at.layer));
        if let Some(owner) = &at.owner {
            let _ = write!(text, ", of {owner}");
        }
        text.push(')');
    }
    text
}

fn declared(package: &Package, licenses: &mut BTreeMap<String, String>) -> String {
    match package.license.as_deref().map(License::read) {
        None => NO_ASSERTION.to_owned(),
        Some(License::Expression(expression)) => expression,
        Some(License::Named(text)) if text.is_empty() => NO_ASSERTION.to_owned(),
        Some(License::Named(text)) => {
            let id = format!("LicenseRef-{}", short_hash(&text));
            licenses.insert(id.clone(), text);
            id
        }
    }
}
