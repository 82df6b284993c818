//! `Key: value` paragraphs, as dpkg (deb-control(5)) and Python's metadata (RFC 5322) write them.

/// One field of a paragraph.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) key: &'a str,
    /// The first line of the value, trimmed.
    pub(super) value: &'a str,
    /// Whether more lines of the value follow.
    pub(super) goes_on: bool,
}

/// The first line of the field `key` that has one.
pub(super) fn get<'a>(fields: &[Field<'a>], key: &str) -> Option<&'a str> {
    let field = fields.iter().find(|field| field.key.eq_ignore_ascii_case(key));
    field.map(|field| field.value).filter(|value| !value.is_empty())
}

/// The fields of the paragraph at the start of `text`, and the text behind the empty line that
/// ends it. Lines that are no field are passed over.
pub(super) fn paragraph(text: &str) -> (Vec<Field<'_>>, &str) {
    let mut fields: Vec<Field<'_>> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = behind;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            if let Some(field) = fields.last_mut() {
                field.goes_on = true;
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push(Field { key, value: value.trim(), goes_on: false });
        }
    }
    (fields, rest)
}
