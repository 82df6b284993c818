//! Rules about package managers.

use crate::analysis::{Analysis, Out, Step};
use crate::dockerfile::Instruction;
use crate::rule::{self, Rule};
use crate::shell::{Command, Link, ShellWord};

/// A package manager whose rules are alike.
struct Manager {
    names: &'static [&'static str],
    install: &'static [&'static str],
    /// Flags that take the next word.
    valued: &'static [&'static str],
    yes: Option<&'static Rule>,
    pin: &'static Rule,
    clean: Option<&'static Rule>,
    /// Where the cache is that may be mounted.
    cache: &'static [&'static str],
}

const YUM: Manager = Manager {
    names: &["yum"],
    install: &["install", "groupinstall", "localinstall", "reinstall"],
    valued: &["-c", "-x", "--setopt", "--installroot", "--enablerepo", "--disablerepo"],
    yes: Some(&rule::YUM_YES),
    pin: &rule::YUM_PIN,
    clean: Some(&rule::YUM_CLEAN),
    cache: &["/var/cache/yum", "/var/cache"],
};
const DNF: Manager = Manager {
    names: &["dnf", "microdnf", "dnf5"],
    install: &["install", "groupinstall", "localinstall", "reinstall"],
    valued: &["-c", "-x", "--setopt", "--installroot", "--enablerepo", "--disablerepo", "--repo"],
    yes: Some(&rule::DNF_YES),
    pin: &rule::DNF_PIN,
    clean: Some(&rule::DNF_CLEAN),
    cache: &["/var/cache/dnf", "/var/cache/libdnf5", "/var/cache"],
};
const ZYPPER: Manager = Manager {
    names: &["zypper"],
    install: &["install", "in"],
    valued: &["-r", "--repo", "-t", "--type", "--from", "-R", "--root"],
    yes: None,
    pin: &rule::ZYPPER_PIN,
    clean: Some(&rule::ZYPPER_CLEAN),
    cache: &["/var/cache/zypp", "/var/cache"],
};
/// Flags of apt that take the next word.
const APT_VALUED: &[&str] =
    &["-t", "--target-release", "-o", "--option", "-c", "--config-file", "-a"];
const APK_VALUED: &[&str] = &[
    "-X",
    "--repository",
    "-t",
    "--virtual",
    "-p",
    "--root",
    "--keys-dir",
    "--arch",
    "--repositories-file",
    "--cache-dir",
    "--wait",
];
const PIP_VALUED: &[&str] = &[
    "-r",
    "--requirement",
    "-c",
    "--constraint",
    "-e",
    "--editable",
    "-t",
    "--target",
    "-i",
    "--index-url",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--root",
    "--prefix",
    "--src",
    "--trusted-host",
    "--cache-dir",
    "--platform",
    "--python-version",
    "--no-binary",
    "--only-binary",
    "--proxy",
    "--upgrade-strategy",
    "--progress-bar",
    "--timeout",
    "--retries",
    "--abi",
    "--implementation",
    "--log",
    "--config-settings",
    "-C",
];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for (_, step) in a.runs() {
        let instruction = step.instruction;
        for command in &step.commands {
            apk(instruction, command, out);
            pip(a, step, command, out);
            pins(instruction, command, out);
            for manager in [&YUM, &DNF, &ZYPPER] {
                if manager.names.contains(&command.name.as_str()) {
                    managed(a, step, command, manager, out);
                }
            }
            upgrades(instruction, command, out);
        }
        yarn(a, step, out);
        for command in step.commands.iter().filter(|command| is_apt(command)) {
            apt(instruction, command, out);
        }
    }
    apt_lists(a, out);
    apt_split(a, out);
}

fn is_apt(command: &Command) -> bool {
    matches!(command.name.as_str(), "apt-get" | "apt" | "aptitude")
}

/// Whether a cache is mounted at one of `places`, or at a folder above.
fn is_mounted(instruction: &Instruction, places: &[&str]) -> bool {
    let mounts = instruction.flags.iter().filter(|flag| flag.name == "mount");
    mounts.filter_map(|flag| flag.value.as_deref()).any(|mount| {
        let mut kind = "bind";
        let mut target = "";
        for part in mount.split(',') {
            match part.split_once('=') {
                Some(("type", value)) => kind = value,
                Some(("target" | "dst" | "destination", value)) => {
                    target = value.trim_end_matches('/')
                }
                Some(_) | None => {}
            }
        }
        matches!(kind, "cache" | "tmpfs") && places.contains(&target)
    })
}

