//! Edits of the files of others: every scalar and every mapping of YAML's own test suite is edited
//! rightly, or refused in words. What is right comes from the suite's JSON and from libyaml, not
//! from the reader that the edits go by.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::{Path as FsPath, PathBuf};

use serde_json::Value as Json;

use crate::edit::{Aliases, DocumentName, EditError, Value};
use crate::file::File;
use crate::route::Path;

/// The folder of the suite, which is no part of this repository.
fn folder() -> Option<PathBuf> {
    let beside = FsPath::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/peers");
    let folder = beside.join("yaml-test-suite/src");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

struct Case {
    name: String,
    yaml: String,
    json: Option<Vec<Json>>,
}

/// Makes the visible signs for blanks and breaks what they stand for.
fn unescaped(text: &str) -> String {
    let mut yaml = text.replace('␣', " ").replace('←', "\r").replace('⇔', "\u{feff}");
    yaml = yaml.replace('↵', "");
    while yaml.contains("—»") {
        yaml = yaml.replace("—»", "»");
    }
    yaml = yaml.replace('»', "\t");
    if let Some(at) = yaml.find('∎') {
        yaml.truncate(at);
    }
    yaml
}

fn cases(folder: &FsPath) -> Vec<Case> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let tests: Vec<yaml_serde::Value> = yaml_serde::from_str(&text).unwrap();
        for (number, test) in tests.iter().enumerate() {
            let Some(yaml) = test.get("yaml").and_then(yaml_serde::Value::as_str) else { continue };
            let json = test.get("json").and_then(yaml_serde::Value::as_str).map(|json| {
                let values = serde_json::Deserializer::from_str(json).into_iter::<Json>();
                values.collect::<Result<Vec<_>, _>>().unwrap()
            });
            let json = json.filter(|_| test.get("fail").is_none());
            let name = format!("{}/{number}", file.file_stem().unwrap().to_string_lossy());
            cases.push(Case { name, yaml: unescaped(yaml), json });
        }
    }
    cases
}

/// Every place of a value, as a path and as a pointer.
fn places(value: &Json, path: &str, pointer: &str, found: &mut Vec<(String, String)>) {
    if !path.is_empty() {
        found.push((path.to_owned(), pointer.to_owned()));
    }
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let path = format!("{path}[\"{key}\"]");
                places(value, &path, &format!("{pointer}/{escaped}"), found);
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{path}[{index}]"), &format!("{pointer}/{index}"), found);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// How libyaml reads a file, as JSON; `None` where it does not, or where JSON has no such thing.
fn second(text: &str) -> Option<Vec<Json>> {
    use serde::Deserialize as _;
    let documents = yaml_serde::Deserializer::from_str(text);
    documents.map(|document| Json::deserialize(document).ok()).collect()
}

#[test]
fn every_scalar_of_the_suite_is_edited_rightly_or_refused() {
    let Some(folder) = folder() else { return };
    let new = "it's: edited";
    let (mut edited, mut added, mut proven, mut refused) = (0, 0, 0, Vec::new());
    for case in cases(&folder) {
        // A file that must not be read is at least no reason to stop.
        let Some(documents) = &case.json else {
            let path: Path = "a".parse().unwrap();
            if let Ok(mut file) = File::parse("f", &case.yaml, None, Aliases::Follow) {
                drop(file.set(&path, &Value::Text(new.into())));
            }
            continue;
        };
        for (index, document) in documents.iter().enumerate() {
            let mut found = Vec::new();
            places(document, "", "", &mut found);
            for (path, pointer) in found {
                let Ok(path) = path.parse::<Path>() else { continue };
                let mut wanted = documents.clone();
                let place = wanted[index].pointer_mut(&pointer).unwrap();
                let adds = place.is_object();
                if let Json::Object(map) = place {
                    map.insert("tag".into(), new.into());
                } else {
                    *place = new.into();
                }
                let which = (documents.len() > 1).then_some(DocumentName::Index(index));
                let made = File::parse("f", &case.yaml, which.as_ref(), Aliases::Refuse).and_then(
                    |mut file| {
                        if adds {
                            file.set_or_add(&path, "tag", new)?;
                        } else {
                            file.set(&path, &Value::Text(new.into()))?;
                        }
                        Ok(file.into_text())
                    },
                );
                let after = match made {
                    Ok(after) => after,
                    Err(error) => {
                        assert!(!matches!(error, EditError::NotAnImage { .. }));
                        refused.push(format!("{} {path}: {error}", case.name));
                        continue;
                    }
                };
                if adds {
                    added += 1
                } else {
                    edited += 1
                }
                // The suite's JSON is the judge where libyaml agrees with it about the file.
                if second(&case.yaml).as_ref() == Some(documents) {
                    proven += 1;
                    assert_eq!(second(&after), Some(wanted), "{}: {path}\n{after}", case.name);
                }
                let lines = |text: &str| text.split_inclusive('\n').count();
                assert!(lines(&after) <= lines(&case.yaml) + 1, "{}: {after}", case.name);
            }
        }
    }
    eprintln!(
        "edited {edited}, added {added}, of these proven {proven}, refused {}",
        refused.len()
    );
    for line in &refused {
        eprintln!("  {line}");
    }
    assert!(edited > 300 && added > 50 && proven > 300, "{edited} {added} {proven}");
}
