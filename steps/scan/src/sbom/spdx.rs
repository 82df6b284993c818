//! SPDX 2.x as JSON, as Fairlead, Trivy, syft and others write it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Bill, Listed, Location, SbomError, SourcePackage, System, Text, or_default, parse};

/// What Trivy writes before the name and the version of a source package.
const TRIVY_SOURCE: &str = "built package from: ";
/// What Fairlead writes before the places of a package.
const PLACES: &str = "found in ";
/// What stands between a place and the layer that it is of.
const LAYER: &str = " (layer ";

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    packages: Vec<Package<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    relationships: Vec<Relationship<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default", rename = "documentDescribes")]
    describes: Vec<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    annotations: Vec<Annotation<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package<'a> {
    #[serde(borrow, default, rename = "SPDXID", deserialize_with = "or_default")]
    id: Text<'a>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    version_info: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    source_info: Text<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    primary_package_purpose: Text<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    external_refs: Vec<Reference<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    annotations: Vec<Annotation<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    attribution_texts: Vec<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    #[serde(borrow)]
    reference_type: Text<'a>,
    #[serde(borrow)]
    reference_locator: Text<'a>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    comment: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relationship<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    spdx_element_id: Text<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    relationship_type: Text<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    related_spdx_element: Text<'a>,
}

/// How the packages of a document hang together, by identifier.
#[derive(Default)]
struct Relations<'a> {
    /// What the document is about.
    described: BTreeSet<&'a str>,
    /// Package → what contains it.
    containers: BTreeMap<&'a str, Vec<&'a str>>,
}

pub(super) fn read(bytes: &[u8], bill: &mut Bill) -> Result<(), SbomError> {
    let document: Document<'_> = parse(bytes).map_err(SbomError::Malformed)?;
    let relations = Relations::of(&document);
    let purls: BTreeMap<&str, &str> = document
        .packages
        .iter()
        .filter_map(|package| Some((package.id.0.as_ref(), package.purl()?)))
        .collect();
    let annotations = document.packages.iter().flat_map(|package| &package.annotations);
    for annotation in document.annotations.iter().chain(annotations) {
        if let Some((name, value)) = annotation.comment.0.trim().split_once(char::is_whitespace) {
            bill.add_mark(name, value);
        }
    }
    for package in &document.packages {
        let described = relations.described.contains(package.id.0.as_ref());
        let name = || package.name.as_ref().map(|name| Text(name.0.as_ref().into()));
        let version =
            || package.version_info.as_ref().and_then(|v| Text(v.0.as_ref().into()).some());
        match (package.primary_package_purpose.0.as_ref(), package.purl()) {
            // The image itself, or one that it was made from.
            ("CONTAINER", _) => {}
            (_, Some(purl)) if described && is_image(purl) => {}
            ("OPERATING-SYSTEM", None) => {
                if let Some(id) = name().and_then(Text::some) {
                    let (id, version) = (id.to_lowercase(), version());
                    bill.system.get_or_insert(System { id, version });
                }
            }
            (_, Some(purl)) => bill.add(Listed {
                purl: purl.to_owned(),
                name: name().and_then(Text::some),
                version: version(),
                source: package.source(),
                found: package.found(&relations, &purls),
            })?,
            ("FILE", None) => {}
            (_, None) if described || package.groups() => {}
            (_, None) => bill.add_unnamed(name())?,
        }
    }
    Ok(())
}

fn is_image(purl: &str) -> bool {
    ["pkg:oci/", "pkg:docker/"].iter().any(|ty| purl.starts_with(ty))
}

impl<'a> Relations<'a> {
    fn of(document: &'a Document<'_>) -> Self {
        let mut relations = Self::default();
        relations.described.extend(document.describes.iter().map(|id| id.0.as_ref()));
        for relation in &document.relationships {
            let from = relation.spdx_element_id.0.as_ref();
            let to = relation.related_spdx_element.0.as_ref();
            let (outer, inner) = match relation.relationship_type.0.as_ref() {
                "DESCRIBES" => {
                    relations.described.insert(to);
                    continue;
                }
                "DESCRIBED_BY" => {
                    relations.described.insert(from);
                    continue;
                }
                "CONTAINS" => (from, to),
                "CONTAINED_BY" => (to, from),
                _ => continue,
            };
            relations.containers.entry(inner).or_default().push(outer);
        }
        relations
    }
}

impl Package<'_> {
    fn purl(&self) -> Option<&str> {
        let is_purl = |r: &&Reference<'_>| {
            let kind = r.reference_type.0.as_ref();
            kind == "purl" || kind.ends_with("/purl")
        };
        let purl = self.external_refs.iter().find(is_purl)?.reference_locator.0.trim();
        Some(purl).filter(|purl| !purl.is_empty())
    }

    /// The source package that Trivy states: `built package from: openssl 3.0.11-1`.
    fn source(&self) -> Option<SourcePackage> {
        let stated = self.source_info.0.trim().strip_prefix(TRIVY_SOURCE)?;
        let (name, version) = stated.trim().split_once(' ').unwrap_or((stated.trim(), ""));
        let version = Some(version.trim().to_owned()).filter(|version| !version.is_empty());
        (!name.is_empty()).then(|| SourcePackage { name: name.to_owned(), version })
    }

    /// Where Fairlead found it, and which packages of the distribution own those places:
    /// `found in /a/b (layer sha256:…, of pkg:deb/debian/c@1), /d (layer sha256:…)`.
    ///
    /// Documents that name no owner beside a place have relationships alone, which do not say which
    /// owner has which place. Then there must be one for each: a place too many is nobody's.
    fn found(&self, relations: &Relations<'_>, purls: &BTreeMap<&str, &str>) -> Vec<Location> {
        let Some(places) = self.source_info.0.strip_prefix(PLACES) else { return Vec::new() };
        let mut found = Vec::new();
        let mut rest = places;
        while let Some((path, after)) = rest.split_once(LAYER) {
            let (layer, next) = after.split_once("), ").unwrap_or((after, ""));
            let owner = layer.split_once(", of ").map(|(_, owner)| owner);
            let owner = owner.map(|owner| owner.strip_suffix(')').unwrap_or(owner).to_owned());
            found.push(Location { path: path.to_owned(), owner });
            rest = next;
        }
        if found.iter().all(|place| place.owner.is_none()) {
            let containers = relations.containers.get(self.id.0.as_ref());
            let mut owners: Vec<&str> =
                containers.into_iter().flatten().filter_map(|id| purls.get(id).copied()).collect();
            owners.sort();
            owners.dedup();
            for (place, owner) in found.iter_mut().zip(owners) {
                place.owner = Some(owner.to_owned());
            }
        }
        found
    }

    /// Whether it is what Trivy puts the packages of one file under.
    fn groups(&self) -> bool {
        let comments = self.annotations.iter().map(|annotation| &annotation.comment);
        comments.chain(&self.attribution_texts).any(|text| text.0.starts_with("Class: "))
    }
}
