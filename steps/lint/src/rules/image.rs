//! Rules about the configuration of the image: users, ports, commands, variables.

use std::collections::BTreeSet;

use crate::analysis::{Analysis, ImageName, Out};
use crate::dockerfile::{Instruction, Keyword, variables};
use crate::rule::{self, Rule};

/// What a builder declares once an `ARG` in the stage names it.
const PLATFORM_ARGS: &[&str] = &[
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    users(a, out);
    health(a, out);
    several(a, out);
    forms(a, out);
    for (_, instruction) in a.with(Keyword::User) {
        let Some(word) = instruction.words().into_iter().next() else { continue };
        let name = word.value.split(':').next().unwrap_or_default();
        let number = name.bytes().all(|byte| byte.is_ascii_digit());
        if !number && !word.has_variable() && !is_root(&word.value) {
            let message = format!("`{}` is a name and no number", name.escape_debug());
            out.tell(&rule::USER_NAME, instruction, word.span, message);
        }
    }
    for (_, instruction) in a.with(Keyword::Workdir) {
        workdir(instruction, out);
    }
    for (_, instruction) in a.with(Keyword::Expose) {
        expose(instruction, out);
    }
    for (_, instruction) in a.with(Keyword::Maintainer).filter(|(_, i)| !i.onbuild) {
        maintainer(instruction, out);
    }
    self_reference(a, out);
    undefined(a, out);
    shell_left(a, out);
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name == "root" || name == "0"
}

fn users(a: &Analysis<'_>, out: &mut Out) {
    let Some(last) = a.stages.len().checked_sub(1) else { return };
    for stage in 0..a.stages.len() {
        let user = a.own(stage).rev().find(|(_, s)| s.instruction.keyword == Keyword::User);
        if let Some((_, step)) = user {
            let word = step.instruction.words().into_iter().next();
            if let Some(word) = word.filter(|word| is_root(&word.value)) {
                // What a stage for building runs as is nobody's matter once it is gone.
                if stage == last || a.ships(Some(stage)) && !sets_user(a, last, stage) {
                    let message = "the image runs as root";
                    out.tell(&rule::ROOT_USER, step.instruction, word.span, message);
                }
            }
        }
    }
    let any = a.lineage(last).into_iter().any(|index| {
        a.steps[index].instruction.keyword == Keyword::User && !a.steps[index].instruction.onbuild
    });
    let base = a.base(last);
    let value = a.with_global_args(base).unwrap_or_else(|| base.value.clone());
    if !any && !value.contains("nonroot") {
        let from = a.steps[a.stages[last].from].instruction;
        let message = "nothing says which user the image runs as";
        out.tell(&rule::NO_USER, from, from.head.clone(), message);
    }
}

/// Whether a stage between `stage` and `last` has a `USER` of its own.
fn sets_user(a: &Analysis<'_>, last: usize, stage: usize) -> bool {
    let mut at = last;
    while at != stage {
        if a.own(at).any(|(_, s)| s.instruction.keyword == Keyword::User) {
            return true;
        }
        match a.stages[at].parent {
            Some(parent) => at = parent,
            None => return false,
        }
    }
    false
}

fn health(a: &Analysis<'_>, out: &mut Out) {
    let Some(last) = a.stages.len().checked_sub(1) else { return };
    let any = a
        .lineage(last)
        .into_iter()
        .any(|index| a.steps[index].instruction.keyword == Keyword::Healthcheck);
    if !any {
        let from = a.steps[a.stages[last].from].instruction;
        let message = "nothing tells whether the program in the image works";
        out.tell(&rule::NO_HEALTHCHECK, from, from.head.clone(), message);
    }
}

