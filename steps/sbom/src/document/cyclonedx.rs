//! `CycloneDX` 1.6 and 1.7 as JSON (ECMA-424).

use std::io::Write;

use serde::Serialize;

use super::license::License;
use super::{Description, Format, Subject, Supplier, TOOL, UNASSESSED};
use crate::package::{Certainty, Package};
use crate::unassessed::named;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: String,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
    compositions: Vec<Composition>,
}

#[derive(Serialize)]
struct Metadata {
    timestamp: String,
    lifecycles: [Lifecycle; 1],
    tools: Tools,
    component: Component,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Serialize)]
struct Component {
    #[serde(rename = "type")]
    ty: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organization>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<LicenseChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

#[derive(Serialize)]
struct Organization {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<Contact>,
}

#[derive(Serialize)]
struct Contact {
    email: String,
}

/// How well a component is known.
#[derive(Serialize)]
struct Evidence {
    identity: [Identity; 1],
}

#[derive(Serialize)]
struct Identity {
    field: &'static str,
    confidence: f32,
}

/// When in the image's life the document was made.
#[derive(Serialize)]
struct Lifecycle {
    phase: &'static str,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum LicenseChoice {
    Expression(String),
    License { name: String },
}

#[derive(Serialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    from: String,
    depends_on: Vec<String>,
}

/// How complete the list of what is in `assemblies` is.
#[derive(Serialize)]
struct Composition {
    aggregate: &'static str,
    assemblies: Vec<String>,
}

pub(super) fn write(
    described: &Description,
    format: Format,
    out: &mut impl Write,
) -> serde_json::Result<()> {
    let version = if format == Format::Cyclonedx17Json { "1.7" } else { "1.6" };
    let image = image(described);
    let packages = &described.inventory.packages;
    let mut components = Vec::with_capacity(packages.len() + 1);
    if let Some(os) = &described.inventory.os {
        components.push(Component {
            version: os.version.clone(),
            description: os.pretty_name.clone(),
            bom_ref: Some(format!("os:{}", os.distro())),
            ..bare("operating-system", os.id.clone())
        });
    }
    components.extend(packages.iter().map(|package| component(described, package)));
    let bom = Bom {
        schema: format!("http://cyclonedx.org/schema/bom-{version}.schema.json"),
        bom_format: "CycloneDX",
        spec_version: version,
        serial_number: format!("urn:uuid:{}", described.uuid(format)),
        version: 1,
        metadata: Metadata {
            timestamp: described.created(),
            lifecycles: [Lifecycle {
                phase: match described.subject {
                    Subject::Image => "post-build",
                    Subject::Folder => "pre-build",
                },
            }],
            tools: Tools {
                components: vec![Component {
                    version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                    ..bare("application", TOOL.to_owned())
                }],
            },
            component: image,
            properties: unassessed(described),
        },
        dependencies: vec![Dependency {
            from: described.manifest.to_string(),
            depends_on: components.iter().filter_map(|c| c.bom_ref.clone()).collect(),
        }],
        components,
        compositions: vec![Composition {
            aggregate: if described.inventory.is_complete() { "complete" } else { "incomplete" },
            assemblies: vec![described.manifest.to_string()],
        }],
    };
    serde_json::to_writer(out, &bom)
}

/// What was seen and not read.
fn unassessed(described: &Description) -> Vec<Property> {
    let (texts, omitted) = named(&described.inventory.unassessed);
    let property = |value| Property { name: UNASSESSED.to_owned(), value };
    let mut properties: Vec<Property> = texts.into_iter().map(property).collect();
    if omitted > 0 {
        let name = format!("{UNASSESSED}-omitted");
        properties.push(Property { name, value: omitted.to_string() });
    }
    properties
}

fn supplier(said: Option<&str>) -> Option<Organization> {
    let Supplier { name, email } = Supplier::read(said?)?;
    Some(Organization { name, contact: email.map(|email| Contact { email }).into_iter().collect() })
}

/// A component of which nothing is said yet.
const fn bare(ty: &'static str, name: String) -> Component {
    Component {
        ty,
        bom_ref: None,
        supplier: None,
        group: None,
        name,
        version: None,
        description: None,
        hashes: Vec::new(),
        licenses: Vec::new(),
        purl: None,
        properties: Vec::new(),
        evidence: None,
    }
}

fn image(described: &Description) -> Component {
    let manifest = &described.manifest;
    let mut properties: Vec<Property> = Vec::new();
    if !described.platform.is_empty() {
        let (name, value) = ("fairlead:image:platform".to_owned(), described.platform.clone());
        properties.push(Property { name, value });
    }
    let base = [("name", &described.base.0), ("digest", &described.base.1)];
    for (what, value) in base.into_iter().filter_map(|(what, value)| Some((what, value.clone()?))) {
        properties.push(Property { name: format!("fairlead:image:base:{what}"), value });
    }
    for (number, layer) in described.layers.iter().enumerate() {
        let name = format!("fairlead:image:layer:{number}");
        properties.push(Property { name, value: layer.to_string() });
    }
    Component {
        bom_ref: Some(manifest.to_string()),
        supplier: supplier(described.vendor.as_deref()),
        version: Some(described.version.clone().unwrap_or_else(|| manifest.to_string())),
        hashes: vec![Hash {
            alg: match manifest.algorithm() {
                fairlead_step::Algorithm::Sha256 => "SHA-256",
                fairlead_step::Algorithm::Sha512 => "SHA-512",
            },
            content: manifest.hex().to_owned(),
        }],
        properties,
        ..bare(
            match described.subject {
                Subject::Image => "container",
                Subject::Folder => "application",
            },
            described.name(),
        )
    }
}

fn component(described: &Description, package: &Package) -> Component {
    let mut properties = Vec::with_capacity(package.found.len() * 2);
    for (number, at) in package.found.iter().enumerate() {
        let mut add = |what: &str, value: String| {
            properties.push(Property { name: format!("fairlead:location:{number}:{what}"), value });
        };
        add("path", at.path.clone());
        add("layer", described.layer(at.layer));
        if let Some(owner) = &at.owner {
            add("owner", owner.clone());
        }
    }
    let (group, name) = match package.name.rsplit_once(['/', ':']) {
        Some((group, name)) => (Some(group.to_owned()), name.to_owned()),
        None => (None, package.name.clone()),
    };
    Component {
        bom_ref: Some(package.purl.clone()),
        supplier: supplier(package.supplier.as_deref()),
        hashes: package
            .hashes
            .iter()
            .map(|hash| Hash { alg: hash.algorithm, content: hash.hex.clone() })
            .collect(),
        evidence: (package.certainty == Certainty::Guessed)
            .then_some(Evidence { identity: [Identity { field: "purl", confidence: 0.5 }] }),
        group,
        version: Some(package.version.clone()).filter(|version| !version.is_empty()),
        licenses: match package.license.as_deref().map(License::read) {
            None => Vec::new(),
            Some(License::Expression(text)) => vec![LicenseChoice::Expression(text)],
            Some(License::Named(name)) if name.is_empty() => Vec::new(),
            Some(License::Named(name)) => vec![LicenseChoice::License { name }],
        },
        purl: Some(package.purl.clone()),
        properties,
        ..bare("library", name)
    }
}
