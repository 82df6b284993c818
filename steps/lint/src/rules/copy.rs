//! Rules about `COPY` and `ADD`.

use crate::analysis::{Analysis, Out};
use crate::dockerfile::{Instruction, Keyword, Word};
use crate::rule;
use crate::shell::{Command, base};

const ARCHIVES: &[&str] = &[
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tb2",
    ".tar.xz",
    ".txz",
    ".tar.lzma",
    ".tlz",
    ".tar.zst",
    ".tzst",
    ".gz",
    ".bz2",
    ".xz",
    ".lzma",
    ".tZ",
    ".Z",
];
/// Files that hold secrets, by name.
const SECRETS: &[&str] = &[
    ".env",
    ".npmrc",
    ".pypirc",
    ".netrc",
    ".dockercfg",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".git-credentials",
    "credentials.json",
    "service-account.json",
    ".htpasswd",
    "kubeconfig",
    ".ssh",
    ".aws",
    ".gnupg",
    ".kube",
    "secrets.yaml",
    "secrets.yml",
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for keyword in [Keyword::Copy, Keyword::Add] {
        for (_, instruction) in a.with(keyword) {
            many(instruction, out);
            secrets(instruction, out);
        }
    }
    for (_, instruction) in a.with(Keyword::Add) {
        add(instruction, out);
    }
    relative(a, out);
    archives(a, out);
    early(a, out);
    changed(a, out);
}

/// The sources and the destination.
pub(crate) fn paths(instruction: &Instruction) -> (Vec<Word>, Option<Word>) {
    let mut words = instruction.words();
    let destination = if words.len() > 1 { words.pop() } else { None };
    (words, destination)
}

fn is_remote(value: &str) -> bool {
    ["http://", "https://", "ftp://", "git://", "ssh://"].iter().any(|p| value.starts_with(p))
        || value.starts_with("git@")
}

fn is_archive(value: &str) -> bool {
    ARCHIVES.iter().any(|ending| value.ends_with(ending))
}

fn add(instruction: &Instruction, out: &mut Out) {
    let (sources, _) = paths(instruction);
    let heredoc = !instruction.heredocs.is_empty();
    let plain =
        |word: &Word| !is_remote(&word.value) && !is_archive(&word.value) && !word.has_variable();
    if sources.iter().any(|word| !is_remote(&word.value) && !is_archive(&word.value)) || heredoc {
        let message = "`ADD` of what is neither an archive nor remote";
        let span = instruction.keyword_span.clone();
        let draft = out.tell(&rule::ADD_FILES, instruction, span.clone(), message);
        let same = ["chown", "chmod", "link", "exclude"];
        let flags = instruction.flags.iter().all(|flag| same.contains(&flag.name.as_str()));
        // A glob might stand for an archive, too.
        let certain = |word: &Word| plain(word) && !word.value.contains(['*', '?', '[']);
        if flags && !sources.is_empty() && sources.iter().all(certain) {
            let copy = if instruction.written == "add" { "copy" } else { "COPY" };
            draft.edit(span, copy);
        }
    }
    for word in sources.iter().filter(|word| is_remote(&word.value)) {
        let pinned = instruction.flag("checksum").is_some() || is_commit(&word.value);
        if !pinned {
            let shown = word.value.split('?').next().unwrap_or_default().escape_debug();
            let message = format!("nothing tells whether `{shown}` is what it was");
            out.tell(&rule::ADD_UNCHECKED, instruction, word.span.clone(), message);
        }
    }
}

/// Whether a git address names a commit.
fn is_commit(address: &str) -> bool {
    let (Some((repository, reference)), true) =
        (address.split_once('#'), address.contains(".git") || address.starts_with("git"))
    else {
        return false;
    };
    let commit = reference.split(':').next().unwrap_or_default();
    !repository.is_empty() && commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit())
}