fn names(words: &[&ShellWord]) -> String {
    let names: Vec<String> =
        words.iter().map(|word| format!("`{}`", word.value.escape_debug())).collect();
    match names.as_slice() {
        [] => String::new(),
        [first] => first.clone(),
        [first, second] => format!("{first} and {second}"),
        [first, second, ..] => format!("{first}, {second} and {} more", names.len() - 2),
    }
}

/// The bytes from the first to the last of `words`.
fn span(words: &[&ShellWord], command: &Command) -> std::ops::Range<usize> {
    match (words.first(), words.last()) {
        (Some(first), Some(last)) => first.span.start..last.span.end,
        _ => command.span.clone(),
    }
}

fn unpinned(
    rule: &'static Rule,
    instruction: &Instruction,
    command: &Command,
    words: &[&ShellWord],
    out: &mut Out,
) {
    if !words.is_empty() {
        let verb = if words.len() == 1 { "has" } else { "have" };
        let message = format!("{} {verb} no version", names(words));
        out.tell(rule, instruction, span(words, command), message);
    }
}

fn apt(instruction: &Instruction, command: &Command, out: &mut Out) {
    if command.name == "apt" {
        let span = command.name_span.clone();
        let draft =
            out.tell(&rule::APT_TOOL, instruction, span.clone(), "`apt` is made for people");
        let same = [
            "install",
            "update",
            "upgrade",
            "remove",
            "purge",
            "autoremove",
            "clean",
            "autoclean",
            "dist-upgrade",
            "download",
            "source",
            "build-dep",
        ];
        if command.verb_is(&same) {
            draft.edit(span.end - "apt".len()..span.end, "apt-get");
        }
    }
    if !command.verb_is(&["install"]) {
        return;
    }
    let Some(verb) = command.verb() else { return };
    let operands = command.operands(APT_VALUED);
    let local = |word: &&&ShellWord| word.value.contains('/') && word.value.ends_with(".deb");
    let open: Vec<&ShellWord> = operands
        .iter()
        .filter(|word| !word.value.contains('=') && !local(word) && !word.value.ends_with('-'))
        .copied()
        .collect();
    unpinned(&rule::APT_PIN, instruction, command, &open, out);
    let quiet = command.has_flag(None, &["quiet"])
        && command.args.iter().any(|arg| arg.value == "--quiet=2");
    let quietly = command.args.iter().filter(|arg| arg.value.starts_with("-q")).count();
    let answered = command.has_flag(Some('y'), &["yes", "assume-yes"])
        || command.args.iter().any(|arg| arg.value.starts_with("-qq"))
        || quietly > 1
        || quiet
        || command.args.iter().any(|arg| arg.value.contains("Assume-Yes"));
    if !answered {
        let message = format!("`{} install` asks before it installs", command.name);
        let at = verb.span.end;
        out.tell(&rule::APT_YES, instruction, verb.span.clone(), message).edit(at..at, " -y");
    }
    let recommends = command.has_flag(None, &["no-install-recommends", "install-recommends"])
        || command.has_flag(None, &["without-recommends"])
        || command.args.iter().any(|arg| {
            let value = arg.value.to_ascii_lowercase();
            value.contains("apt::install-recommends")
        });
    if !recommends && command.name != "aptitude" {
        let message = format!("`{} install` takes recommended packages, too", command.name);
        let at = verb.span.end;
        let draft = out.tell(&rule::APT_RECOMMENDS, instruction, verb.span.clone(), message);
        draft.edit(at..at, " --no-install-recommends").perhaps();
    }
}

