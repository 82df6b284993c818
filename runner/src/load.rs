//! Files into plans and events.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fairlead_event::{CloudEvent, SourceEvent};
use fairlead_plan::{Compiled, MAX_SOURCE_BYTES, Plan, Source, compile};
use fairlead_step::Catalog;
use fairlead_step_lint::is_dockerfile;
use serde_json::Value;

use crate::exit::{Exit, Stop};
use crate::output::Output;
use crate::report;

/// The most bytes of an event file.
const MAX_EVENT: u64 = 1 << 20;

/// Reads at most `limit` bytes of text.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String, Stop> {
    let fail =
        |e: std::io::Error| Stop::usage(format!("cannot read {}", path.display())).because(&e);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(limit + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > limit {
        return Err(Stop::usage(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(text)
}

/// Reads a pipeline file.
pub(crate) fn source(path: &Path) -> Result<Source, Stop> {
    Ok(Source::new(path.display().to_string(), text(path, MAX_SOURCE_BYTES as u64)?))
}

/// Compiles a pipeline file; its findings are told.
pub(crate) fn plan(path: &Path, catalog: &Catalog, output: &Output) -> Result<Plan, Stop> {
    match compile(&source(path)?, catalog) {
        Ok(Compiled { plan, warnings, .. }) => {
            report::tell(&warnings, output);
            Ok(plan)
        }
        Err(findings) => {
            report::tell(&findings, output);
            Err(Stop::told(Exit::Usage))
        }
    }
}

/// The pipeline files below `paths`: files as they are, and of folders what ends in `.yaml` or
/// `.yml`, in order of name.
pub(crate) fn pipeline_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    files_below(paths, is_yaml)
}

/// The same with Dockerfiles, by their names, among those of folders.
pub(crate) fn linted_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    files_below(paths, |file| is_yaml(file) || (is_dockerfile(file, None) && file.is_file()))
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

fn files_below(paths: &[PathBuf], fits: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, Stop> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let fail = |e: std::io::Error| {
            Stop::usage(format!("cannot read the folder {}", path.display())).because(&e)
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let file = entry.map_err(fail)?.path();
            if fits(&file) {
                found.push(file);
            }
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Parameters as `--set` gives them.
pub(crate) fn params(plan: &Plan, set: &[String]) -> Result<Value, Stop> {
    let mut given = BTreeMap::new();
    for text in set {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Stop::usage(format!("`--set {text}` has no `=`")).hint("write `--set NAME=VALUE`")
        })?;
        given.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    plan.bind(&given).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let stop = Stop::usage(lines.join("; "));
        problems.into_iter().filter_map(|p| p.hint).fold(stop, Stop::hint)
    })
}

/// An event from a file with a CloudEvent: its id, and what expressions see.
pub(crate) fn event(path: &Path) -> Result<(String, Value), Stop> {
    let name = path.display();
    let wrong = |e: &dyn std::error::Error| {
        Stop::usage(format!("{name} is not an event that Fairlead knows")).because(e).hint(
            "give a CloudEvent as JSON, of a type such as `dev.fairlead.image.pushed.v1`; \
             docs/events.md has their fields",
        )
    };
    let cloud = CloudEvent::from_json(text(path, MAX_EVENT)?.as_bytes()).map_err(|e| wrong(&e))?;
    let event = SourceEvent::from_cloud_event(&cloud).map_err(|e| wrong(&e))?;
    Ok((cloud.id, event.template_value()))
}