fn many(instruction: &Instruction, out: &mut Out) {
    let (sources, Some(destination)) = paths(instruction) else { return };
    let sources = sources.len() + instruction.heredocs.len().saturating_sub(1);
    if sources < 2 || destination.value.ends_with(['/', '\\']) || destination.value == "." {
        return;
    }
    // Of nothing but heredocs the last one is no destination.
    if destination.has_variable() || destination.value.starts_with("<<") {
        return;
    }
    let message = format!("`{}` does not end with `/`", destination.value.escape_debug());
    let span = destination.span.clone();
    let draft = out.tell(&rule::COPY_MANY, instruction, span.clone(), message);
    if destination.raw == destination.value {
        draft.edit(span.end..span.end, "/");
    } else if instruction.is_json() {
        draft.edit(span.end - 1..span.end - 1, "/");
    }
}

fn secrets(instruction: &Instruction, out: &mut Out) {
    if instruction.flag("from").is_some() {
        return;
    }
    for word in paths(instruction).0 {
        let name = base(word.value.trim_end_matches('/'));
        let key = name.ends_with(".pem") && name.contains("key") || name.ends_with(".key");
        let env =
            name.starts_with(".env.") && !name.ends_with(".example") && !name.ends_with(".sample");
        if SECRETS.contains(&name) || key || env || name == ".env*" {
            let message = format!("`{}` is likely to hold secrets", name.escape_debug());
            out.tell(&rule::COPY_SECRET, instruction, word.span.clone(), message);
        }
    }
}

fn relative(a: &Analysis<'_>, out: &mut Out) {
    for stage in 0..a.stages.len() {
        let mut set = false;
        for index in a.lineage(stage) {
            let instruction = a.steps[index].instruction;
            if instruction.onbuild {
                continue;
            }
            set |= instruction.keyword == Keyword::Workdir;
            if set || instruction.keyword != Keyword::Copy || !a.stages[stage].body.contains(&index)
            {
                continue;
            }
            let Some(destination) = paths(instruction).1 else { continue };
            let value = destination.value.as_str();
            let windows = value.as_bytes().get(1) == Some(&b':');
            if !value.starts_with(['/', '\\', '$']) && !windows {
                let message = format!("`{}` is relative to what nobody set", value.escape_debug());
                out.tell(&rule::COPY_RELATIVE, instruction, destination.span.clone(), message);
            }
        }
    }
}

/// An archive that is copied and then unpacked.
fn archives(a: &Analysis<'_>, out: &mut Out) {
    for stage in 0..a.stages.len() {
        let mut copied: Vec<(usize, Word, String)> = Vec::new();
        for (index, step) in a.own(stage) {
            let instruction = step.instruction;
            if instruction.keyword == Keyword::Copy && instruction.flag("from").is_none() {
                let (sources, destination) = paths(instruction);
                let Some(destination) = destination else { continue };
                for source in sources.into_iter().filter(|word| is_archive(&word.value)) {
                    // Where it comes to lie: under its own name in a folder, else under the new one.
                    let name = if is_archive(&destination.value) {
                        base(&destination.value).to_owned()
                    } else {
                        base(&source.value).to_owned()
                    };
                    copied.push((index, source, name));
                }
            }
            if instruction.keyword != Keyword::Run {
                continue;
            }
            for command in &step.commands {
                let unpacks = match command.name.as_str() {
                    "tar" => command.args.iter().any(|arg| {
                        let value = arg.value.as_str();
                        let flags = !value.starts_with("--") && !value.contains('/');
                        matches!(value, "--extract" | "--get")
                            || (flags && value.contains('x') && !value.contains('.'))
                    }),
                    "unzip" | "gunzip" | "bunzip2" | "unlzma" | "unxz" | "zgz" | "uncompress"
                    | "zcat" | "gzcat" => true,
                    _ => false,
                };
                if !unpacks {
                    continue;
                }
                copied.retain(|(from, source, name)| {
                    let hit = command.args.iter().any(|arg| base(&arg.value) == name);
                    if hit {
                        let message = format!("`{}` is unpacked later", name.escape_debug());
                        let copy = a.steps[*from].instruction;
                        out.tell(&rule::ADD_ARCHIVE, copy, source.span.clone(), message);
                    }
                    !hit
                });
            }
        }
    }
}

