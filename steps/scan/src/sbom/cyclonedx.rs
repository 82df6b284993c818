//! `CycloneDX` 1.x as JSON, as Fairlead, Trivy, syft and others write it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    Bill, Listed, Location, OMITTED, SbomError, SourcePackage, System, Text, UNASSESSED,
    or_default, parse,
};

/// How deep components may be nested.
const MAX_DEPTH: usize = 32;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    metadata: Metadata<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    components: Vec<Component<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    compositions: Vec<Composition<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    properties: Vec<Property<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    component: Option<Component<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    properties: Vec<Property<'a>>,
}

#[derive(Default, Deserialize)]
struct Component<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "or_default")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    group: Option<Text<'a>>,
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    version: Option<Text<'a>>,
    #[serde(borrow, default)]
    purl: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    properties: Vec<Property<'a>>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    components: Vec<Component<'a>>,
}

#[derive(Deserialize)]
struct Property<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    name: Text<'a>,
    #[serde(borrow, default, deserialize_with = "or_default")]
    value: Text<'a>,
}

/// A statement on how complete a part of the document is.
#[derive(Deserialize)]
struct Composition<'a> {
    #[serde(borrow, default, deserialize_with = "or_default")]
    aggregate: Text<'a>,
    #[serde(default)]
    assemblies: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    dependencies: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    vulnerabilities: Option<serde::de::IgnoredAny>,
}

pub(super) fn read(bytes: &[u8], bill: &mut Bill) -> Result<(), SbomError> {
    let document: Document<'_> = parse(bytes).map_err(SbomError::Malformed)?;
    let mut subject = document.metadata.component.unwrap_or_default();
    let stated =
        document.metadata.properties.iter().chain(&document.properties).chain(&subject.properties);
    for property in stated {
        bill.add_mark(&property.name.0, &property.value.0);
    }
    add_all(bill, std::mem::take(&mut subject.components), 0)?;
    add_all(bill, document.components, 0)?;
    // What the bill names itself is why it is incomplete; to say so as well would count it twice.
    if bill.marks.is_empty() && bill.omitted == 0 {
        for composition in document.compositions {
            if composition.leaves_out() {
                let mark = format!("composition:{}", composition.aggregate.0);
                bill.add_mark(UNASSESSED, &mark);
            }
        }
    }
    Ok(())
}

impl Composition<'_> {
    /// Whether it says that components may be missing.
    fn leaves_out(&self) -> bool {
        let of_findings = self.vulnerabilities.is_some()
            && self.assemblies.is_none()
            && self.dependencies.is_none();
        let aggregate = self.aggregate.0.trim();
        !of_findings && (aggregate.starts_with("incomplete") || aggregate == "unknown")
    }
}

fn add_all(bill: &mut Bill, components: Vec<Component<'_>>, depth: usize) -> Result<(), SbomError> {
    if depth > MAX_DEPTH {
        return Err(SbomError::Malformed(format!(
            "its components are nested more than {MAX_DEPTH} deep"
        )));
    }
    for mut component in components {
        let within = std::mem::take(&mut component.components);
        add(bill, component)?;
        add_all(bill, within, depth + 1)?;
    }
    Ok(())
}

fn add(bill: &mut Bill, component: Component<'_>) -> Result<(), SbomError> {
    let said = Said::read(&component.properties, bill);
    match component.kind.0.as_ref() {
        // The image itself, or one that it was made from.
        "container" => return Ok(()),
        "operating-system" => {
            if let Some(id) = component.name.and_then(Text::some) {
                let version = component.version.and_then(Text::some);
                bill.system.get_or_insert(System { id: id.to_lowercase(), version });
            }
            return Ok(());
        }
        _ => {}
    }
    if let Some(purl) = component.purl.and_then(Text::some) {
        let name = component.name.and_then(Text::some);
        let name = match (component.group.and_then(Text::some), name) {
            (Some(group), Some(name)) => Some(format!("{group}/{name}")),
            (None, name) => name,
            (Some(_), None) => None,
        };
        let version = component.version.and_then(Text::some);
        let (source, found) = (said.source(), said.found());
        return bill.add(Listed { purl, name, version, source, found });
    }
    // Files and data are no packages, and neither is what only groups packages: a lock file.
    let no_package = matches!(
        component.kind.0.as_ref(),
        "file" | "data" | "cryptographic-asset" | "machine-learning-model" | "device"
    );
    if no_package || said.groups { Ok(()) } else { bill.add_unnamed(component.name) }
}

/// What the properties of a component say, whoever wrote them.
#[derive(Default)]
struct Said<'a> {
    /// Number → path and owner.
    places: BTreeMap<&'a str, (Option<&'a str>, Option<&'a str>)>,
    path: Option<&'a str>,
    source_name: Option<&'a str>,
    source_version: Option<&'a str>,
    source_release: Option<&'a str>,
    source_epoch: Option<&'a str>,
    /// It is what Trivy puts the packages of one file under.
    groups: bool,
}

impl<'a> Said<'a> {
    fn read(properties: &'a [Property<'_>], bill: &mut Bill) -> Self {
        let mut said = Self::default();
        for property in properties {
            let value = property.value.0.as_ref();
            let name = property.name.0.as_ref();
            if let Some(name) = name.strip_prefix("aquasecurity:trivy:") {
                match name {
                    "SrcName" => said.source_name = Some(value),
                    "SrcVersion" => said.source_version = Some(value),
                    "SrcRelease" => said.source_release = Some(value),
                    "SrcEpoch" => said.source_epoch = Some(value),
                    "FilePath" => said.path = Some(value),
                    "Class" => said.groups = true,
                    _ => {}
                }
            } else if let Some(place) = name
                .strip_prefix("fairlead:location:")
                .or_else(|| name.strip_prefix("syft:location:"))
            {
                match place.split_once(':') {
                    Some((number, "path")) => {
                        said.places.entry(number).or_default().0 = Some(value)
                    }
                    // Only Fairlead's own bills say it for each place.
                    Some((number, "owner")) if name.starts_with("fairlead:") => {
                        said.places.entry(number).or_default().1 = Some(value);
                    }
                    Some(_) | None => {}
                }
            } else if name == "syft:metadata:source" {
                said.source_name = Some(value);
            } else if name == "syft:metadata:sourceVersion" {
                said.source_version = Some(value);
            } else if name == UNASSESSED || name == OMITTED {
                bill.add_mark(name, value);
            }
        }
        said
    }

    /// The source package, its version put together from its parts.
    fn source(&self) -> Option<SourcePackage> {
        let some = |text: Option<&'a str>| text.map(str::trim).filter(|text| !text.is_empty());
        let name = some(self.source_name)?.to_owned();
        let version = some(self.source_version).map(|version| {
            let epoch = some(self.source_epoch).filter(|e| *e != "0" && !version.contains(':'));
            let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
            match some(self.source_release) {
                Some(release) => format!("{epoch}{version}-{release}"),
                None => format!("{epoch}{version}"),
            }
        });
        Some(SourcePackage { name, version })
    }

    fn found(&self) -> Vec<Location> {
        let owned = |text: &str| text.to_owned();
        let mut found: Vec<Location> = self
            .places
            .values()
            .map(|(path, owner)| Location {
                path: path.map(owned).unwrap_or_default(),
                owner: owner.filter(|owner| !owner.trim().is_empty()).map(owned),
            })
            .collect();
        if found.is_empty() {
            let path = self.path.map(owned);
            found.extend(path.map(|path| Location { path, owner: None }));
        }
        found
    }
}
