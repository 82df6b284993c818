//! Rules about whole `RUN`s and how they stand together.

use crate::analysis::{Analysis, Out, Step};
use crate::dockerfile::Keyword;
use crate::pragma::pragmas;
use crate::rule;
use crate::shell::{Command, Link, base};

/// What a container does not need.
const NEEDLESS: &[&str] = &[
    "vim",
    "vim-tiny",
    "vim-nox",
    "nano",
    "emacs",
    "emacs-nox",
    "joe",
    "man-db",
    "man-pages",
    "telnet",
    "openssh-server",
    "openssh",
    "git",
    "sudo",
    "htop",
    "strace",
    "gdb",
    "tcpdump",
    "nmap",
    "rsh-client",
    "ftp",
    "mc",
];
const COMPILERS: &[&str] = &[
    "build-essential",
    "gcc",
    "g++",
    "clang",
    "cmake",
    "make",
    "build-base",
    "golang",
    "golang-go",
    "rustc",
    "cargo",
    "python3-dev",
    "python-dev",
    "musl-dev",
    "libc-dev",
    "libc6-dev",
    "gcc-c++",
    "kernel-devel",
    "default-jdk",
    "default-jdk-headless",
    "gfortran",
    "alpine-sdk",
    "python3-devel",
    "linux-headers",
];
const MANAGERS: &[&str] =
    &["apt-get", "apt", "apk", "yum", "dnf", "microdnf", "zypper", "aptitude"];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    flags(a, out);
    consecutive(a, out);
    pipefail(a, out);
    two_loaders(a, out);
    deleted_later(a, out);
    for (_, step) in a.runs().filter(|(_, step)| a.ships(step.stage)) {
        leftovers(step, out);
    }
}

fn flags(a: &Analysis<'_>, out: &mut Out) {
    for (_, step) in a.runs() {
        for flag in &step.instruction.flags {
            let value = flag.value.as_deref();
            let open = (flag.name == "security" && value == Some("insecure"))
                || (flag.name == "network" && value == Some("host"));
            if open {
                let message = format!("`{}` opens the builder to this `RUN`", flag.text);
                out.tell(&rule::PRIVILEGED_RUN, step.instruction, flag.span.clone(), message);
            }
        }
    }
}

fn consecutive(a: &Analysis<'_>, out: &mut Out) {
    for pair in a.steps.windows(2) {
        let [first, second] = pair else { continue };
        let both = first.instruction.keyword == Keyword::Run
            && second.instruction.keyword == Keyword::Run
            && !first.instruction.onbuild
            && !second.instruction.onbuild;
        // A `RUN` with mounts or several commands has reasons of its own.
        let plain = |step: &Step<'_>| {
            step.instruction.flags == first.instruction.flags && step.commands.len() < 2
        };
        if both && plain(first) && plain(second) {
            let span = second.instruction.keyword_span.clone();
            let message = "this `RUN` follows another";
            out.tell(&rule::CONSECUTIVE, second.instruction, span, message);
        }
    }
}

/// Pipes whose first commands may fail unseen.
fn pipefail(a: &Analysis<'_>, out: &mut Out) {
    let pragmas = pragmas(a.file);
    for stage in 0..a.stages.len() {
        // What the shell of the stage does: nothing is known of the base image's.
        let mut safe = false;
        for index in a.lineage(stage) {
            let step = &a.steps[index];
            let instruction = step.instruction;
            if instruction.keyword == Keyword::Shell {
                let words = instruction.words();
                let shell = words.first().map(|word| base(&word.value).to_ascii_lowercase());
                let option = words.iter().any(|word| {
                    word.value == "pipefail"
                        || word.value.starts_with("-o") && word.value.ends_with("pipefail")
                        || word.value.ends_with("pipefail")
                });
                let other = shell.as_deref().is_some_and(|shell| {
                    ["pwsh", "powershell", "cmd"].iter().any(|name| shell.starts_with(name))
                });
                safe = option || other;
                continue;
            }
            let told = pragmas.iter().any(|pragma| {
                pragma.line < instruction.line
                    && pragma.shell.as_deref().is_some_and(|s| {
                        s.contains("pwsh") || s.contains("powershell") || s.contains("cmd")
                    })
            });
            let mine = a.stages[stage].body.contains(&index);
            if safe || told || !mine || instruction.keyword != Keyword::Run || instruction.is_json()
            {
                continue;
            }
            let set = |command: &Command| {
                command.name == "set" && command.args.iter().any(|arg| arg.value == "pipefail")
            };
            let Some(pipe) = step.commands.iter().position(|command| command.link == Link::Pipe)
            else {
                continue;
            };
            if step.commands[..pipe].iter().any(set) {
                continue;
            }
            let command = &step.commands[pipe];
            let message = "a pipe without `pipefail`";
            let draft = out.tell(&rule::PIPEFAIL, instruction, command.name_span.clone(), message);
            if !instruction.onbuild {
                let at = instruction.head.start;
                draft
                    .edit(at..at, "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\n")
                    .perhaps();
            }
        }
    }
}

