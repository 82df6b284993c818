//! A text as those see it who undo its escapes.

/// How often escapes are undone: JSON within JSON, a URL within a URL.
const DEPTH: usize = 2;

/// A text whose escapes are undone, which knows where each of its bytes was.
pub(super) struct View {
    bytes: Vec<u8>,
    /// Where each byte begins in the text, and at last where the text ends.
    origins: Vec<usize>,
}

/// A way to escape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// `%20`, as in URLs (RFC 3986, section 2.1).
    Percent,
    /// The same, with `+` for a space, as in forms.
    Form,
    /// `\n`, `\"`, `\u00e4`, as in JSON (RFC 8259, section 7).
    Json,
}

impl View {
    /// Every view of `text` that differs from it.
    pub(super) fn all_of(text: &str) -> Vec<Self> {
        let mut views: Vec<(Self, usize)> = Vec::new();
        if !text.contains(['%', '+', '\\']) {
            return Vec::new();
        }
        let plain = Self { bytes: text.as_bytes().to_vec(), origins: (0..=text.len()).collect() };
        views.extend(plain.undone().map(|view| (view, 1)));
        let mut at = 0;
        while let Some((view, depth)) = views.get(at) {
            if *depth < DEPTH {
                let depth = depth + 1;
                let deeper: Vec<_> = view.undone().map(|view| (view, depth)).collect();
                views.extend(deeper);
            }
            at += 1;
        }
        views.into_iter().map(|(view, _)| view).collect()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where in the text the bytes from `start` to `end` of this view are.
    pub(super) fn origin(&self, start: usize, end: usize) -> (usize, usize) {
        let of = |at: usize| self.origins.get(at).copied().unwrap_or_default();
        (of(start), of(end))
    }

    /// Each view of this one in which something was undone.
    fn undone(&self) -> impl Iterator<Item = Self> {
        [Escape::Percent, Escape::Form, Escape::Json].into_iter().filter_map(|e| self.without(e))
    }

    fn without(&self, escape: Escape) -> Option<Self> {
        let marks: &[u8] = match escape {
            Escape::Percent => b"%",
            Escape::Form => b"+",
            Escape::Json => b"\\",
        };
        if !self.bytes.iter().any(|byte| marks.contains(byte)) {
            return None;
        }
        let mut view = Self { bytes: Vec::new(), origins: Vec::new() };
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let mut decoded = [0_u8; 4];
            let (taken, bytes): (usize, &[u8]) = match escape {
                Escape::Form if rest[0] == b'+' => (1, b" "),
                Escape::Percent | Escape::Form => percent(rest, &mut decoded),
                Escape::Json => json(rest, &mut decoded),
            };
            for byte in bytes {
                view.bytes.push(*byte);
                view.origins.push(self.origins[at]);
            }
            at += taken;
        }
        view.origins.push(self.origins[at.min(self.bytes.len())]);
        Some(view)
    }
}

/// How many bytes at the start of `rest` are one escape or none, and what they stand for.
fn percent<'d>(rest: &[u8], decoded: &'d mut [u8; 4]) -> (usize, &'d [u8]) {
    let digit = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let value = match (rest[0], digit(1), digit(2)) {
        (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
        _ => None,
    };
    decoded[0] = value.unwrap_or(rest[0]);
    (if value.is_some() { 3 } else { 1 }, &decoded[..1])
}

/// How many bytes at the start of `rest` are one escape or none, and what they stand for.
fn json<'d>(rest: &[u8], decoded: &'d mut [u8; 4]) -> (usize, &'d [u8]) {
    let simple = match (rest[0], rest.get(1)) {
        (b'\\', Some(b'n')) => Some(b'\n'),
        (b'\\', Some(b't')) => Some(b'\t'),
        (b'\\', Some(b'r')) => Some(b'\r'),
        (b'\\', Some(b'b')) => Some(8),
        (b'\\', Some(b'f')) => Some(12),
        (b'\\', Some(byte @ (b'"' | b'\\' | b'/' | b'\''))) => Some(*byte),
        _ => None,
    };
    if let Some(byte) = simple {
        decoded[0] = byte;
        return (2, &decoded[..1]);
    }
    let unit = |from: usize| {
        let escape = rest.get(from..from + 6)?;
        let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(0), unit(6)];
    let one = units[0].and_then(|unit| char::from_u32(unit.into()));
    let two = units[0]
        .zip(units[1])
        .and_then(|(high, low)| char::decode_utf16([high, low]).next().and_then(Result::ok));
    match one.map(|c| (6, c)).or(two.map(|c| (12, c))) {
        Some((taken, character)) => {
            let length = character.encode_utf8(decoded).len();
            (taken, &decoded[..length])
        }
        None => {
            decoded[0] = rest[0];
            (1, &decoded[..1])
        }
    }
}
