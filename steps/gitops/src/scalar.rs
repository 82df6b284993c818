//! Writing one scalar in the style that stands there already.

/// How a scalar is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Single,
    Double,
}

impl Style {
    /// The style of the source text of a one-line scalar; `None` for what is not one: blocks,
    /// collections, anchors, aliases, tags, text over several lines.
    pub(crate) fn of(source: &str) -> Option<Self> {
        if source.contains('\n') {
            return None;
        }
        match source.as_bytes().first()? {
            b'\'' => Some(Self::Single),
            b'"' => Some(Self::Double),
            b'|' | b'>' | b'{' | b'[' | b'&' | b'*' | b'!' => None,
            _ => Some(Self::Plain),
        }
    }
}

/// Writes the text `value` in `style`. A plain scalar that a reader would take for another type,
/// or for syntax, gets double quotes.
pub(crate) fn write(value: &str, style: Style) -> String {
    match style {
        Style::Single if !value.chars().any(char::is_control) => {
            format!("'{}'", value.replace('\'', "''"))
        }
        Style::Plain if is_safely_plain(value) => value.to_owned(),
        Style::Plain | Style::Single | Style::Double => double_quoted(value),
    }
}

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
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", c as u32)),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Whether both YAML 1.1 and 1.2 readers take the unquoted text for this very string.
fn is_safely_plain(value: &str) -> bool {
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
            ("say \"x\"", Style::Double, "\"say \\\"x\\\"\""),
            ("", Style::Plain, "\"\""),
        ] {
            assert_eq!(write(value, style), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back_as_the_same_string(value in "\\PC{0,40}", style in 0..3) {
            let style = [Style::Plain, Style::Single, Style::Double][style as usize];
            let text = format!("k: {}\n", write(&value, style));
            let read: std::collections::BTreeMap<String, yaml_serde::Value> =
                yaml_serde::from_str(&text).unwrap();
            proptest::prop_assert_eq!(read["k"].as_str(), Some(value.as_str()));
        }
    }
}
