//! Keys as cosign writes them: PEM, plain or encrypted with scrypt and nacl/secretbox.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};
use fairlead_step::{Digest, Secret};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, Signature, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// Why a text is not a key that can be used. No error holds any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PEM, or of a kind that holds no such key.
    #[error("the {what} is not PEM of a kind that Fairlead reads: {problem}")]
    NotPem {
        /// `signing key` or `public key`.
        what: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The key is encrypted, and there is no password.
    #[error("the signing key is encrypted, and no password is given")]
    NoPassword,
    /// The password does not open the key.
    #[error("the password does not open the signing key")]
    WrongPassword,
    /// A well-formed key of another algorithm.
    #[error("the {what} is not an ECDSA key on the curve P-256, which is the kind cosign makes")]
    OtherAlgorithm {
        /// `signing key` or `public key`.
        what: &'static str,
    },
}

impl KeyError {
    /// The way out.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotPem { .. } => {
                "give the contents of `cosign.key` (to sign) or of `cosign.pub` (to verify)"
            }
            Self::NoPassword => "set the secret that `password` names; cosign's is COSIGN_PASSWORD",
            Self::WrongPassword => "check the secret that `password` names",
            Self::OtherAlgorithm { .. } => "make a key with `cosign generate-key-pair`",
        }
    }
}

/// The file of an encrypted key, below its PEM armor.
#[derive(Deserialize)]
struct Encrypted {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: KdfParams,
    salt: String,
}

#[derive(Deserialize)]
struct KdfParams {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The most memory that opening a key may take, in bytes: 128 · N · r (RFC 7914, section 5).
/// cosign's own parameters take 64 MiB.
const MAX_KDF_MEMORY: u64 = 512 << 20;

/// The largest key file, in bytes.
const MAX_KEY_TEXT: usize = 64 << 10;

/// A private key that signs. It is wiped from memory when dropped, and prints nothing of itself.
pub struct SigningKey(p256::ecdsa::SigningKey);

impl SigningKey {
    /// Reads a key from PEM: cosign's encrypted form (`ENCRYPTED SIGSTORE PRIVATE KEY`, or the
    /// older `ENCRYPTED COSIGN PRIVATE KEY`), PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    ///
    /// Opening an encrypted key takes tenths of a second of one processor, by design of scrypt.
    ///
    /// # Errors
    /// [`KeyError`] says which part is wrong.
    pub fn from_pem(
        pem: &Secret<String>,
        password: Option<&Secret<String>>,
    ) -> Result<Self, KeyError> {
        const WHAT: &str = "signing key";
        let not_pem = |problem| KeyError::NotPem { what: WHAT, problem };
        let text = pem.expose().trim();
        if text.len() > MAX_KEY_TEXT {
            return Err(not_pem("it is too long"));
        }
        let label = label(text).ok_or_else(|| not_pem("it has no `-----BEGIN …-----` line"))?;
        let key = match label {
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let password = password.ok_or(KeyError::NoPassword)?;
                let body = armored(text).ok_or_else(|| not_pem("its body is not base64"))?;
                let der = decrypt(&body, password)?;
                p256::SecretKey::from_pkcs8_der(&der)
                    .map_err(|_| KeyError::OtherAlgorithm { what: WHAT })?
            }
            "PRIVATE KEY" => p256::SecretKey::from_pkcs8_pem(text)
                .map_err(|_| KeyError::OtherAlgorithm { what: WHAT })?,
            "EC PRIVATE KEY" => p256::SecretKey::from_sec1_pem(text)
                .map_err(|_| KeyError::OtherAlgorithm { what: WHAT })?,
            _ => return Err(not_pem("it holds something else than a private key")),
        };
        Ok(Self(key.into()))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Signs `message` with ECDSA over SHA-256, deterministically (RFC 6979): the same message
    /// gives the same signature, so a step that is run again writes the same bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(message);
        signature.to_der().as_bytes().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(****)")
    }
}

