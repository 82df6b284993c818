//! BuildKit's own test files: what its reader made of each, ours makes, too.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Instruction, Keyword, read};

#[expect(clippy::disallowed_methods, reason = "a test is told where its data is")]
#[expect(clippy::print_stderr, reason = "a skipped test says that it was skipped")]
fn peers() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let shared = std::env::var_os("FAIRLEAD_PEERS").map(PathBuf::from);
    let folder = shared.unwrap_or_else(|| root.join("shared/data/peers"));
    let folder = folder.join("dockerfile-parser/frontend/dockerfile/parser");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is not there", folder.display());
    None
}

/// A text as Go quotes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\0' => out.push_str("\\x00"),
            '\u{c}' => out.push_str("\\f"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// An instruction as BuildKit's parser prints it.
fn dump(instruction: &Instruction) -> String {
    let mut out = format!("({}", instruction.written.to_lowercase());
    if !instruction.flags.is_empty() {
        let flags: Vec<_> = instruction.flags.iter().map(|flag| quoted(&flag.text)).collect();
        let _ = write!(out, " [{}]", flags.join(" "));
    }
    let mut say = |text: &str| {
        let _ = write!(out, " {}", quoted(text));
    };
    let body = instruction.body_text();
    match instruction.keyword {
        Keyword::Env | Keyword::Label => {
            for pair in instruction.pairs() {
                say(&pair.name.raw);
                say(pair.value.as_ref().map_or("", |value| &value.raw));
                say(if pair.equals { "=" } else { "" });
            }
        }
        Keyword::Healthcheck
        | Keyword::Cmd
        | Keyword::Entrypoint
        | Keyword::Run
        | Keyword::Shell => {
            if let Some(mode) = &instruction.mode {
                say(&mode.raw.to_uppercase());
            }
            if instruction.is_json() {
                instruction.words().iter().for_each(|word| say(&word.value));
            } else if !body.is_empty() {
                say(body);
            }
        }
        Keyword::Add | Keyword::Copy | Keyword::Volume if instruction.is_json() => {
            instruction.words().iter().for_each(|word| say(&word.value));
        }
        Keyword::Add | Keyword::Copy | Keyword::Volume | Keyword::Expose | Keyword::From => {
            body.split_whitespace().for_each(say);
        }
        Keyword::Arg => instruction.words().iter().for_each(|word| say(&word.raw)),
        Keyword::Maintainer
        | Keyword::Onbuild
        | Keyword::Stopsignal
        | Keyword::User
        | Keyword::Workdir
        | Keyword::Unknown => say(body),
    }
    out.push(')');
    if instruction.onbuild { format!("(onbuild {out})") } else { out }
}

#[test]
fn the_files_of_buildkit_are_read_as_buildkit_reads_them() {
    let Some(folder) = peers() else { return };
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(folder.join("testfiles")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path.join("Dockerfile")).unwrap();
        let want = std::fs::read_to_string(path.join("result")).unwrap();
        let file = read(&text);
        let got: Vec<String> = file.instructions.iter().map(dump).collect();
        for (index, want) in want.trim().lines().enumerate() {
            let got = got.get(index).map_or("nothing", String::as_str);
            if got != want {
                wrong.push(format!("{name}:{index}\n  want {want}\n  got  {got}"));
            }
        }
        if got.len() != want.trim().lines().count() {
            wrong.push(format!("{name}: {} instructions", got.len()));
        }
        seen += 1;
    }
    assert!(seen >= 30, "{seen} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_negatives_of_buildkit_are_refused() {
    let Some(folder) = peers() else { return };
    for entry in std::fs::read_dir(folder.join("testfiles-negative")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(path.join("Dockerfile")).unwrap();
        assert!(!read(&text).problems.is_empty(), "{}", path.display());
    }
}

#[test]
fn lines_are_counted_as_buildkit_counts_them() {
    let Some(folder) = peers() else { return };
    let text = std::fs::read_to_string(folder.join("testfile-line/Dockerfile")).unwrap();
    let lines: Vec<usize> = read(&text).instructions.iter().map(|found| found.line).collect();
    let want: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| {
            ["FROM", "ENV", "RUN", "LABEL"].iter().any(|word| line.trim_start().starts_with(word))
        })
        .map(|(index, _)| index + 1)
        .collect();
    assert_eq!(lines, want);
}
