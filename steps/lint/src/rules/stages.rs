//! Rules about stages and how they use one another.

use std::collections::BTreeSet;

use crate::analysis::{Analysis, ImageName, Out};
use crate::dockerfile::Keyword;
use crate::rule;

/// Images that are for building.
const TOOLCHAINS: &[&str] = &[
    "golang",
    "rust",
    "maven",
    "gradle",
    "gcc",
    "buildpack-deps",
    "sdk",
    "haskell",
    "swift",
    "clojure",
    "sbt",
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    names(a, out);
    let used = copies(a, out);
    unused(a, &used, out);
    toolchain(a, out);
    casing(a, out);
}

fn names(a: &Analysis<'_>, out: &mut Out) {
    for (index, stage) in a.stages.iter().enumerate() {
        let from = a.steps[stage.from].instruction;
        let Some(name) = &stage.name else { continue };
        if a.stages[..index].iter().any(|other| other.is_called(&name.value)) {
            let message = format!("there is a stage `{}` already", name.value.escape_debug());
            out.tell(&rule::STAGE_TWICE, from, name.span.clone(), message);
        }
        if ["scratch", "context"].iter().any(|word| name.value.eq_ignore_ascii_case(word)) {
            let message = format!("`{}` is a reserved name", name.value);
            out.tell(&rule::STAGE_RESERVED, from, name.span.clone(), message);
        }
    }
}

/// Looks at each `--from`; the stages that something is copied or mounted from.
fn copies(a: &Analysis<'_>, out: &mut Out) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    for step in &a.steps {
        let (instruction, Some(stage)) = (step.instruction, step.stage) else { continue };
        for flag in instruction.flags.iter().filter(|flag| flag.name == "mount") {
            let from = flag.value.iter().flat_map(|value| value.split(','));
            for name in from.filter_map(|part| part.strip_prefix("from=")) {
                used.extend(a.stage(name, stage + 1));
            }
        }
        if !matches!(instruction.keyword, Keyword::Copy | Keyword::Add) {
            continue;
        }
        let Some(flag) = instruction.flag("from") else { continue };
        let Some(name) = flag.value.as_deref() else { continue };
        let span = flag.span.clone();
        if a.stages[stage].is_called(name) || name.parse() == Ok(stage) {
            let message = format!("`{}` is this stage", name.escape_debug());
            out.tell(&rule::FROM_SELF, instruction, span, message);
        } else if let Some(found) = a.stage(name, stage) {
            used.insert(found);
        } else if let Some(later) = a.stages.iter().find(|other| other.is_called(name)) {
            let line = a.steps[later.from].line();
            let message =
                format!("the stage `{}` begins later, on line {line}", name.escape_debug());
            out.tell(&rule::FROM_LATER, instruction, span, message);
        } else if !name.contains(['/', ':', '@', '$']) {
            let message = format!("there is no stage `{}`", name.escape_debug());
            out.tell(&rule::FROM_UNKNOWN, instruction, span, message);
        }
    }
    used
}

fn unused(a: &Analysis<'_>, used: &BTreeSet<usize>, out: &mut Out) {
    let Some(last) = a.stages.len().checked_sub(1) else { return };
    for (index, stage) in a.stages[..last].iter().enumerate() {
        let built_on = a.stages.iter().any(|other| other.parent == Some(index));
        let mentioned = |name: &str| {
            let variable = a.stages.iter().any(|other| other.image.has_variable());
            // A variable may stand for any stage.
            variable || name.is_empty()
        };
        let name = stage.name.as_ref().map_or("", |name| name.value.as_str());
        if !used.contains(&index)
            && !built_on
            && !mentioned(if name.is_empty() { "-" } else { name })
        {
            let from = a.steps[stage.from].instruction;
            let message = match name {
                "" => format!("nothing uses stage {index}"),
                name => format!("nothing uses the stage `{}`", name.escape_debug()),
            };
            let span = stage.name.as_ref().map_or(from.head.clone(), |name| name.span.clone());
            out.tell(&rule::STAGE_UNUSED, from, span, message);
        }
    }
}

fn toolchain(a: &Analysis<'_>, out: &mut Out) {
    let Some(last) = a.stages.len().checked_sub(1) else { return };
    let from = a.steps[a.stages[last].from].instruction;
    let base = a.base(last);
    let value = a.with_global_args(base).unwrap_or_else(|| base.value.clone());
    let image = ImageName::of(&value);
    let tag = image.tag.unwrap_or_default();
    let jdk = tag.contains("jdk") || image.short().ends_with("-jdk");
    if TOOLCHAINS.contains(&image.short()) || jdk {
        let message = format!("`{}` is an image to build with", value.escape_debug());
        let span = a.stages[last].image.span.clone();
        out.tell(&rule::TOOLCHAIN, from, span, message);
        return;
    }
    for index in a.lineage(last) {
        let step = &a.steps[index];
        if step.instruction.keyword != Keyword::Run {
            continue;
        }
        let builds = step.commands.iter().find(|command| match command.name.as_str() {
            "go" | "cargo" => command.verb_is(&["build", "install"]),
            "mvn" | "mvnw" => command.verb_is(&["package", "install", "verify"]),
            "gradle" | "gradlew" => command.plain().any(|word| {
                word.value.to_lowercase().contains("build") || word.value.contains("Jar")
            }),
            "dotnet" => command.verb_is(&["publish", "build"]),
            "npm" | "pnpm" => command.verb_is(&["run"]) && command.has("build"),
            "yarn" => {
                command.verb_is(&["build"]) || (command.verb_is(&["run"]) && command.has("build"))
            }
            _ => false,
        });
        if let Some(command) = builds {
            let message = format!("the final image is built with `{}` in it", command.name);
            out.tell(&rule::TOOLCHAIN, step.instruction, command.span.clone(), message);
            return;
        }
    }
}

fn casing(a: &Analysis<'_>, out: &mut Out) {
    for stage in &a.stages {
        let from = a.steps[stage.from].instruction;
        let words = from.words();
        let Some(between) = words.get(1).filter(|_| words.len() == 3) else { continue };
        let upper = from.written.bytes().all(|byte| byte.is_ascii_uppercase());
        let want = if upper { "AS" } else { "as" };
        // A keyword in small letters is mended to capitals, and its `as` then after it.
        if between.raw != want && upper {
            let message = format!("`{}` beside `{}`", between.raw, from.written);
            let span = between.span.clone();
            out.tell(&rule::AS_CASE, from, span.clone(), message).edit(span, want);
        }
    }
}
