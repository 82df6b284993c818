//! Rules about base images.

use crate::analysis::{Analysis, ImageName, Out};
use crate::dockerfile::{Instruction, Keyword, variables};
use crate::rule;

/// What BuildKit declares by itself before the first `FROM`.
const PLATFORM_ARGS: &[&str] = &[
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for stage in &a.stages {
        let from = a.steps[stage.from].instruction;
        undefined(a, from, out);
        if let Some(platform) = from.flag("platform")
            && platform.value.as_deref().is_some_and(|value| !value.contains('$'))
        {
            let message =
                format!("`--platform={}` is fixed", platform.value.as_deref().unwrap_or(""));
            out.tell(&rule::FIXED_PLATFORM, from, platform.span.clone(), message);
        }
        if let Some(platform) = from.flag("platform")
            && platform
                .value
                .as_deref()
                .is_some_and(|v| matches!(v, "$TARGETPLATFORM" | "${TARGETPLATFORM}"))
        {
            let message = "`$TARGETPLATFORM` is what holds anyway";
            let span = platform.span.clone();
            let draft = out.tell(&rule::REDUNDANT_PLATFORM, from, span.clone(), message);
            let blanks =
                a.text[span.end..].len() - a.text[span.end..].trim_start_matches([' ', '\t']).len();
            draft.edit(span.start..span.end + blanks, "");
        }
        if stage.parent.is_some() || stage.image.value.eq_ignore_ascii_case("scratch") {
            continue;
        }
        // What is in a variable can be told when an `ARG` before it has a default.
        let Some(value) = a.with_global_args(&stage.image) else { continue };
        if value.eq_ignore_ascii_case("scratch") || a.stage(&value, stage.from).is_some() {
            continue;
        }
        let image = ImageName::of(&value);
        let span = stage.image.span.clone();
        let shown = value.escape_debug();
        if image.digest.is_none() {
            match image.tag {
                None | Some("") => {
                    let message = format!("`{shown}` has no tag");
                    out.tell(&rule::UNTAGGED, from, span.clone(), message);
                }
                Some("latest") => {
                    let message = format!("`{shown}` is whatever is the latest");
                    out.tell(&rule::LATEST, from, span.clone(), message);
                }
                Some(_) => {
                    let message = format!("`{shown}` has no digest");
                    out.tell(&rule::NO_DIGEST, from, span.clone(), message);
                }
            }
        }
        let trusted = &a.config.trusted;
        if !trusted.is_empty() && !trusted.iter().any(|glob| glob.is_match(image.registry)) {
            let message = format!("`{}` is not a trusted registry", image.registry);
            out.tell(&rule::UNTRUSTED_REGISTRY, from, span, message);
        }
    }
}

/// Variables of a `FROM` that nothing before the first `FROM` declares.
fn undefined(a: &Analysis<'_>, from: &Instruction, out: &mut Out) {
    let global: Vec<String> = a
        .steps
        .iter()
        .take_while(|step| step.stage.is_none())
        .filter(|step| step.instruction.keyword == Keyword::Arg)
        .flat_map(|step| step.instruction.pairs())
        .map(|pair| pair.name.value)
        .collect();
    let words = from.words();
    let parts = words.first().map(|word| (word.raw.clone(), word.span.clone()));
    let flags = from.flags.iter().map(|flag| (flag.text.clone(), flag.span.clone()));
    for (text, span) in parts.into_iter().chain(flags) {
        for (name, guarded, _) in variables(&text, from.escape) {
            if !guarded && !global.contains(&name) && !PLATFORM_ARGS.contains(&name.as_str()) {
                let message = format!("no `ARG` above the first `FROM` declares `{name}`");
                out.tell(&rule::UNDEFINED_IN_FROM, from, span.clone(), message);
            }
        }
    }
}
