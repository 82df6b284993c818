//! The same files, looked at by hadolint: whatever the two see differently is explained, one by one.
//!
//! `corpus/hadolint.txt` holds what hadolint 2.15.1 says of each file, a line, and a code at a time;
//! `corpus/differences.txt` what is not the same here, with the reason. Where hadolint is at hand
//! (`tests/setup/hadolint.sh`), it is asked again.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use fairlead_step_lint::{Config, lint};

/// A file, a line, and hadolint's code of the rule.
type Seen = (String, usize, String);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn files() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|e| e == "Dockerfile"));
    files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn ours() -> BTreeSet<Seen> {
    let today = "2026-01-01".parse().unwrap();
    let mut seen = BTreeSet::new();
    for (name, text) in files() {
        for finding in lint(&name, &text, &Config::default(), None, today).findings {
            // hadolint has the rule, and has it off.
            let alias = finding.alias.filter(|alias| *alias != "DL3057");
            // It tells the line of the instruction.
            let line = instruction_line(&text, finding.place.line);
            seen.extend(alias.map(|alias| (name.clone(), line, alias.to_owned())));
        }
    }
    seen
}

/// The line on which the instruction begins that has this line.
fn instruction_line(text: &str, line: usize) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = line;
    loop {
        let above = at.checked_sub(2).map(|above| lines[above].trim_end());
        let escape = if text.starts_with("# escape=`") { '`' } else { '\\' };
        // Comments and blank lines may stand between the parts of an instruction.
        let joined = match above {
            Some(above) if above.ends_with(escape) => true,
            Some(above) if above.trim().is_empty() || above.trim().starts_with('#') => {
                let part = lines[..at - 1].iter().rev().find(|line| {
                    let line = line.trim();
                    !line.is_empty() && !line.starts_with('#')
                });
                part.is_some_and(|part| part.trim_end().ends_with(escape))
            }
            Some(_) | None => false,
        };
        if !joined {
            break;
        }
        at -= 1;
    }
    // A heredoc belongs to the instruction above it.
    let heredoc = lines[..at].iter().enumerate().rev().find_map(|(index, line)| {
        let name = line.split("<<").nth(1)?.trim_start_matches('-');
        let name: String =
            name.trim_matches('"').chars().take_while(char::is_ascii_alphanumeric).collect();
        let end = lines[index + 1..].iter().position(|line| line.trim() == name)?;
        (index + 1 < at && at <= index + 1 + end + 1).then_some(index + 1)
    });
    heredoc.unwrap_or(at)
}

fn listed(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(corpus().join(name)).unwrap();
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()
}

fn seen(line: &str) -> Seen {
    let mut words = line.split_whitespace();
    let mut next = || words.next().unwrap_or_else(|| panic!("{line}")).to_owned();
    (next(), next().parse().unwrap(), next())
}

#[test]
fn what_hadolint_sees_is_seen() {
    let theirs: BTreeSet<Seen> = listed("hadolint.txt").iter().map(|line| seen(line)).collect();
    let ours = ours();
    // `+` is ours alone, `-` theirs alone.
    let found = theirs.difference(&ours).map(|seen| ('-', seen));
    let found = found.chain(ours.difference(&theirs).map(|seen| ('+', seen)));
    let found: BTreeSet<(char, Seen)> = found.map(|(side, seen)| (side, seen.clone())).collect();
    let explained: BTreeMap<(char, Seen), String> = listed("differences.txt")
        .iter()
        .map(|line| {
            let (what, why) = line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}"));
            ((what.chars().next().unwrap(), seen(&what[1..])), why.to_owned())
        })
        .collect();
    let say = |list: Vec<&(char, Seen)>| {
        let lines: Vec<String> =
            list.into_iter().map(|(side, (f, l, c))| format!("{side} {f} {l} {c}")).collect();
        lines.join("\n")
    };
    let new = found.iter().filter(|what| !explained.contains_key(what)).collect();
    let gone = explained.keys().filter(|what| !found.contains(what)).collect();
    let (new, gone) = (say(new), say(gone));
    assert!(
        new.is_empty() && gone.is_empty(),
        "not explained:\n{new}\nexplained, and gone:\n{gone}"
    );
    assert!(files().len() > 40 && theirs.len() > 200, "{} {}", files().len(), theirs.len());
}

#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the other linter is a program, where a variable says"
)]
fn hadolint_still_says_what_is_written_down() {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/services");
    let services = std::env::var_os("FAIRLEAD_SERVICES").map_or_else(usual, PathBuf::from);
    let program = services.join("hadolint/venv/bin/hadolint");
    if !program.is_file() {
        eprintln!("skipped: tests/setup/hadolint.sh was not run");
        return;
    }
    let mut theirs = BTreeSet::new();
    for name in files().keys() {
        let mut command = Command::new(&program);
        command.args(["--no-fail", "--format", "json", name]).current_dir(corpus());
        let output = command.output().unwrap();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for finding in found.as_array().unwrap() {
            let code = finding["code"].as_str().unwrap();
            let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
            if code.starts_with("DL") {
                theirs.insert((name.clone(), line, code.to_owned()));
            }
        }
    }
    let written: BTreeSet<Seen> = listed("hadolint.txt").iter().map(|line| seen(line)).collect();
    assert_eq!(theirs, written);
}
