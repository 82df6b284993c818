//! `fairlead sbom`: bills of materials in files.

use std::path::Path;

use fairlead_step_scan::{Comparison, Side};

use super::Context;
use crate::cli::SbomCommand;
use crate::exit::{Exit, Stop};
use crate::output::tame;

/// The most bytes of a bill.
const LONGEST: u64 = 256 << 20;

pub(crate) fn sbom(context: &Context<'_>, command: &SbomCommand) -> Result<Exit, Stop> {
    match command {
        SbomCommand::Diff { first, second, json } => diff(context, first, second, *json),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    let cannot = |error: &std::io::Error| {
        Stop::usage(format!("cannot read {}", path.display())).because(error)
    };
    let size = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > LONGEST {
        return Err(Stop::usage(format!("{} is over 256 MiB", path.display())));
    }
    std::fs::read(path).map_err(|error| cannot(&error))
}

fn diff(context: &Context<'_>, first: &Path, second: &Path, json: bool) -> Result<Exit, Stop> {
    let (before, after) = (read(first)?, read(second)?);
    let (one, two) = (first.display().to_string(), second.display().to_string());
    let found = Comparison::of((&one, &before), (&two, &after)).map_err(|error| {
        Stop::usage(error.to_string())
            .hint("SPDX 2 (JSON, tags and values) and CycloneDX 1 (JSON, XML) are read")
    })?;
    if json {
        context.output.json(&found)?;
        return Ok(Exit::Passed);
    }
    let line = |sign: &str, text: &str, versions: &str| {
        let versions = if versions.is_empty() { "-" } else { versions };
        context.output.data(format!("{sign} {} {}", tame(text), tame(versions)));
    };
    let sides = |sign: &str, all: &[Side]| {
        all.iter().for_each(|side| line(sign, &side.package, &side.versions.join(", ")));
    };
    sides("+", &found.added);
    sides("-", &found.removed);
    for change in &found.changed {
        let none = |versions: &[String]| match versions {
            [] => "-".to_owned(),
            some => some.join(", "),
        };
        let versions = format!("{} -> {}", none(&change.from), none(&change.to));
        line("~", &change.package, &versions);
    }
    found.unread_added.iter().for_each(|mark| line("+", "not read:", mark));
    found.unread_removed.iter().for_each(|mark| line("-", "not read:", mark));
    context.output.say(format!(
        "{} added, {} removed, {} changed, {} the same",
        found.added.len(),
        found.removed.len(),
        found.changed.len(),
        found.same
    ));
    Ok(Exit::Passed)
}
