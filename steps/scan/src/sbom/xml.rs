//! `CycloneDX` as XML: brought into the form that the JSON documents have, and read as one of them.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value, json};

use super::{Bill, SbomError, cut, cyclonedx};

/// How deep elements may be nested, and how many there may be. Far above any document of the most
/// packages that are read.
const MAX_DEPTH: usize = 128;
const MAX_ELEMENTS: usize = 20_000_000;

/// What the namespace of a document begins with; its version follows.
const NAMESPACE: &str = "http://cyclonedx.org/schema/bom/";

/// One element.
#[derive(Debug, Default)]
struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

/// Reads a document.
///
/// # Errors
/// When it is no XML, or no `CycloneDX`.
pub(super) fn read(bytes: &[u8], bill: &mut Bill) -> Result<(), SbomError> {
    let root = parse(bytes)?;
    let namespaces =
        root.attributes.iter().filter(|(key, _)| key == "xmlns" || key.starts_with("xmlns:"));
    let mut versions = namespaces.filter_map(|(_, value)| value.strip_prefix(NAMESPACE));
    let version = versions.next().filter(|_| root.name == "bom").ok_or(SbomError::Unknown)?;
    if !version.starts_with("1.") {
        return Err(SbomError::Version(format!("CycloneDX {}", cut(version, 40))));
    }
    let document = json!({
        "metadata": root.child("metadata").map(|metadata| json!({
            "component": metadata.child("component").map(component),
            "properties": properties(metadata),
        })),
        "components": components(&root),
        "compositions": root.all("compositions", "composition").map(|one| {
            let has = |name: &str| one.child(name).map(|_| json!([]));
            json!({
                "aggregate": one.text_of("aggregate"),
                "assemblies": has("assemblies"),
                "dependencies": has("dependencies"),
                "vulnerabilities": has("vulnerabilities"),
            })
        }).collect::<Vec<_>>(),
        "properties": properties(&root),
    });
    cyclonedx::read(&serde_json::to_vec(&document).unwrap_or_default(), bill)
}

fn components(parent: &Element) -> Vec<Value> {
    parent.all("components", "component").map(component).collect()
}

fn component(element: &Element) -> Value {
    let mut fields = Map::new();
    fields.insert("type".to_owned(), json!(element.attribute("type")));
    for key in ["group", "name", "version", "purl"] {
        fields.insert(key.to_owned(), json!(element.text_of(key)));
    }
    fields.insert("properties".to_owned(), Value::Array(properties(element)));
    fields.insert("components".to_owned(), Value::Array(components(element)));
    Value::Object(fields)
}

fn properties(parent: &Element) -> Vec<Value> {
    let all = parent.all("properties", "property");
    all.map(|one| json!({"name": one.attribute("name"), "value": one.text.trim()})).collect()
}

impl Element {
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The elements `name` in the element `list`.
    fn all<'a>(&'a self, list: &str, name: &'a str) -> impl Iterator<Item = &'a Self> {
        let within = self.child(list).into_iter().flat_map(|list| &list.children);
        within.filter(move |child| child.name == name)
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim()).filter(|text| !text.is_empty())
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Takes a document apart. Entities that a document declares itself are not known here, so none of
/// them can grow.
fn parse(bytes: &[u8]) -> Result<Element, SbomError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| SbomError::Xml("it is not UTF-8".to_owned()))?;
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    let bad = |error: &dyn std::fmt::Display| SbomError::Xml(error.to_string());
    let mut open: Vec<Element> = vec![Element::default()];
    let mut count = 0;
    loop {
        let event = reader.read_event().map_err(|error| bad(&error))?;
        match event {
            Event::Start(start) => {
                count += 1;
                if open.len() > MAX_DEPTH || count > MAX_ELEMENTS {
                    let limit = format!("it has more than {MAX_DEPTH} levels or too many elements");
                    return Err(SbomError::Malformed(limit));
                }
                open.push(element(&start)?);
            }
            Event::Empty(start) => {
                let element = element(&start)?;
                open.last_mut().into_iter().for_each(|parent| {
                    parent.children.push(Element {
                        name: element.name.clone(),
                        attributes: element.attributes.clone(),
                        ..Element::default()
                    })
                });
            }
            Event::End(_) => {
                let done = open.pop().filter(|_| !open.is_empty());
                let (Some(done), Some(parent)) = (done, open.last_mut()) else {
                    return Err(bad(&"an element ends that did not begin"));
                };
                parent.children.push(done);
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|error| bad(&error))?;
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&text);
                }
            }
            Event::CData(data) => {
                let data = data.decode().map_err(|error| bad(&error))?;
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&data);
                }
            }
            Event::GeneralRef(name) => {
                let name = name.decode().map_err(|error| bad(&error))?;
                let text = entity(&name)
                    .ok_or_else(|| bad(&format!("the entity `{name}` is not known")))?;
                if let Some(element) = open.last_mut() {
                    element.text.push(text);
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let mut document =
        open.pop().filter(|_| open.is_empty()).ok_or_else(|| bad(&"it ends early"))?;
    document.children.pop().ok_or_else(|| bad(&"it has no element"))
}

/// A character that is written as an entity.
fn entity(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let number = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

fn element(start: &BytesStart<'_>) -> Result<Element, SbomError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| SbomError::Xml(error.to_string()))?;
        let value = String::from_utf8_lossy(&attribute.value).into_owned();
        let value = quick_xml::escape::unescape(&value)
            .map_err(|error| SbomError::Xml(error.to_string()))?
            .into_owned();
        attributes.push((text(attribute.key.as_ref()), value));
    }
    Ok(Element { name: text(start.local_name().as_ref()), attributes, ..Element::default() })
}
