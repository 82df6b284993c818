//! Proofs: HMAC over raw bytes and shared tokens, compared in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_step::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Proof, ReceiveError, SenderError, SenderKind};
use crate::Headers;

/// What a Standard Webhooks key begins with.
const WEBHOOK_KEY: &str = "whsec_";
/// How far the time of a signature may be from now, in seconds.
const WINDOW: u64 = 300;
/// The least characters of a secret that stands in an address: nobody counts guesses there.
const MIN_ADDRESS: usize = 24;

pub(super) fn check_secret(kind: SenderKind, secret: &Secret<String>) -> Result<(), SenderError> {
    let text = secret.expose();
    if text.trim().is_empty() {
        return Err(SenderError::BadSecret { problem: "is empty" });
    }
    if text.starts_with(WEBHOOK_KEY) && webhook_key(secret).is_none() {
        return Err(SenderError::BadSecret { problem: "begins with `whsec_` and is not base64" });
    }
    if kind.proof() == Proof::Address {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
        if text.len() < MIN_ADDRESS || !text.bytes().all(plain) {
            return Err(SenderError::BadSecret {
                problem: "is the end of the address that this sender sends to, since it has no \
                          other proof: make it at least 24 random letters and digits",
            });
        }
    }
    Ok(())
}

/// The key behind a `whsec_` secret, where it is one.
pub(crate) fn webhook_key(secret: &Secret<String>) -> Option<Secret<Vec<u8>>> {
    let key = STANDARD.decode(secret.expose().strip_prefix(WEBHOOK_KEY)?).ok()?;
    (!key.is_empty()).then(|| Secret::new(key))
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    // HMAC takes a key of any length; the library's signature alone says otherwise.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac)
}

/// Whether `hex` is the HMAC-SHA256 of `body`.
pub(super) fn hmac_hex_fits(key: &[u8], body: &[u8], hex: &str) -> bool {
    let Ok(claimed) = hex::decode(hex.trim()) else { return false };
    // `verify_slice` compares in constant time.
    hmac(key, &[body]).is_some_and(|mac| mac.verify_slice(&claimed).is_ok())
}

/// Whether `base64` is the HMAC-SHA256 of the parts, one after the other.
pub(super) fn hmac_base64_fits(key: &[u8], parts: &[&[u8]], base64: &str) -> bool {
    let Ok(claimed) = STANDARD.decode(base64) else { return false };
    hmac(key, parts).is_some_and(|mac| mac.verify_slice(&claimed).is_ok())
}

/// Whether `hex` is the HMAC-SHA1 of `body`. As a MAC it is not broken, and one sender has no other.
pub(super) fn hmac_sha1_hex_fits(key: &[u8], body: &[u8], hex: &str) -> bool {
    let Ok(claimed) = hex::decode(hex.trim()) else { return false };
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else { return false };
    mac.update(body);
    mac.verify_slice(&claimed).is_ok()
}

/// The headers of a Standard Webhooks 1.0 signature, whose time is within the window.
pub(super) struct StandardWebhook<'a> {
    id: &'a str,
    time: &'a str,
    signatures: &'a str,
}

const STANDARD_SIGNATURE: &str = "webhook-signature";

impl<'a> StandardWebhook<'a> {
    /// Reads them. What is not signed, or was at another time, is refused before the body is read.
    pub(super) fn of(headers: &'a Headers, now: Timestamp) -> Result<Self, ReceiveError> {
        let header = |name| headers.get(name).ok_or(ReceiveError::Unsigned { header: name });
        let signatures = header(STANDARD_SIGNATURE)?;
        let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
        let wrong = ReceiveError::WrongSignature { header: STANDARD_SIGNATURE };
        let signed: i64 = time.parse().map_err(|_| wrong)?;
        let seconds = now.as_second().abs_diff(signed);
        if seconds > WINDOW {
            return Err(ReceiveError::OutsideWindow { seconds });
        }
        Ok(Self { id, time, signatures })
    }

    /// Whether one of the signatures is of this body. While a key is being changed there is one for
    /// each.
    pub(super) fn fits(&self, key: &Secret<Vec<u8>>, body: &[u8]) -> Result<(), ReceiveError> {
        let parts: [&[u8]; 5] = [self.id.as_bytes(), b".", self.time.as_bytes(), b".", body];
        let fits = self.signatures.split(' ').take(16).any(|one| {
            one.strip_prefix("v1,")
                .is_some_and(|base64| hmac_base64_fits(key.expose(), &parts, base64))
        });
        let wrong = ReceiveError::WrongSignature { header: STANDARD_SIGNATURE };
        if fits { Ok(()) } else { Err(wrong) }
    }
}

/// What stands in a header that must be there: `name` is how it is looked up, `header` how it is told.
pub(super) fn required<'h>(
    headers: &'h Headers,
    name: &str,
    header: &'static str,
) -> Result<&'h str, ReceiveError> {
    headers.get(name).ok_or(ReceiveError::Unsigned { header })
}

