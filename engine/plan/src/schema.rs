//! JSON Schemas of step kinds: finding a place in one, saying what it wants, and whether what one
//! place gives can be what another one wants.

use fairlead_step::schema_format as format;
use serde_json::Value;

use crate::expression::Key;

/// The formats that carry a Fairlead type; any other `format` is only an annotation.
const TYPED: [&str; 7] = [
    format::DIGEST,
    format::IMAGE,
    format::IMAGE_REF,
    format::REPOSITORY,
    format::ARTIFACT,
    format::SECRET,
    format::DURATION,
];

/// What a path leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// This schema.
    Schema(Value),
    /// Something of which the schema says nothing.
    Open,
    /// Nothing: the object has only these properties.
    Missing { name: String, known: Vec<String> },
}

/// The Fairlead type of a schema.
pub(crate) fn typed_format(schema: &Value) -> Option<&str> {
    let format = schema.get("format")?.as_str()?;
    TYPED.contains(&format).then_some(format)
}

/// The schema that a `$ref` within `root` names; schemas of kinds are inlined, so this happens only
/// where a type holds itself.
pub(crate) fn resolve<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let target = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| reference.strip_prefix('#'))
        .and_then(|pointer| root.pointer(pointer));
    target.unwrap_or(schema)
}

/// The alternatives of `anyOf` or `oneOf`.
pub(crate) fn alternatives(schema: &Value) -> Option<&[Value]> {
    let list = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    list.as_array().map(Vec::as_slice)
}

/// The JSON types that a schema allows; none when it does not say.
pub(crate) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => return vec![one],
        Some(Value::Array(many)) => return many.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => {}
    }
    if let Some(constant) = schema.get("const") {
        return vec![type_of(constant)];
    }
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values.iter().map(type_of).collect();
    }
    match alternatives(schema) {
        Some(list) => {
            let each: Vec<Vec<&str>> = list.iter().map(types).collect();
            if each.iter().any(Vec::is_empty) { Vec::new() } else { each.concat() }
        }
        None => Vec::new(),
    }
}

pub(crate) const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether the JSON type `given` is among `wanted`. A number without a fraction is an integer.
pub(crate) fn allows(wanted: &[&str], given: &Value) -> bool {
    let integer = given.is_i64() || given.is_u64();
    wanted.is_empty() || wanted.contains(&type_of(given)) || integer && wanted.contains(&"integer")
}

/// The values of `enum` or of alternatives that are all constants.
pub(crate) fn choices(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(Value::Array(values)) = schema.get("enum") {
        return Some(values.iter().collect());
    }
    let parts: Option<Vec<Vec<&Value>>> = alternatives(schema)?
        .iter()
        .map(|part| part.get("const").map(|value| vec![value]).or_else(|| choices(part)))
        .collect();
    parts.map(|parts| parts.concat())
}

/// What a schema wants, with its article, for messages.
pub(crate) fn describe(schema: &Value) -> String {
    if let Some(format) = typed_format(schema) {
        return match format {
            format::DIGEST => "a digest",
            format::IMAGE => "an image with its digest",
            format::IMAGE_REF => "an image reference",
            format::REPOSITORY => "a repository",
            format::ARTIFACT => "an artifact",
            format::SECRET => "a secret",
            _ => "a duration",
        }
        .to_owned();
    }
    let mut said: Vec<String> = Vec::new();
    match (types(schema).as_slice(), alternatives(schema)) {
        (_, Some(list)) if choices(schema).is_none() => {
            for part in list.iter().filter(|part| types(part) != ["null"]) {
                let part = describe(part);
                if !said.contains(&part) {
                    said.push(part);
                }
            }
        }
        ([], _) => said.push("a value".into()),
        (names, _) => {
            for name in names.iter().filter(|name| **name != "null") {
                let word = type_word(name).to_owned();
                if !said.contains(&word) {
                    said.push(word);
                }
            }
        }
    }
    if said.is_empty() { "nothing".into() } else { said.join(" or ") }
}

pub(crate) fn type_word(name: &str) -> &'static str {
    match name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "a boolean",
        "array" => "a list",
        "object" => "a mapping",
        "null" => "nothing",
        _ => "a value",
    }
}

/// Follows `path` into `schema`.
pub(crate) fn follow(schema: &Value, path: &[Key], root: &Value) -> Found {
    let schema = resolve(schema, root);
    let Some((key, rest)) = path.split_first() else {
        return Found::Schema(schema.clone());
    };
    if let Some(list) = alternatives(schema) {
        let mut missing = None;
        for part in list.iter().filter(|part| types(part) != ["null"]) {
            match follow(part, path, root) {
                found @ (Found::Schema(_) | Found::Open) => return found,
                found @ Found::Missing { .. } => missing = Some(found),
            }
        }
        return missing.unwrap_or(Found::Open);
    }
    match key {
        Key::Index => match schema.get("items") {
            Some(items @ Value::Object(_)) => follow(items, rest, root),
            Some(_) | None => Found::Open,
        },
        Key::Name(name) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            if let Some(next) = properties.and_then(|properties| properties.get(name)) {
                return follow(next, rest, root);
            }
            match schema.get("additionalProperties") {
                Some(more @ Value::Object(_)) => return follow(more, rest, root),
                Some(Value::Bool(true)) => return Found::Open,
                Some(_) | None => {}
            }
            let known = properties.map(|list| list.keys().cloned().collect()).unwrap_or_default();
            let closed =
                properties.is_some() || !matches!(types(schema).as_slice(), [] | ["object"]);
            if closed { Found::Missing { name: name.clone(), known } } else { Found::Open }
        }
    }
}