/// Whether a `RUN` removes the lists of packages.
fn cleans_apt(step: &Step<'_>) -> bool {
    let lists = |word: &ShellWord| word.value.starts_with("/var/lib/apt");
    let removed = step
        .commands
        .iter()
        .any(|c| matches!(c.name.as_str(), "rm" | "find") && c.args.iter().any(lists));
    let cleaned =
        step.commands.iter().any(|c| is_apt(c) && c.verb_is(&["distclean", "dist-clean"]));
    removed
        || cleaned
        || is_mounted(step.instruction, &["/var/lib/apt", "/var/lib/apt/lists", "/var/lib"])
}

/// Whether another command can be put behind all others with `&&`.
fn is_plain(step: &Step<'_>) -> bool {
    let instruction = step.instruction;
    let odd = [
        "cd", "export", "set", "unset", "source", ".", "trap", "umask", "exit", "alias", "shopt",
        "ulimit",
    ];
    !instruction.is_json()
        && instruction.heredocs.is_empty()
        && instruction.flags.is_empty()
        && !instruction.onbuild
        && !instruction.body_text().contains(['`', '{', '}', '#'])
        && !instruction.text.text().ends_with(instruction.escape)
        && !step.commands.is_empty()
        && step.commands.iter().enumerate().all(|(index, command)| {
            let link = if index == 0 { Link::Start } else { Link::And };
            command.depth == 0
                && command.link == link
                && !odd.contains(&command.name.as_str())
                && !command.wrappers.iter().any(|word| word.value == "exec")
        })
        // A substitution is a command of its own, deeper; what is left is a list joined by `&&`.
        && !instruction.body_text().trim_end().ends_with(['&', ';', '|'])
}

fn apt_lists(a: &Analysis<'_>, out: &mut Out) {
    // An install that counts on an update in another `RUN` would fail without its lists.
    let updates =
        |step: &Step<'_>| step.commands.iter().any(|c| is_apt(c) && c.verb_is(&["update"]));
    let installs =
        |step: &Step<'_>| step.commands.iter().any(|c| is_apt(c) && c.verb_is(&["install"]));
    let counts_on = a.runs().any(|(_, step)| installs(step) && !updates(step));
    for (_, step) in a.runs().filter(|(_, step)| a.ships(step.stage) && updates(step)) {
        if cleans_apt(step) {
            continue;
        }
        let Some(update) = step.commands.iter().find(|c| is_apt(c) && c.verb_is(&["update"]))
        else {
            continue;
        };
        let message = "the lists of packages stay in the layer";
        let instruction = step.instruction;
        let draft = out.tell(&rule::APT_LISTS, instruction, update.span.clone(), message);
        if installs(step) && !counts_on && is_plain(step) {
            let end = instruction.head.end;
            let several = a.text[instruction.head.clone()].contains('\n');
            let joint =
                if several { format!(" {}\n    ", instruction.escape) } else { " ".to_owned() };
            draft.edit(end..end, format!("{joint}&& rm -rf /var/lib/apt/lists/*"));
        }
    }
}

/// Joins a `RUN` to the one right before it, where that changes nothing but the layers.
pub(crate) fn join(a: &Analysis<'_>, index: usize, draft: &mut crate::finding::Draft) {
    let Some(before) = index.checked_sub(1).map(|before| &a.steps[before]) else { return };
    let (first, second) = (before.instruction, a.steps[index].instruction);
    let between = first.span.end..second.head.start;
    let apart = a.text.get(between.clone()).is_some_and(|text| text.trim().is_empty());
    let is_run = first.keyword == crate::dockerfile::Keyword::Run;
    if is_run && apart && is_plain(before) && is_plain(&a.steps[index]) {
        let start = second.body_span().start;
        draft.edit(between.start..start, format!(" && {}\n    ", first.escape));
    }
}

fn apt_split(a: &Analysis<'_>, out: &mut Out) {
    for stage in 0..a.stages.len() {
        let mut updated = false;
        for index in a.lineage(stage) {
            let step = &a.steps[index];
            if step.instruction.onbuild {
                continue;
            }
            let mut here = false;
            for command in step.commands.iter().filter(|c| is_apt(c)) {
                if command.verb_is(&["update"]) {
                    here = true;
                } else if command.verb_is(&["install"]) && !here {
                    let mine = a.stages[stage].body.contains(&index);
                    let local = command.operands(APT_VALUED).iter().all(|w| w.value.contains('/'));
                    if updated && mine && !local {
                        let message = "the update that it counts on is in another `RUN`";
                        let draft = out.tell(
                            &rule::APT_SPLIT,
                            step.instruction,
                            command.span.clone(),
                            message,
                        );
                        join(a, index, draft);
                        break;
                    }
                }
            }
            updated |= here;
        }
    }
}

