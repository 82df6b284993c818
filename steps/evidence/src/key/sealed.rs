//! The encrypted form of cosign's keys: scrypt, then nacl/secretbox, in PEM armor.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use fairlead_step::Secret;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{KeyError, WHAT_PRIVATE};

/// The label that this build writes.
pub(super) const LABEL: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
/// The label that older cosigns wrote.
pub(super) const OLD_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";

/// The file of an encrypted key, below its PEM armor.
#[derive(Serialize, Deserialize)]
struct Encrypted {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: KdfParams,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct KdfParams {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The most memory that opening a key may take, in bytes: 128 · N · r (RFC 7914, section 5).
/// cosign's own parameters take 64 MiB.
const MAX_KDF_MEMORY: u64 = 512 << 20;

/// cosign's own parameters.
const COST: KdfParams = KdfParams { n: 65_536, r: 8, p: 1 };

const fn not_pem(problem: &'static str) -> KeyError {
    KeyError::NotPem { what: WHAT_PRIVATE, problem }
}

/// Opens the body of an encrypted key: the answer is PKCS#8 in DER.
pub(super) fn open(body: &[u8], password: &Secret<String>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let sealed: Encrypted =
        serde_json::from_slice(body).map_err(|_| not_pem("its encrypted body is malformed"))?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(not_pem("it is not encrypted with scrypt and nacl/secretbox"));
    }
    let decode = |text: &str| BASE64.decode(text).map_err(|_| not_pem("its body is malformed"));
    let (salt, nonce) = (decode(&sealed.kdf.salt)?, decode(&sealed.cipher.nonce)?);
    let ciphertext = decode(&sealed.ciphertext)?;
    let nonce: [u8; 24] =
        nonce.try_into().map_err(|_| not_pem("its nonce is not 24 bytes long"))?;
    let cipher = cipher(password, &salt, &sealed.kdf.params)?;
    let opened = cipher.decrypt(&nonce.into(), ciphertext.as_slice());
    opened.map(Zeroizing::new).map_err(|_| KeyError::WrongPassword)
}

/// Encrypts PKCS#8 in DER; the answer is PEM, as `cosign.key` has it.
pub(super) fn seal(der: &[u8], password: &Secret<String>) -> Result<String, KeyError> {
    let (salt, nonce): ([u8; 32], [u8; 24]) = (rand::rng().random(), rand::rng().random());
    let cipher = cipher(password, &salt, &COST)?;
    let ciphertext =
        cipher.encrypt(&nonce.into(), der).map_err(|_| not_pem("it cannot be encrypted"))?;
    let file = Encrypted {
        kdf: Kdf { name: "scrypt".into(), params: COST, salt: BASE64.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".into(), nonce: BASE64.encode(nonce) },
        ciphertext: BASE64.encode(ciphertext),
    };
    let body = serde_json::to_vec(&file).map_err(|_| not_pem("it cannot be written"))?;
    Ok(super::pem::armor(LABEL, &body))
}

fn cipher(
    password: &Secret<String>,
    salt: &[u8],
    params: &KdfParams,
) -> Result<XSalsa20Poly1305, KeyError> {
    let out_of_bounds = || not_pem("its scrypt parameters are out of bounds");
    let KdfParams { n, r, p } = *params;
    let memory = 128_u64.saturating_mul(n).saturating_mul(u64::from(r));
    if !n.is_power_of_two() || n < 2 || memory > MAX_KDF_MEMORY || !(1..=16).contains(&p) {
        return Err(out_of_bounds());
    }
    let params = u8::try_from(n.trailing_zeros())
        .ok()
        .and_then(|log_n| scrypt::Params::new(log_n, r, p).ok())
        .ok_or_else(out_of_bounds)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    scrypt::scrypt(password.line().as_bytes(), salt, &params, &mut *key)
        .map_err(|_| out_of_bounds())?;
    Ok(XSalsa20Poly1305::new((&*key).into()))
}
