//! Rules about single commands in `RUN`.

use crate::analysis::{Analysis, Out};
use crate::dockerfile::Instruction;
use crate::rule;
use crate::shell::{Command, Link};

/// Commands that mean nothing in a build.
const POINTLESS: &[&str] = &[
    "free",
    "kill",
    "mount",
    "ps",
    "service",
    "shutdown",
    "ssh",
    "top",
    "vim",
    "ifconfig",
    "nano",
    "systemctl",
    "reboot",
    "umount",
];
const SHELLS: &[&str] = &["sh", "bash", "ash", "dash", "zsh", "ksh"];
/// Programs that run what they are given on standard input.
const INTERPRETERS: &[&str] = &["python", "python3", "perl", "ruby", "node", "php"];

pub(crate) fn look(a: &Analysis<'_>, out: &mut Out) {
    for (_, step) in a.runs() {
        let instruction = step.instruction;
        for (index, command) in step.commands.iter().enumerate() {
            pointless(instruction, command, out);
            if command.name == "cd" {
                let message = "the folder is changed for this `RUN` alone";
                out.tell(&rule::CD, instruction, command.span.clone(), message);
            }
            if let Some(sudo) = command.wrappers.iter().find(|word| word.value == "sudo") {
                out.tell(&rule::SUDO, instruction, sudo.span.clone(), "`sudo` in a build");
            } else if command.name == "sudo" {
                let span = command.name_span.clone();
                out.tell(&rule::SUDO, instruction, span, "`sudo` in a build");
            }
            shell_link(instruction, command, out);
            useradd(instruction, command, out);
            wget(instruction, command, out);
            unchecked(instruction, command, out);
            writable(instruction, command, out);
            to_shell(instruction, &step.commands, index, out);
        }
    }
}

fn pointless(instruction: &Instruction, command: &Command, out: &mut Out) {
    if POINTLESS.contains(&command.name.as_str()) {
        let message = format!("`{}` means nothing in a build", command.name);
        out.tell(&rule::POINTLESS, instruction, command.name_span.clone(), message);
    }
}

fn shell_link(instruction: &Instruction, command: &Command, out: &mut Out) {
    if command.name == "ln" && command.has("/bin/sh") {
        let message = "`/bin/sh` is replaced";
        out.tell(&rule::SHELL_LINK, instruction, command.span.clone(), message);
    }
}

fn useradd(instruction: &Instruction, command: &Command, out: &mut Out) {
    if command.name != "useradd" || command.has_flag(Some('l'), &["no-log-init"]) {
        return;
    }
    let id = command.args.iter().enumerate().find_map(|(index, arg)| {
        let value = arg.value.as_str();
        if matches!(value, "-u" | "--uid") {
            return command.args.get(index + 1).map(|next| next.value.as_str());
        }
        value.strip_prefix("--uid=").or_else(|| value.strip_prefix("-u"))
    });
    // Ids of five digits are common; beyond them the file of last logins becomes large.
    if id.is_some_and(|id| id.len() > 5 && id.bytes().all(|byte| byte.is_ascii_digit())) {
        let message = "`useradd` with a high id writes a large sparse file";
        let at = command.name_span.end;
        let draft = out.tell(&rule::USERADD, instruction, command.span.clone(), message);
        draft.edit(at..at, " -l");
    }
}

fn wget(instruction: &Instruction, command: &Command, out: &mut Out) {
    if command.name != "wget" || command.args.is_empty() {
        return;
    }
    let long = [
        "progress",
        "quiet",
        "no-verbose",
        "output-file",
        "append-output",
        "version",
        "help",
        "spider",
    ];
    let short = command.args.iter().any(|arg| {
        arg.value.strip_prefix('-').is_some_and(|f| {
            !f.starts_with('-') && (f.contains(['q', 'o', 'a']) || f.contains("nv"))
        })
    });
    if !short && !command.has_flag(None, &long) {
        let at = command.name_span.end;
        let message = "`wget` writes a line of progress for each 50 kB";
        let draft = out.tell(&rule::WGET_PROGRESS, instruction, command.name_span.clone(), message);
        // BusyBox's wget does not know the flag.
        draft.edit(at..at, " --progress=dot:giga").perhaps();
    }
}