/// Whether a command installs what a lock file or list of requirements names.
fn installs(command: &Command) -> bool {
    let listed = || {
        command.args.iter().any(|arg| arg.value.starts_with("-r") || arg.value == "--requirement")
    };
    match command.name.as_str() {
        "pip" | "pip3" => command.verb_is(&["install"]) && listed(),
        "python" | "python3" => command.has("pip") && command.has("install") && listed(),
        "npm" => command.verb_is(&["ci", "install", "i"]) && command.operands(&[]).is_empty(),
        "yarn" => command.verb().is_none() || command.verb_is(&["install"]),
        "pnpm" => command.verb_is(&["install", "i"]),
        "bundle" | "composer" | "poetry" => command.verb_is(&["install"]),
        "uv" | "pipenv" => command.verb_is(&["sync", "install"]),
        "go" => command.verb_is(&["mod"]) && command.has("download"),
        "cargo" => command.verb_is(&["fetch"]),
        "dotnet" => command.verb_is(&["restore"]),
        "mvn" => command.args.iter().any(|arg| arg.value.starts_with("dependency:")),
        _ => false,
    }
}

fn is_everything(instruction: &Instruction) -> bool {
    let copies = matches!(instruction.keyword, Keyword::Copy | Keyword::Add);
    copies
        && instruction.flag("from").is_none()
        && paths(instruction)
            .0
            .iter()
            .any(|word| matches!(word.value.as_str(), "." | "./" | "/" | "*"))
}

/// Whether a file copies the whole context.
pub(crate) fn everything<'a>(a: &'a Analysis<'_>) -> Option<&'a Instruction> {
    a.steps.iter().map(|step| step.instruction).find(|instruction| is_everything(instruction))
}

fn early(a: &Analysis<'_>, out: &mut Out) {
    for stage in 0..a.stages.len() {
        let mut all: Option<&Instruction> = None;
        for (_, step) in a.own(stage) {
            if is_everything(step.instruction) {
                all = all.or(Some(step.instruction));
            }
            let run = step.instruction.keyword == Keyword::Run;
            let found = step.commands.iter().find(|command| run && installs(command));
            if let (Some(copy), Some(command)) = (all, found) {
                let place = step.line();
                let message = format!(
                    "everything is copied before line {place} installs with `{}`",
                    command.name
                );
                out.tell(&rule::COPY_EARLY, copy, copy.head.clone(), message);
                break;
            }
        }
    }
}

/// Owner and mode that are changed after a `COPY`.
fn changed(a: &Analysis<'_>, out: &mut Out) {
    for stage in 0..a.stages.len() {
        let mut copied: Vec<String> = Vec::new();
        for (_, step) in a.own(stage).filter(|_| a.ships(Some(stage))) {
            match step.instruction.keyword {
                Keyword::Copy | Keyword::Add => {
                    let destination = paths(step.instruction).1;
                    copied.extend(
                        destination.map(|word| word.value.trim_end_matches('/').to_owned()),
                    );
                }
                Keyword::Run => {
                    for command in &step.commands {
                        if !matches!(command.name.as_str(), "chown" | "chmod") {
                            continue;
                        }
                        let path = command.plain().skip(1).find(|word| {
                            let path = word.value.trim_end_matches('/');
                            path.len() > 1 && copied.iter().any(|to| to == path)
                        });
                        if let Some(path) = path {
                            let message = format!(
                                "`{}` is copied, and changed in a layer of its own",
                                path.value.escape_debug()
                            );
                            let span = command.span.clone();
                            out.tell(&rule::COPY_THEN_CHANGE, step.instruction, span, message);
                        }
                    }
                }
                Keyword::Arg
                | Keyword::Cmd
                | Keyword::Entrypoint
                | Keyword::Env
                | Keyword::Expose
                | Keyword::From
                | Keyword::Healthcheck
                | Keyword::Label
                | Keyword::Maintainer
                | Keyword::Onbuild
                | Keyword::Shell
                | Keyword::Stopsignal
                | Keyword::User
                | Keyword::Volume
                | Keyword::Workdir
                | Keyword::Unknown => {}
            }
        }
    }
}
