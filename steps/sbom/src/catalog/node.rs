//! Node packages: `package.json` (docs.npmjs.com, "package.json").

use serde_json::Value;

/// A Node package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePackage {
    /// The name, with its `@scope/` where it has one.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
}

/// What a `package.json` says; `None` without a name and a version, as in the stubs that only set
/// the module type of a folder.
///
/// # Errors
/// When it is no JSON object.
pub(crate) fn package(bytes: &[u8]) -> Result<Option<NodePackage>, String> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(json) = json else { return Err("it is no JSON object".to_owned()) };
    let text = |key: &str| json.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(name), Some(version)) = (text("name"), text("version")) else { return Ok(None) };
    let name_of = |license: &Value| match license {
        Value::String(name) => Some(name.clone()),
        Value::Object(object) => object.get("type").and_then(Value::as_str).map(str::to_owned),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    };
    let license = json.get("license").and_then(name_of).or_else(|| {
        // The old form: a list of licenses, of which the user takes one.
        let all = json.get("licenses")?.as_array()?;
        let names: Vec<String> = all.iter().filter_map(name_of).collect();
        (!names.is_empty()).then(|| names.join(" OR "))
    });
    Ok(Some(NodePackage {
        name: name.to_owned(),
        version: version.to_owned(),
        license: license.filter(|name| !name.is_empty()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_version_and_license_are_read() {
        for (json, want) in [
            (r#"{"name":"a","version":"1.0.0","license":"MIT"}"#, Some(("a", Some("MIT")))),
            (
                r#"{"name":"@s/b","version":"1","license":{"type":"ISC"}}"#,
                Some(("@s/b", Some("ISC"))),
            ),
            (
                r#"{"name":"c","version":"1","licenses":[{"type":"MIT"},"ISC",{}]}"#,
                Some(("c", Some("MIT OR ISC"))),
            ),
            (r#"{"name":"d","version":"1","license":["x"]}"#, Some(("d", None))),
            (r#"{"type":"module"}"#, None),
            (r#"{"name":"e","version":""}"#, None),
            (r#"{"name":1,"version":2}"#, None),
        ] {
            let found = package(json.as_bytes()).unwrap();
            let brief = found.as_ref().map(|p| (&*p.name, p.license.as_deref()));
            assert_eq!(brief, want, "{json}");
        }
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let deep = "[".repeat(100_000);
        for bad in ["", "{", "[]", "\u{0}", &deep] {
            assert!(package(bad.as_bytes()).is_err());
        }
    }
}
