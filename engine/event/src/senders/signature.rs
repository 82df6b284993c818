//! Proofs: HMAC-SHA256 over raw bytes and shared tokens, compared in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fairlead_step::Secret;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{ReceiveError, SenderError};
use crate::Headers;

/// What a Standard Webhooks key begins with.
const WEBHOOK_KEY: &str = "whsec_";

pub(super) fn check_secret(secret: &Secret<String>) -> Result<(), SenderError> {
    if secret.expose().trim().is_empty() {
        return Err(SenderError::BadSecret { problem: "is empty" });
    }
    if secret.expose().starts_with(WEBHOOK_KEY) && webhook_key(secret).is_none() {
        return Err(SenderError::BadSecret { problem: "begins with `whsec_` and is not base64" });
    }
    Ok(())
}

/// The key behind a `whsec_` secret, where it is one.
pub(super) fn webhook_key(secret: &Secret<String>) -> Option<Secret<Vec<u8>>> {
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
        for bad in ["", "  ", "whsec_", "whsec_%%"] {
            assert!(check_secret(&Secret::new(bad.to_owned())).is_err(), "{bad:?}");
        }
        assert!(check_secret(&Secret::new("whsec_c2VjcmV0".to_owned())).is_ok());
    }
}