fn two_loaders(a: &Analysis<'_>, out: &mut Out) {
    for stage in 0..a.stages.len() {
        let mut seen: Option<&str> = None;
        for (_, step) in a.own(stage).filter(|(_, s)| s.instruction.keyword == Keyword::Run) {
            for command in &step.commands {
                let name = command.name.as_str();
                if !matches!(name, "curl" | "wget") {
                    continue;
                }
                match seen {
                    Some(first) if first != name => {
                        let message = format!("`{name}` is used, and `{first}` before");
                        let span = command.name_span.clone();
                        out.tell(&rule::TWO_LOADERS, step.instruction, span, message);
                    }
                    Some(_) => {}
                    None => seen = Some(name),
                }
            }
        }
    }
}

/// A `RUN` that does nothing but delete what a layer below holds.
fn deleted_later(a: &Analysis<'_>, out: &mut Out) {
    for (index, step) in a.runs().filter(|(_, step)| a.ships(step.stage)) {
        let deletes = |command: &Command| {
            let name = command.name.as_str();
            matches!(name, "rm" | "rmdir")
                || (MANAGERS.contains(&name)
                    && command.verb_is(&[
                        "clean",
                        "autoclean",
                        "autoremove",
                        "purge",
                        "remove",
                        "del",
                    ]))
                || (matches!(name, "npm" | "yarn" | "pip" | "pip3") && command.verb_is(&["cache"]))
        };
        let after = index > 0 && a.steps[index - 1].instruction.keyword != Keyword::From;
        if after && !step.commands.is_empty() && step.commands.iter().all(deletes) {
            let message = "what is deleted here stays in the layers below";
            let instruction = step.instruction;
            let span = step.commands[0].span.clone();
            let draft = out.tell(&rule::DELETED_LATER, instruction, span, message);
            super::packages::join(a, index, draft);
            draft.perhaps();
        }
    }
}

/// Packages that the image is better without.
fn leftovers(step: &Step<'_>, out: &mut Out) {
    for command in &step.commands {
        let installs =
            MANAGERS.contains(&command.name.as_str()) && command.verb_is(&["install", "add", "in"]);
        if !installs {
            continue;
        }
        let removed = |package: &str| {
            step.commands.iter().any(|other| {
                MANAGERS.contains(&other.name.as_str())
                    && other.verb_is(&["remove", "purge", "autoremove", "del", "erase", "rm"])
                    && (other.has(package)
                        // `apk del .deps` takes all of what `apk add --virtual .deps` brought.
                        || command.args.iter().any(|arg| {
                            arg.value.starts_with('.') && other.has(&arg.value)
                        })
                        || other.args.iter().any(|arg| arg.value.starts_with('$')))
            })
        };
        for word in command.plain().skip(1) {
            let package = word.value.split(['=', '~', '<', '>']).next().unwrap_or_default();
            let (rule, message) = if NEEDLESS.contains(&package) {
                (&rule::NEEDLESS, format!("`{package}` is in the image that runs"))
            } else if COMPILERS.contains(&package) || package.ends_with("-dev") {
                (&rule::COMPILER, format!("`{package}` is in the image that runs"))
            } else {
                continue;
            };
            if !removed(package) && !removed(&word.value) {
                out.tell(rule, step.instruction, word.span.clone(), message);
            }
        }
    }
}