/// Whether what fits `given` can ever fit `wanted`: types must meet, Fairlead types must agree.
pub(crate) fn compatible(given: &Value, wanted: &Value) -> bool {
    let live = |list: &[Value]| -> Vec<Value> {
        list.iter().filter(|part| types(part) != ["null"]).cloned().collect()
    };
    if let Some(list) = alternatives(given).filter(|_| choices(given).is_none()) {
        let list = live(list);
        return list.is_empty() || list.iter().any(|part| compatible(part, wanted));
    }
    if let Some(list) = alternatives(wanted).filter(|_| choices(wanted).is_none()) {
        return live(list).iter().any(|part| compatible(given, part));
    }
    let (from, to) = (types(given), types(wanted));
    let meet = from.is_empty()
        || to.is_empty()
        || from.iter().filter(|name| **name != "null").any(|name| {
            to.contains(name)
                || matches!(*name, "integer" | "number")
                    && (to.contains(&"number") || to.contains(&"integer"))
        });
    let formats = match (typed_format(given), typed_format(wanted)) {
        (_, Some(format::SECRET)) | (Some(format::SECRET), _) => false,
        // An image is a reference that is pinned.
        (Some(format::IMAGE), Some(format::IMAGE_REF)) => true,
        (Some(given), Some(wanted)) => given == wanted,
        (None, Some(format::ARTIFACT)) => from.is_empty(),
        (_, None) | (None, Some(_)) => true,
    };
    let items = match (given.get("items"), wanted.get("items")) {
        (Some(given @ Value::Object(_)), Some(wanted @ Value::Object(_))) => {
            compatible(given, wanted)
        }
        _ => true,
    };
    meet && formats && items
}

/// Whether null may stand at a place with this schema; where it says nothing, it may.
pub(crate) fn takes_null(schema: &Value) -> bool {
    if let Some(list) = alternatives(schema) {
        return list.iter().any(takes_null);
    }
    let types = types(schema);
    types.is_empty() || types.contains(&"null")
}

/// Whether a secret may stand at a place with this schema.
pub(crate) fn takes_secret(schema: &Value) -> bool {
    typed_format(schema) == Some(format::SECRET)
        || alternatives(schema).is_some_and(|list| list.iter().any(takes_secret))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_gives_and_what_wants_are_compared() {
        let image = json!({"type": "string", "format": "image"});
        let text = json!({"type": "string"});
        let artifact = json!({"type": "object", "format": "artifact"});
        let secret = json!({"type": "string", "format": "secret"});
        let reference = json!({"type": "string", "format": "image-ref"});
        let maybe = |schema: &Value| json!({"anyOf": [schema, {"type": "null"}]});
        let list = |schema: &Value| json!({"type": "array", "items": schema});
        for (given, wanted, want) in [
            (&image, &image, true),
            (&image, &text, true),
            (&text, &image, true),
            (&image, &reference, true),
            (&reference, &image, false),
            (&image, &artifact, false),
            (&artifact, &image, false),
            (&artifact, &text, false),
            (&image, &secret, false),
            (&text, &secret, false),
            (&maybe(&image), &image, true),
            (&image, &maybe(&image), true),
            (&image, &maybe(&artifact), false),
            (&list(&image), &list(&text), true),
            (&list(&image), &list(&artifact), false),
            (&image, &list(&image), false),
            (&json!({"type": "integer"}), &json!({"type": "number"}), true),
            (&json!({"type": "boolean"}), &json!({"type": "number"}), false),
            (&json!(true), &image, true),
            (&text, &json!({"enum": ["a", "b"]}), true),
        ] {
            assert_eq!(compatible(given, wanted), want, "{given} → {wanted}");
        }
    }

    #[test]
    fn a_path_is_followed_into_a_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "report": {"anyOf": [{"type": "object", "properties": {"name": {"type": "string"}}}, {"type": "null"}]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "free": {"type": "object"},
                "text": {"type": "string"},
            },
        });
        let go = |path: &[&str]| {
            let path: Vec<Key> = path
                .iter()
                .map(|key| if *key == "0" { Key::Index } else { Key::Name((*key).into()) })
                .collect();
            match follow(&schema, &path, &schema) {
                Found::Schema(schema) => describe(&schema),
                Found::Open => "open".into(),
                Found::Missing { name, .. } => format!("no {name}"),
            }
        };
        assert_eq!(go(&["report", "name"]), "a text");
        assert_eq!(go(&["report", "size"]), "no size");
        assert_eq!(go(&["tags", "0"]), "a text");
        assert_eq!(go(&["free", "x", "y"]), "open");
        assert_eq!(go(&["text", "x"]), "no x");
        assert_eq!(go(&["nope"]), "no nope");
    }
}
