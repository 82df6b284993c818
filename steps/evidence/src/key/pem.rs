//! PEM armor (RFC 7468), as far as keys need it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize as _, Zeroizing};

/// The label of the first block.
pub(super) fn label(text: &str) -> Option<&str> {
    text.strip_prefix("-----BEGIN ")?.split_once("-----").map(|(label, _)| label)
}

/// The bytes between the first two lines of armor.
pub(super) fn body(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.split_once("-----\n").or_else(|| text.split_once("-----\r\n"))?.1;
    let body = body.split_once("-----END")?.0;
    let mut compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(&compact).ok().map(Zeroizing::new);
    compact.zeroize();
    bytes
}

/// `bytes` in armor.
pub(super) fn armor(label: &str, bytes: &[u8]) -> String {
    let body = BASE64.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