fn upgrades(instruction: &Instruction, command: &Command, out: &mut Out) {
    let all = match command.name.as_str() {
        "apt-get" | "apt" | "aptitude" => {
            command.verb_is(&["upgrade", "dist-upgrade", "full-upgrade", "safe-upgrade"])
        }
        "apk" => command.verb_is(&["upgrade"]) && command.operands(APK_VALUED).is_empty(),
        "yum" | "dnf" | "microdnf" => {
            command.verb_is(&["update", "upgrade", "distro-sync"])
                && command.operands(YUM.valued).is_empty()
        }
        "zypper" => {
            command.verb_is(&["update", "up"]) && command.operands(ZYPPER.valued).is_empty()
        }
        _ => false,
    };
    if all {
        let verb = command.verb().map_or("", |verb| verb.value.as_str());
        let message = format!("`{} {verb}` replaces what the base image brought", command.name);
        out.tell(&rule::UPGRADE, instruction, command.span.clone(), message);
    }
}

fn managed(a: &Analysis<'_>, step: &Step<'_>, command: &Command, manager: &Manager, out: &mut Out) {
    let instruction = step.instruction;
    let installs = command.verb_is(manager.install);
    if manager.names == ["zypper"] {
        let asks = [
            "install",
            "in",
            "remove",
            "rm",
            "source-install",
            "si",
            "patch",
            "update",
            "up",
            "dist-upgrade",
            "dup",
        ];
        let answered = command.has_flag(Some('n'), &["non-interactive", "no-confirm"])
            || command.has_flag(Some('y'), &["no-confirm"]);
        if command.verb_is(&asks) && !answered {
            let at = command.name_span.end;
            let message = "`zypper` asks before it acts";
            let draft =
                out.tell(&rule::ZYPPER_YES, instruction, command.name_span.clone(), message);
            draft.edit(at..at, " -n");
        }
        if command.verb_is(&["dist-upgrade", "dup"]) {
            let message = "the distribution is upgraded";
            out.tell(&rule::ZYPPER_DUP, instruction, command.span.clone(), message);
        }
    }
    if !installs {
        return;
    }
    if let (Some(rule), Some(verb)) = (manager.yes, command.verb()) {
        let answered = command.has_flag(Some('y'), &["assumeyes", "yes"]);
        if !answered {
            let message = format!("`{} {}` asks before it installs", command.name, verb.value);
            let at = verb.span.end;
            out.tell(rule, instruction, verb.span.clone(), message).edit(at..at, " -y");
        }
    }
    let pinned = |word: &ShellWord| {
        let value = &word.value;
        if manager.names == ["zypper"] {
            return value.contains(['=', '<', '>'])
                || value.ends_with(".rpm")
                || value.starts_with(['-', '+']);
        }
        // `name-version`: the version begins with a digit.
        let version = value
            .char_indices()
            .any(|(at, c)| c == '-' && value[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        version || value.ends_with(".rpm") || value.starts_with('@') && !value.contains(' ')
    };
    let open: Vec<&ShellWord> = command
        .operands(manager.valued)
        .into_iter()
        .filter(|word| !pinned(word) && !word.value.contains("://"))
        .collect();
    // A group has no version.
    if !command.verb_is(&["groupinstall"]) {
        unpinned(manager.pin, instruction, command, &open, out);
    }
    if let Some(rule) = manager.clean {
        let cleaned = step.commands.iter().any(|other| {
            let own =
                manager.names.contains(&other.name.as_str()) && other.verb_is(&["clean", "cc"]);
            let removed = other.name == "rm"
                && other
                    .args
                    .iter()
                    .any(|arg| manager.cache.iter().any(|dir| arg.value.starts_with(dir)));
            own || removed
        });
        if !cleaned && a.ships(step.stage) && !is_mounted(instruction, manager.cache) {
            let message = format!("the cache of `{}` stays in the layer", command.name);
            out.tell(rule, instruction, command.span.clone(), message);
        }
    }
}

fn apk(instruction: &Instruction, command: &Command, out: &mut Out) {
    if command.name != "apk" || !command.verb_is(&["add"]) {
        return;
    }
    let Some(verb) = command.verb() else { return };
    let open: Vec<&ShellWord> = command
        .operands(APK_VALUED)
        .into_iter()
        .filter(|word| {
            let value = &word.value;
            !value.contains(['=', '~']) && !value.ends_with(".apk") && !value.starts_with('.')
        })
        .collect();
    unpinned(&rule::APK_PIN, instruction, command, &open, out);
    let cached = command.has_flag(None, &["no-cache"])
        || is_mounted(instruction, &["/var/cache/apk", "/etc/apk/cache", "/var/cache"]);
    if !cached {
        let message = "`apk add` keeps its index";
        let at = verb.span.end;
        let draft = out.tell(&rule::APK_CACHE, instruction, verb.span.clone(), message);
        draft.edit(at..at, " --no-cache");
    }
}

/// The words behind `pip install`, of `pip`, `pip3` and `python -m pip`.
fn pip_install(command: &Command) -> Option<(Vec<&ShellWord>, &ShellWord)> {
    let is_pip = |name: &str| {
        let name = name.strip_prefix("pip").unwrap_or("x");
        name.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    let from = if is_pip(&command.name) {
        0
    } else if command.name.starts_with("python") {
        let module = command.args.iter().position(|arg| arg.value == "-m")?;
        command.args.get(module + 1).filter(|arg| arg.value == "pip")?;
        module + 2
    } else {
        return None;
    };
    let rest = &command.args[from..];
    let verb = rest.iter().position(|arg| !arg.value.starts_with('-'))?;
    (rest[verb].value == "install").then(|| (rest[verb + 1..].iter().collect(), &rest[verb]))
}

fn pip(a: &Analysis<'_>, step: &Step<'_>, command: &Command, out: &mut Out) {
    let instruction = step.instruction;
    let Some((args, verb)) = pip_install(command) else { return };
    let mut open: Vec<&ShellWord> = Vec::new();
    let mut skip = false;
    let mut listed = false;
    for arg in &args {
        if std::mem::take(&mut skip) {
            continue;
        }
        let value = arg.value.as_str();
        if value.starts_with('-') {
            skip = PIP_VALUED.contains(&value);
            listed |=
                ["-r", "--requirement", "-c", "--constraint"].iter().any(|f| value.starts_with(f));
        } else {
            let local = value.starts_with(['.', '/'])
                || value.ends_with(".whl")
                || value.ends_with(".tar.gz")
                || value.ends_with(".zip");
            let git =
                value.contains("git+") && value.rsplit('/').next().is_some_and(|l| l.contains('@'));
            if !value.contains("==")
                && !value.contains("===")
                && !value.contains("~=")
                && !local
                && !git
            {
                open.push(arg);
            }
        }
    }
    if !listed {
        let exact = |word: &&ShellWord| !word.value.contains(['<', '>', '=', '@']);
        let open: Vec<&ShellWord> = open.into_iter().filter(exact).collect();
        unpinned(&rule::PIP_PIN, instruction, command, &open, out);
    }
    let set = |text: &str| {
        text.strip_prefix("PIP_NO_CACHE_DIR=")
            .is_some_and(|value| !matches!(value, "" | "0" | "off" | "no" | "false" | "False"))
    };
    let cleared = command.has_flag(None, &["no-cache-dir"])
        || command.assigned.iter().any(|text| set(text))
        || step
            .commands
            .iter()
            .any(|c| c.name == "export" && c.args.iter().any(|arg| set(&arg.value)))
        || step.commands.iter().any(|c| c.name.starts_with("pip") && c.verb_is(&["cache"]))
        || is_mounted(instruction, &["/root/.cache", "/root/.cache/pip"])
        || instruction.flags.iter().any(|flag| {
            flag.name == "mount" && flag.text.contains("type=cache") && flag.text.contains(".cache")
        })
        || a.environment(step.stage).iter().any(|(name, value)| set(&format!("{name}={value}")));
    if !cleared {
        let message = "`pip install` keeps its cache in the layer";
        let at = verb.span.end;
        let draft = out.tell(&rule::PIP_CACHE, instruction, verb.span.clone(), message);
        draft.edit(at..at, " --no-cache-dir");
    }
}

/// Managers of languages that only have a rule about versions.
fn pins(instruction: &Instruction, command: &Command, out: &mut Out) {
    match command.name.as_str() {
        "npm" if command.verb_is(&["install", "i", "add", "in"]) => {
            let operands = command.operands(&[
                "--prefix",
                "-C",
                "--registry",
                "--loglevel",
                "--omit",
                "--cache",
            ]);
            if operands.is_empty() {
                if !command.has_flag(Some('g'), &["global", "location"]) {
                    let message =
                        "`npm install` may install other versions than the lock file says";
                    out.tell(&rule::NPM_CI, instruction, command.span.clone(), message);
                }
                return;
            }
            let pinned = |value: &str| {
                let name = value.strip_prefix('@').unwrap_or(value);
                let fixed = match name.split_once('@') {
                    Some((_, version)) => !matches!(version, "" | "latest" | "next"),
                    None => false,
                };
                let git = value.contains("://") || value.starts_with("git@");
                let git = git && (value.contains('#') || value.ends_with(".tgz"));
                fixed || git || value.starts_with(['.', '/', '~']) || value.ends_with(".tgz")
            };
            let open: Vec<_> = operands.into_iter().filter(|word| !pinned(&word.value)).collect();
            unpinned(&rule::NPM_PIN, instruction, command, &open, out);
        }
        "pipx" if command.verb_is(&["install"]) => {
            let operands =
                command.operands(&["--python", "--index-url", "-i", "--pip-args", "--suffix"]);
            let open: Vec<_> = operands
                .into_iter()
                .filter(|w| {
                    !w.value.contains("==")
                        && !w.value.contains('@')
                        && !w.value.starts_with(['.', '/'])
                })
                .collect();
            unpinned(&rule::PIP_PIN, instruction, command, &open, out);
        }
        "gem" if command.verb_is(&["install", "i"]) => {
            if command.has_flag(Some('v'), &["version"]) {
                return;
            }
            let operands = command.operands(&[
                "-i",
                "--install-dir",
                "-n",
                "--bindir",
                "-s",
                "--source",
                "-P",
            ]);
            let before: Vec<_> =
                operands.into_iter().take_while(|word| word.value != "--").collect();
            let open: Vec<_> = before
                .into_iter()
                .filter(|w| !w.value.contains(':') && !w.value.ends_with(".gem"))
                .collect();
            unpinned(&rule::GEM_PIN, instruction, command, &open, out);
        }
        "go" if command.verb_is(&["install", "get", "run"]) => {
            let operands = command.operands(&["-ldflags", "-tags", "-o", "-mod", "-p"]);
            let open: Vec<_> = operands
                .into_iter()
                .filter(|word| {
                    let value = &word.value;
                    let remote = value.split('/').next().is_some_and(|host| host.contains('.'))
                        && !value.starts_with('.')
                        && !value.ends_with(".go");
                    let fixed =
                        value.split_once('@').is_some_and(|(_, v)| !matches!(v, "latest" | ""));
                    remote && !fixed
                })
                .collect();
            unpinned(&rule::GO_PIN, instruction, command, &open, out);
        }
        _ => {}
    }
}

fn yarn(a: &Analysis<'_>, step: &Step<'_>, out: &mut Out) {
    let is = |command: &Command, verb: &str| command.name == "yarn" && command.verb_is(&[verb]);
    let cleaned = step.commands.iter().any(|command| is(command, "cache") && command.has("clean"));
    let mounted = step.instruction.flags.iter().any(|flag| {
        flag.name == "mount"
            && (flag.text.contains("type=cache") || flag.text.contains("type=tmpfs"))
    });
    if cleaned || mounted || !a.ships(step.stage) {
        return;
    }
    for command in step.commands.iter().filter(|command| is(command, "install")) {
        let message = "the cache of `yarn` stays in the layer";
        out.tell(&rule::YARN_CACHE, step.instruction, command.span.clone(), message);
    }
}