/// `sha256=` and the HMAC of the raw body, as GitHub writes it and others do after it.
pub(super) fn hub(
    secret: &Secret<String>,
    headers: &Headers,
    body: &[u8],
    (name, header): (&str, &'static str),
) -> Result<(), ReceiveError> {
    let fits = required(headers, name, header)?
        .strip_prefix("sha256=")
        .is_some_and(|hex| hmac_hex_fits(secret.expose().as_bytes(), body, hex));
    if fits { Ok(()) } else { Err(ReceiveError::WrongSignature { header }) }
}

/// A secret that is all of a header's value.
pub(super) fn plain_header(
    secret: &Secret<String>,
    headers: &Headers,
    name: &str,
    header: &'static str,
) -> Result<(), ReceiveError> {
    let value = required(headers, name, header)?;
    let fits = same_text(secret.expose(), value.trim());
    if fits { Ok(()) } else { Err(ReceiveError::WrongSignature { header }) }
}

/// A secret that is the end of the address which was sent to.
pub(super) fn address(secret: &Secret<String>, end: Option<&str>) -> Result<(), ReceiveError> {
    let end = end.ok_or(ReceiveError::NoAddress)?;
    if same_text(secret.expose(), end) { Ok(()) } else { Err(ReceiveError::WrongAddress) }
}

/// Whether somebody who gave `given` knows the secret. The time it takes tells neither the secret
/// nor its length: hashes are what is compared.
#[must_use]
pub fn same_text(secret: &str, given: &str) -> bool {
    Sha256::digest(secret).as_slice().ct_eq(Sha256::digest(given).as_slice()).into()
}

/// A shared token in `Authorization`: `Bearer <token>`, or `Basic` with the token as the password.
pub(super) fn authorization(
    secret: &Secret<String>,
    headers: &Headers,
) -> Result<(), ReceiveError> {
    const HEADER: &str = "Authorization";
    let value = headers.get("authorization").ok_or(ReceiveError::Unsigned { header: HEADER })?;
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let fits = if scheme.eq_ignore_ascii_case("bearer") {
        same_text(secret.expose(), rest.trim())
    } else if scheme.eq_ignore_ascii_case("basic") {
        STANDARD
            .decode(rest.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|pair| pair.split_once(':').map(|(_, p)| same_text(secret.expose(), p)))
            .unwrap_or(false)
    } else {
        false
    };
    if fits { Ok(()) } else { Err(ReceiveError::WrongSignature { header: HEADER }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn the_hmac_is_that_of_the_standard() {
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let body = b"what do ya want for nothing?";
        assert!(hmac_hex_fits(b"Jefe", body, hex));
        assert!(!hmac_hex_fits(b"Jeff", body, hex));
        assert!(!hmac_hex_fits(b"Jefe", b"what do ya want for something?", hex));
        for bad in ["", "zz", &hex[..62], &format!("{hex}00")] {
            assert!(!hmac_hex_fits(b"Jefe", body, bad), "{bad}");
        }
    }

    /// RFC 2202, test case 2 of HMAC-SHA1.
    #[test]
    fn the_older_hmac_is_that_of_its_standard() {
        let (hex, body) =
            ("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79", b"what do ya want for nothing?");
        assert!(hmac_sha1_hex_fits(b"Jefe", body, hex));
        assert!(!hmac_sha1_hex_fits(b"Jeff", body, hex));
        assert!(!hmac_sha1_hex_fits(b"Jefe", &body[1..], hex));
        assert!(!hmac_sha1_hex_fits(b"Jefe", body, &hex[..38]));
    }

    #[test]
    fn a_token_is_taken_as_bearer_or_as_a_password() {
        let secret = Secret::new("s3cret".to_owned());
        let check = |value: &str| {
            authorization(&secret, &[("Authorization", value)].into_iter().collect::<Headers>())
        };
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(check("Bearer s3cret"), Ok(()));
        assert_eq!(check("bearer s3cret"), Ok(()));
        assert_eq!(check(&basic("zot:s3cret")), Ok(()));
        for bad in
            ["s3cret", "Bearer", "Bearer s3cre", "Bearer s3cret2", "Basic %", &basic("s3cret")]
        {
            assert!(matches!(check(bad), Err(ReceiveError::WrongSignature { .. })), "{bad}");
        }
        assert!(matches!(
            authorization(&secret, &Headers::default()),
            Err(ReceiveError::Unsigned { .. })
        ));
    }

    #[test]
    fn a_useless_secret_is_refused_at_the_start() {
        let check = |kind, text: &str| check_secret(kind, &Secret::new(text.to_owned()));
        for bad in ["", "  ", "whsec_", "whsec_%%"] {
            assert!(check(SenderKind::GitLab, bad).is_err(), "{bad:?}");
        }
        assert!(check(SenderKind::GitLab, "whsec_c2VjcmV0").is_ok());
        // What stands in an address must not be guessed, and must fit there.
        for bad in ["short", "a/bcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwx?y=1"] {
            assert!(check(SenderKind::DockerHub, bad).is_err(), "{bad:?}");
        }
        assert!(check(SenderKind::DockerHub, "4f1c2b7e9a0d4f1c2b7e9a0d").is_ok());
    }
}