/// A public key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`, as in `cosign.pub`.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        const WHAT: &str = "public key";
        let text = pem.trim();
        match label(text) {
            Some("PUBLIC KEY") if text.len() <= MAX_KEY_TEXT => {
                VerifyingKey::from_public_key_pem(text)
                    .map(Self)
                    .map_err(|_| KeyError::OtherAlgorithm { what: WHAT })
            }
            Some(_) => Err(KeyError::NotPem { what: WHAT, problem: "it is no `PUBLIC KEY`" }),
            None => {
                let problem = "it has no `-----BEGIN …-----` line";
                Err(KeyError::NotPem { what: WHAT, problem })
            }
        }
    }

    /// The key as PEM, as `cosign.pub` has it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        // A P-256 point always encodes; an empty text would be refused by every reader.
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The SHA-256 of the key's SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::from_sha256(&self.hash())
    }

    /// The hint that a v3 bundle carries: the fingerprint's bytes in base64.
    pub(crate) fn hint(&self) -> String {
        BASE64.encode(self.hash())
    }

    fn hash(&self) -> [u8; 32] {
        let der = self.0.to_public_key_der().map(|d| d.as_bytes().to_vec()).unwrap_or_default();
        Sha256::digest(der).into()
    }

    /// Whether `signature` (ASN.1 DER) is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        DerSignature::from_bytes(signature)
            .is_ok_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}

/// The label of the first PEM block.
fn label(text: &str) -> Option<&str> {
    text.strip_prefix("-----BEGIN ")?.split_once("-----").map(|(label, _)| label)
}

/// The bytes between the first two lines of PEM armor.
fn armored(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.split_once("-----\n").or_else(|| text.split_once("-----\r\n"))?.1;
    let body = body.split_once("-----END")?.0;
    let mut compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(&compact).ok().map(Zeroizing::new);
    compact.zeroize();
    bytes
}