/// Options that let anybody on the way answer.
fn unchecked(instruction: &Instruction, command: &Command, out: &mut Out) {
    let found = match command.name.as_str() {
        "curl" => command.has_flag(Some('k'), &["insecure"]),
        "wget" => command.has_flag(None, &["no-check-certificate"]),
        "apt-get" | "apt" => {
            command.has_flag(
                None,
                &["allow-unauthenticated", "force-yes", "allow-insecure-repositories"],
            ) || command.args.iter().any(|arg| arg.value.contains("AllowUnauthenticated"))
        }
        "apk" => command.has_flag(None, &["allow-untrusted"]),
        "yum" | "dnf" | "microdnf" => {
            command.has_flag(None, &["nogpgcheck"]) || command.has("--setopt=sslverify=false")
        }
        "zypper" => command.has_flag(None, &["no-gpg-checks"]),
        "pip" | "pip3" => command.has_flag(None, &["trusted-host"]),
        "npm" => {
            command.has("strict-ssl=false")
                || (command.has("strict-ssl") && command.has("false"))
                || command.has("--strict-ssl=false")
        }
        "git" => command.args.iter().any(|arg| {
            let value = arg.value.to_ascii_lowercase();
            value == "http.sslverify=false" || (value == "http.sslverify" && command.has("false"))
        }),
        _ => false,
    };
    let environment = command.assigned.iter().any(|text| {
        text == "NODE_TLS_REJECT_UNAUTHORIZED=0"
            || text == "GIT_SSL_NO_VERIFY=1"
            || text == "GIT_SSL_NO_VERIFY=true"
    });
    if found || environment {
        let message = format!("`{}` takes what comes from anybody", command.name);
        out.tell(&rule::NO_CHECK, instruction, command.span.clone(), message);
    }
}

fn writable(instruction: &Instruction, command: &Command, out: &mut Out) {
    if command.name != "chmod" {
        return;
    }
    let Some(mode) = command.plain().next() else { return };
    let value = mode.value.as_str();
    let octal = value.len() >= 3 && value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    // The sticky bit makes a folder such as /tmp safe.
    let sticky = value.len() == 4 && matches!(value.as_bytes()[0], b'1' | b'3' | b'5' | b'7');
    let everybody = octal && !sticky && (value.as_bytes()[value.len() - 1] - b'0') & 2 != 0;
    let symbolic = value.split(',').any(|part| {
        part.split_once(['+', '=']).is_some_and(|(who, what)| {
            (who.contains(['o', 'a'])) && what.contains('w') && !what.contains('t')
        })
    });
    if everybody || symbolic {
        let message = format!("`chmod {}` lets everybody write", value.escape_debug());
        out.tell(&rule::WORLD_WRITABLE, instruction, command.span.clone(), message);
    }
}

/// `curl … | sh`, and `sh -c "$(curl …)"`.
fn to_shell(instruction: &Instruction, commands: &[Command], index: usize, out: &mut Out) {
    let command = &commands[index];
    let loads = |command: &Command| matches!(command.name.as_str(), "curl" | "wget");
    let runs = |command: &Command| {
        let name = command.name.as_str();
        (SHELLS.contains(&name) || INTERPRETERS.contains(&name))
            && command.plain().all(|arg| arg.value == "-" || command.has("-s"))
            && !command.has("-c")
    };
    if command.link == Link::Pipe && runs(command) {
        // What feeds the pipe, whatever stands between.
        let mut at = index;
        while at > 0 && commands[at].link == Link::Pipe {
            at -= 1;
        }
        let feeding = &commands[at..index];
        if let Some(loader) = feeding.iter().find(|command| loads(command)) {
            let message = format!("what `{}` loads is run by `{}`", loader.name, command.name);
            let span = loader.span.start.min(command.span.start)..command.span.end;
            out.tell(&rule::PIPE_TO_SHELL, instruction, span, message);
        }
    }
    let substituted = SHELLS.contains(&command.name.as_str()) || command.name == "eval";
    if substituted
        && command.args.iter().any(|arg| arg.raw.contains("$(curl") || arg.raw.contains("$(wget"))
    {
        let message = format!("what is loaded is run by `{}`", command.name);
        out.tell(&rule::PIPE_TO_SHELL, instruction, command.span.clone(), message);
    }
}