fn several(a: &Analysis<'_>, out: &mut Out) {
    let kinds: [(Keyword, &'static Rule); 3] = [
        (Keyword::Healthcheck, &rule::HEALTHCHECKS),
        (Keyword::Cmd, &rule::CMDS),
        (Keyword::Entrypoint, &rule::ENTRYPOINTS),
    ];
    for stage in 0..a.stages.len() {
        for (keyword, rule) in kinds {
            let all: Vec<_> =
                a.own(stage).filter(|(_, s)| s.instruction.keyword == keyword).collect();
            let Some(((_, first), rest)) = all.split_first() else { continue };
            for (_, step) in rest {
                let name = step.instruction.written.to_ascii_uppercase();
                let line = first.line();
                let message = format!("another `{name}` stands on line {line}, and does not count");
                let span = step.instruction.keyword_span.clone();
                out.tell(rule, step.instruction, span, message);
            }
        }
    }
}

fn forms(a: &Analysis<'_>, out: &mut Out) {
    for keyword in [Keyword::Cmd, Keyword::Entrypoint] {
        for (index, instruction) in a.with(keyword) {
            if instruction.is_json() || instruction.body.is_empty() {
                continue;
            }
            let name = instruction.written.to_ascii_uppercase();
            let message = format!("`{name}` is shell text");
            let span = instruction.body_span();
            let draft = out.tell(&rule::SHELL_FORM, instruction, span.clone(), message);
            let body = instruction.body_text();
            let simple = |c: char| c.is_ascii_alphanumeric() || " /._:,=+@%-".contains(c);
            let shell = a.steps[..index].iter().any(|s| s.instruction.keyword == Keyword::Shell);
            let words: Vec<&str> = body.split_whitespace().collect();
            let builtin =
                ["cd", "source", ".", "exec", "export", "set", "eval", "test", "true", "exit"];
            let program = words.first().is_some_and(|w| !builtin.contains(w) && !w.contains('='));
            let one_line = span.len() == body.len();
            if body.chars().all(simple) && program && !shell && one_line {
                let list: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                draft.edit(span, format!("[{}]", list.join(", ")));
            }
        }
    }
}

fn workdir(instruction: &Instruction, out: &mut Out) {
    let Some(word) = instruction.words().into_iter().next() else { return };
    let value = word.value.as_str();
    let windows = value.as_bytes().get(1) == Some(&b':');
    if !value.starts_with(['/', '\\', '$']) && !windows {
        let message = format!("`{}` is relative", value.escape_debug());
        let draft = out.tell(&rule::RELATIVE_WORKDIR, instruction, word.span.clone(), message);
        draft.help(format!("write `WORKDIR /{}`", value.trim_start_matches("./").escape_debug()));
    }
}

fn expose(instruction: &Instruction, out: &mut Out) {
    for word in instruction.words() {
        if word.has_variable() {
            continue;
        }
        let (ports, protocol) = match word.value.split_once('/') {
            Some((ports, protocol)) => (ports, Some(protocol)),
            None => (word.value.as_str(), None),
        };
        // `8080:80` is of `docker run`.
        let bad = ports.split('-').any(|port| port.parse::<u16>().is_err());
        let unknown = protocol
            .is_some_and(|p| !["tcp", "udp", "sctp"].contains(&p.to_ascii_lowercase().as_str()));
        if bad || unknown {
            let message = format!("`{}` is not a port", word.value.escape_debug());
            out.tell(&rule::PORT, instruction, word.span.clone(), message);
        } else if ports == "22" {
            out.tell(&rule::SSH_PORT, instruction, word.span.clone(), "port 22 is exposed");
        }
    }
}

fn maintainer(instruction: &Instruction, out: &mut Out) {
    let span = instruction.keyword_span.clone();
    let draft = out.tell(&rule::MAINTAINER, instruction, span, "`MAINTAINER` is deprecated");
    let body = instruction.body_text().trim();
    let quoted = body.len() > 1 && body.starts_with('"') && body.ends_with('"');
    let bare = if quoted { &body[1..body.len() - 1] } else { body };
    if !bare.contains(['"', '\\', '$', '`']) {
        let label = format!("LABEL org.opencontainers.image.authors=\"{bare}\"");
        draft.edit(instruction.head.clone(), label);
    }
}

fn self_reference(a: &Analysis<'_>, out: &mut Out) {
    for (index, instruction) in a.with(Keyword::Env) {
        let before: BTreeSet<String> = match a.steps[index].stage {
            Some(stage) => {
                let earlier = a.lineage(stage).into_iter().filter(|other| *other < index);
                earlier
                    .map(|other| a.steps[other].instruction)
                    .filter(|other| matches!(other.keyword, Keyword::Env | Keyword::Arg))
                    .flat_map(Instruction::pairs)
                    .map(|pair| pair.name.value)
                    .collect()
            }
            None => BTreeSet::new(),
        };
        let pairs = instruction.pairs();
        if !pairs.iter().all(|pair| pair.equals) {
            continue;
        }
        let names: Vec<&str> = pairs.iter().map(|pair| pair.name.value.as_str()).collect();
        for (own, value) in pairs.iter().filter_map(|p| Some((&p.name.value, p.value.as_ref()?))) {
            for (name, _, _) in variables(&value.raw, instruction.escape) {
                // `PATH=$PATH:/x` adds to what the base image has.
                if name != *own && names.contains(&name.as_str()) && !before.contains(&name) {
                    let message = format!("`{name}` is set by this same `ENV`");
                    out.tell(&rule::SELF_REFERENCE, instruction, value.span.clone(), message);
                }
            }
        }
    }
}

/// Variables that nothing sets. What a base image sets is not known, so only those are told that are
/// surely missing: declared before the first `FROM` or in another stage, the platform's, and any where
/// the base is `scratch`.
fn undefined(a: &Analysis<'_>, out: &mut Out) {
    let args = |instruction: &Instruction| instruction.pairs().into_iter().map(|p| p.name.value);
    let elsewhere: BTreeSet<String> = a.with(Keyword::Arg).flat_map(|(_, i)| args(i)).collect();
    for stage in 0..a.stages.len() {
        let empty = a.base(stage).value.eq_ignore_ascii_case("scratch");
        let mut known: BTreeSet<String> = BTreeSet::from(["PATH".to_owned()]);
        for index in a.lineage(stage) {
            let instruction = a.steps[index].instruction;
            let expands = matches!(
                instruction.keyword,
                Keyword::Add
                    | Keyword::Copy
                    | Keyword::Env
                    | Keyword::Expose
                    | Keyword::Label
                    | Keyword::Stopsignal
                    | Keyword::User
                    | Keyword::Volume
                    | Keyword::Workdir
            );
            let mine = a.stages[stage].body.contains(&index);
            if expands && mine && !instruction.onbuild {
                for word in instruction.words() {
                    for (name, guarded, _) in variables(&word.raw, instruction.escape) {
                        let missing = elsewhere.contains(&name)
                            || PLATFORM_ARGS.contains(&name.as_str())
                            || empty;
                        if !guarded && missing && !known.contains(&name) {
                            let message = format!("nothing in this stage declares `{name}`");
                            let draft =
                                out.tell(&rule::UNDEFINED, instruction, word.span.clone(), message);
                            draft.help(format!("add `ARG {name}` above it, in this stage"));
                        }
                    }
                }
            }
            if matches!(instruction.keyword, Keyword::Arg | Keyword::Env) {
                known.extend(args(instruction));
            }
        }
    }
}

fn shell_left(a: &Analysis<'_>, out: &mut Out) {
    let Some(last) = a.stages.len().checked_sub(1) else { return };
    let base = a.base(last);
    let value = a.with_global_args(base).unwrap_or_else(|| base.value.clone());
    let image = ImageName::of(&value);
    let without = value.eq_ignore_ascii_case("scratch")
        || image.repository.contains("distroless")
        || image.registry.contains("chainguard")
            && image.tag.is_some_and(|tag| !tag.ends_with("-dev"));
    let removed = a
        .lineage(last)
        .into_iter()
        .any(|index| a.steps[index].commands.iter().any(|c| c.name == "rm" && c.has("/bin/sh")));
    if !without && !removed {
        let from = a.steps[a.stages[last].from].instruction;
        let message = format!("`{}` has a shell", value.escape_debug());
        out.tell(&rule::SHELL_LEFT, from, a.stages[last].image.span.clone(), message);
    }
}