fn decrypt(body: &[u8], password: &Secret<String>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let not_pem = |problem| KeyError::NotPem { what: "signing key", problem };
    let sealed: Encrypted =
        serde_json::from_slice(body).map_err(|_| not_pem("its encrypted body is malformed"))?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err(not_pem("it is not encrypted with scrypt and nacl/secretbox"));
    }
    let KdfParams { n, r, p } = sealed.kdf.params;
    let memory = 128_u64.saturating_mul(n).saturating_mul(u64::from(r));
    if !n.is_power_of_two() || n < 2 || memory > MAX_KDF_MEMORY || !(1..=16).contains(&p) {
        return Err(not_pem("its scrypt parameters are out of bounds"));
    }
    let params = u8::try_from(n.trailing_zeros())
        .ok()
        .and_then(|log_n| scrypt::Params::new(log_n, r, p).ok())
        .ok_or_else(|| not_pem("its scrypt parameters are out of bounds"))?;
    let decode = |text: &str| BASE64.decode(text).map_err(|_| not_pem("its body is malformed"));
    let (salt, nonce) = (decode(&sealed.kdf.salt)?, decode(&sealed.cipher.nonce)?);
    let ciphertext = decode(&sealed.ciphertext)?;
    let nonce: [u8; 24] =
        nonce.try_into().map_err(|_| not_pem("its nonce is not 24 bytes long"))?;
    let mut key = Zeroizing::new([0_u8; 32]);
    scrypt::scrypt(password.line().as_bytes(), &salt, &params, &mut *key)
        .map_err(|_| not_pem("its scrypt parameters are out of bounds"))?;
    let cipher = XSalsa20Poly1305::new((&*key).into());
    let opened = cipher.decrypt(&nonce.into(), ciphertext.as_slice());
    opened.map(Zeroizing::new).map_err(|_| KeyError::WrongPassword)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key() -> SigningKey {
        let secret = p256::SecretKey::from_slice(&[1; 32]).unwrap();
        SigningKey(secret.into())
    }

    pub(crate) fn other_key() -> SigningKey {
        let secret = p256::SecretKey::from_slice(&[2; 32]).unwrap();
        SigningKey(secret.into())
    }

    pub(crate) fn numbered(number: u8) -> SigningKey {
        let secret = p256::SecretKey::from_slice(&[number; 32]).unwrap();
        SigningKey(secret.into())
    }

    /// The key as `sign` takes it.
    pub(crate) fn pem_of(key: &SigningKey) -> String {
        use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
        key.0.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
    }

    fn sealed(password: &str, n: u64) -> String {
        use p256::pkcs8::EncodePrivateKey as _;
        let der = p256::SecretKey::from_slice(&[1; 32]).unwrap().to_pkcs8_der().unwrap();
        let mut derived = [0; 32];
        let params = scrypt::Params::new(n.trailing_zeros() as u8, 8, 1).unwrap();
        scrypt::scrypt(password.as_bytes(), &[7; 32], &params, &mut derived).unwrap();
        let cipher = XSalsa20Poly1305::new((&derived).into());
        let text = cipher.encrypt(&[9; 24].into(), der.as_bytes()).unwrap();
        let json = serde_json::json!({
            "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": BASE64.encode([7; 32])},
            "cipher": {"name": "nacl/secretbox", "nonce": BASE64.encode([9; 24])},
            "ciphertext": BASE64.encode(text),
        });
        let body = BASE64.encode(json.to_string());
        let lines: Vec<String> =
            body.as_bytes().chunks(64).map(|c| String::from_utf8_lossy(c).into_owned()).collect();
        let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn an_encrypted_key_opens_with_its_password_alone() {
        let pem = secret(&sealed("pw", 1024));
        let opened = SigningKey::from_pem(&pem, Some(&secret("pw"))).unwrap();
        assert_eq!(opened.public_key(), key().public_key());
        let wrong = SigningKey::from_pem(&pem, Some(&secret("no"))).unwrap_err();
        assert_eq!(wrong, KeyError::WrongPassword);
        assert_eq!(SigningKey::from_pem(&pem, None).unwrap_err(), KeyError::NoPassword);
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        for text in ["", "hunter2", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
        {
            let error = SigningKey::from_pem(&secret(text), None).unwrap_err().to_string();
            assert!(error.contains("not PEM") && !error.contains("hunter2"), "{error}");
        }
        let greedy = sealed("pw", 1024).replace("ENCRYPTED SIGSTORE", "ENCRYPTED COSIGN");
        assert!(SigningKey::from_pem(&secret(&greedy), Some(&secret("pw"))).is_ok());
        let body = BASE64.encode(
            r#"{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1},"salt":""},"cipher":{"name":"nacl/secretbox","nonce":""},"ciphertext":""}"#,
        );
        let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
        let bomb = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----");
        let error = SigningKey::from_pem(&secret(&bomb), Some(&secret("pw"))).unwrap_err();
        assert!(error.to_string().contains("out of bounds"), "{error}");
    }

    #[test]
    fn a_signature_verifies_under_its_key_alone() {
        let signature = key().sign(b"message");
        assert_eq!(signature, key().sign(b"message"), "signing is deterministic");
        assert!(key().public_key().verifies(b"message", &signature));
        assert!(!key().public_key().verifies(b"massage", &signature));
        assert!(!other_key().public_key().verifies(b"message", &signature));
        assert!(!key().public_key().verifies(b"message", b"not a signature"));
    }

    #[test]
    fn plain_keys_and_public_keys_read_back() {
        use p256::pkcs8::EncodePrivateKey as _;
        let secret_key = p256::SecretKey::from_slice(&[1; 32]).unwrap();
        let pkcs8 = secret_key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let sec1 = secret_key.to_sec1_pem(LineEnding::LF).unwrap();
        for pem in [&pkcs8, &sec1] {
            let read = SigningKey::from_pem(&secret(pem), None).unwrap();
            assert_eq!(read.public_key(), key().public_key());
        }
        let pem = key().public_key().to_pem();
        assert_eq!(PublicKey::from_pem(&pem).unwrap(), key().public_key());
        assert!(PublicKey::from_pem("x").is_err() && PublicKey::from_pem(&pkcs8).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(-----BEGIN [A-Z ]{0,30}-----\n)?\\PC{0,200}") {
            let _ = SigningKey::from_pem(&secret(&text), Some(&secret("pw")));
            let _ = PublicKey::from_pem(&text);
        }
    }
}
