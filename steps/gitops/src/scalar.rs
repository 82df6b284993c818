//! Writing one scalar: the one writer of changed and of added values.

use crate::edit::Value;

/// How a scalar is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
}

/// Where a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The style that stands there, or that of the neighbors of what is added.
    pub style: Style,
    /// Whether a colon inside of the text must be quoted: readers of old do not take one in a
    /// plain scalar between braces.
    pub quote_colons: bool,
}

/// Writes `value` for its place. A text that any reader would take for another type, or for
/// syntax, gets quotes.
pub(crate) fn write(value: &Value, place: Place) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Text(text) => match place.style {
            Style::Single if !text.chars().any(is_escaped) => {
                format!("'{}'", text.replace('\'', "''"))
            }
            Style::Plain
                if is_plainly_text(text) && !(place.quote_colons && text.contains(':')) =>
            {
                text.clone()
            }
            Style::Plain | Style::Single | Style::Double => double_quoted(text),
        },
    }
}

/// Whether a character stands for itself in no quoted scalar: control characters, what YAML 1.1
/// takes for a line break, the byte-order mark, and what YAML calls not printable.
fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The escapes are those that JSON has, too.
fn double_quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if is_escaped(c) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Whether readers of YAML 1.1 and of 1.2 alike take the unquoted text for this very string. It
/// says no where there is a doubt.
pub(crate) fn is_plainly_text(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let letter_first = value.starts_with(|c: char| c.is_ascii_alphabetic());
    // A version of three or more parts, such as `1.2.3`, is no number in any YAML.
    let version = value.starts_with(|c: char| c.is_ascii_digit())
        && value.split('.').count() >= 3
        && !value.contains([':', '_']);
    (letter_first || version)
        && !reserved.contains(&lower.as_str())
        && !value.ends_with(':')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/@:+-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str, style: Style) -> String {
        write(&Value::Text(value.into()), Place { style, quote_colons: false })
    }

    #[test]
    fn the_style_is_kept_where_it_can_be() {
        for (value, style, want) in [
            ("v1.2.3", Style::Plain, "v1.2.3"),
            ("1.2.3", Style::Plain, "1.2.3"),
            ("1.10", Style::Plain, "\"1.10\""),
            ("12:30:45", Style::Plain, "\"12:30:45\""),
            ("no", Style::Plain, "\"no\""),
            ("a: b", Style::Plain, "\"a: b\""),
            ("sha256:00ff", Style::Plain, "sha256:00ff"),
            ("it's", Style::Single, "'it''s'"),
            ("two\nlines", Style::Single, "\"two\\nlines\""),
            ("next\u{85}line", Style::Single, "\"next\\u0085line\""),
            ("line\u{2028}break", Style::Single, "\"line\\u2028break\""),
            ("say \"x\"", Style::Double, "\"say \\\"x\\\"\""),
            ("", Style::Plain, "\"\""),
        ] {
            assert_eq!(text(value, style), want);
        }
        let place = Place { style: Style::Plain, quote_colons: true };
        assert_eq!(write(&Value::Text("sha256:00ff".into()), place), "\"sha256:00ff\"");
        assert_eq!(write(&Value::Integer(-3), place), "-3");
        assert_eq!(write(&Value::Boolean(true), place), "true");
    }

    /// Texts that some reader takes for something else where they stand without quotes.
    const DOUBTFUL: &[&str] = &[
        "yes",
        "on",
        "NO",
        "Off",
        "y",
        "N",
        "True",
        "null",
        "Null",
        "~",
        "=",
        "<<",
        "",
        " ",
        " a",
        "a ",
        "1_000",
        "2024-01-01",
        "2024-01-01T00:00:00Z",
        "0123",
        "0o17",
        "1e3",
        "1E+3",
        "0x1f",
        "0b1",
        "12:30:45",
        "190:20:30",
        ".inf",
        "-.INF",
        ".nan",
        "+1",
        "-",
        "---",
        "...",
        "?",
        ":",
        "a:",
        ": a",
        "a: b",
        "a #b",
        "#a",
        "@a",
        "`a",
        "%a",
        "!a",
        "&a",
        "*a",
        "|",
        ">",
        "{a}",
        "[a]",
        "a,b",
        "1.",
        ".5",
        "1,5",
        "\t",
        "\u{feff}a",
        "é",
        "- a",
        "\"",
        "'",
        "a\u{85}b",
        "a\u{2028}b",
        "\u{0}",
        "\u{7f}",
        "a\r\nb",
        "\u{fffe}",
        "\u{1f600}",
        "\\",
        "'a' # b",
        "%YAML 1.1",
    ];

    #[test]
    fn what_any_reader_takes_for_something_else_is_quoted() {
        for value in DOUBTFUL {
            assert!(!is_plainly_text(value), "{value}");
            assert!(text(value, Style::Plain).starts_with('"'), "{value}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "the reader is a program")]
    fn a_reader_of_yaml_1_1_reads_the_very_texts() {
        let plain =
            ["v1", "1.2.3", "sha256:00ff", "a/b:c", "http://x", "x1e3", "e3", "nan", "a@b+c"];
        let values: Vec<&str> = DOUBTFUL.iter().copied().chain(plain).collect();
        let mut yaml = String::new();
        for value in &values {
            for style in [Style::Plain, Style::Single, Style::Double] {
                let between = |quote_colons| {
                    write(&Value::Text((*value).into()), Place { style, quote_colons })
                };
                yaml.push_str(&format!("- {}\n- {{k: {}}}\n", between(false), between(true)));
            }
        }
        let script = "import sys, json\ntry:\n import yaml\nexcept ImportError: sys.exit(77)\n\
                      print(json.dumps(yaml.safe_load(sys.stdin.buffer.read())))";
        let python = std::process::Command::new("python3")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut python) = python else { return eprintln!("skipped: there is no python3") };
        std::io::Write::write_all(&mut python.stdin.take().unwrap(), yaml.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        if output.status.code() == Some(77) {
            return eprintln!("skipped: python3 has no yaml");
        }
        let read: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        for (value, read) in values.iter().zip(read.chunks(6)) {
            for read in read {
                let read = read.get("k").unwrap_or(read);
                assert_eq!(read.as_str(), Some(*value));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same_string(
            value in "[\\PC\\x00-\\x1f\u{85}\u{2028}\u{feff}]{0,40}",
            style in 0..3,
            between in 0..3,
        ) {
            let style = [Style::Plain, Style::Single, Style::Double][style as usize];
            let place = Place { style, quote_colons: between == 2 };
            let written = write(&Value::Text(value.clone()), place);
            let text = match between {
                0 => format!("k: {written}\n"),
                1 => format!("- {{k: {written}, l: 1}}\n"),
                _ => format!("k:\n- - [{written}]\n"),
            };
            let read: yaml_serde::Value = yaml_serde::from_str(&text).unwrap();
            let there = match between {
                0 => &read["k"],
                1 => &read[0]["k"],
                _ => &read["k"][0][0][0],
            };
            proptest::prop_assert_eq!(there.as_str(), Some(value.as_str()));
        }
    }
}
