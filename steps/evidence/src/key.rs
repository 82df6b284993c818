//! Keys as cosign and OpenSSL write them, and the one port through which everything signs.

mod pem;
mod public;
mod sealed;

use std::fmt;

use fairlead_step::{BoxFuture, Secret};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rand::RngExt as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use public::PublicKey;

const WHAT_PRIVATE: &str = "signing key";

/// The largest key file, in bytes.
const MAX_KEY_TEXT: usize = 64 << 10;

mod oid {
    //! Object identifiers of keys (RFC 5480, RFC 8410, RFC 8017).
    use pkcs8::ObjectIdentifier;

    pub(super) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    pub(super) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    pub(super) const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    pub(super) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on the curve P-256, over SHA-256: what cosign makes.
    EcdsaP256,
    /// ECDSA on the curve P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// RSA with PKCS #1 v1.5, over SHA-256.
    Rsa,
}

impl Algorithm {
    fn of(algorithm: &AlgorithmIdentifierRef<'_>) -> Option<Self> {
        match algorithm.oid {
            oid::EC => match algorithm.parameters_oid().ok()? {
                oid::P256 => Some(Self::EcdsaP256),
                oid::P384 => Some(Self::EcdsaP384),
                _ => None,
            },
            oid::ED25519 => Some(Self::Ed25519),
            oid::RSA => Some(Self::Rsa),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        })
    }
}

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
    /// The name of a variable in the place of a key.
    #[error("the signing key is an address (`env://…`), and no key")]
    Address,
    /// The key is encrypted, and there is no password.
    #[error("the signing key is encrypted, and no password is given")]
    NoPassword,
    /// The password does not open the key.
    #[error("the password does not open the signing key")]
    WrongPassword,
    /// A well-formed key of another algorithm.
    #[error(
        "the {what} is of an algorithm that is not read ({found}): keys are ECDSA on P-256 or P-384, \
         Ed25519, or RSA"
    )]
    OtherAlgorithm {
        /// `signing key` or `public key`.
        what: &'static str,
        /// The algorithm's object identifier.
        found: String,
    },
    /// An RSA key that is too short to be believed.
    #[error("an RSA key has 2048 bits or more, and this one has fewer")]
    TooShort,
}

impl KeyError {
    /// The way out.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotPem { .. } => {
                "give the contents of `cosign.key` (to sign) or of `cosign.pub` (to verify)"
            }
            Self::Address => {
                "write `{{ secrets.NAME }}`, and say where it comes from: `--secret NAME=env:VARIABLE`"
            }
            Self::NoPassword => "set the secret that `password` names; cosign's is COSIGN_PASSWORD",
            Self::WrongPassword => "check the secret that `password` names",
            Self::OtherAlgorithm { .. } | Self::TooShort => {
                "make a key with `fairlead key generate` or `cosign generate-key-pair`"
            }
        }
    }
}

/// Why a signer did not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {key} did not sign: {problem}")]
pub struct SignError {
    /// The key's fingerprint.
    pub key: String,
    /// What went wrong.
    pub problem: String,
}

/// The port through which everything signs: a key in memory, and whatever holds keys elsewhere.
pub trait Signer: Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message`: ASN.1 DER for ECDSA, the bare signature for the others.
    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SignError>>;
}

enum Private {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A private key in memory. Its stored form and ECDSA keys are wiped when it is dropped, and it
/// prints nothing of itself.
pub struct SigningKey {
    private: Private,
    public: PublicKey,
    /// PKCS#8 in DER.
    stored: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// Reads a key from PEM: cosign's encrypted form (`ENCRYPTED SIGSTORE PRIVATE KEY`, or the
    /// older `ENCRYPTED COSIGN PRIVATE KEY`), PKCS#8 plain (`PRIVATE KEY`) and encrypted
    /// (`ENCRYPTED PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`) and PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// Opening an encrypted key takes tenths of a second of one processor, by design of scrypt.
    ///
    /// # Errors
    /// [`KeyError`] says which part is wrong.
    pub fn from_pem(
        pem: &Secret<String>,
        password: Option<&Secret<String>>,
    ) -> Result<Self, KeyError> {
        let not_pem = |problem| KeyError::NotPem { what: WHAT_PRIVATE, problem };
        let text = pem.expose().trim();
        if text.len() > MAX_KEY_TEXT {
            return Err(not_pem("it is too long"));
        }
        if text.starts_with("env://") {
            return Err(KeyError::Address);
        }
        let label =
            pem::label(text).ok_or_else(|| not_pem("it has no `-----BEGIN …-----` line"))?;
        let body = pem::body(text).ok_or_else(|| not_pem("its body is not base64"));
        match label {
            sealed::LABEL | sealed::OLD_LABEL => {
                let password = password.ok_or(KeyError::NoPassword)?;
                Self::from_pkcs8(&sealed::open(&body?, password)?)
            }
            "ENCRYPTED PRIVATE KEY" => {
                let password = password.ok_or(KeyError::NoPassword)?;
                let body = body?;
                let info = EncryptedPrivateKeyInfoRef::from_der(&body)
                    .map_err(|_| not_pem("its encrypted body is malformed"))?;
                let opened = info
                    .decrypt(password.line().as_bytes())
                    .map_err(|_| KeyError::WrongPassword)?;
                Self::from_pkcs8(opened.as_bytes())
            }
            "PRIVATE KEY" => Self::from_pkcs8(&body?),
            "EC PRIVATE KEY" => Self::from_sec1(&body?),
            "RSA PRIVATE KEY" => {
                let body = body?;
                let algorithm =
                    AlgorithmIdentifierRef { oid: oid::RSA, parameters: Some(AnyRef::NULL) };
                Self::from_pkcs8(&wrapped(algorithm, &body)?)
            }
            "RSA PUBLIC KEY" | "PUBLIC KEY" => Err(not_pem("it is the public half")),
            _ => Err(not_pem("it holds something else than a private key")),
        }
    }

    /// Reads PKCS#8 (RFC 5208, RFC 5958) in DER.
    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let broken =
            |_| KeyError::NotPem { what: WHAT_PRIVATE, problem: "its bytes are no PKCS#8" };
        let info = PrivateKeyInfoRef::from_der(der).map_err(broken)?;
        let other = || KeyError::OtherAlgorithm {
            what: WHAT_PRIVATE,
            found: info.algorithm.oid.to_string(),
        };
        let damaged =
            || KeyError::NotPem { what: WHAT_PRIVATE, problem: "its bytes are no such key" };
        let algorithm = Algorithm::of(&info.algorithm).ok_or_else(other)?;
        let (private, raw) = match algorithm {
            Algorithm::EcdsaP256 => {
                let key = p256::SecretKey::try_from(info).map_err(|_| damaged())?;
                let raw = key.public_key().to_sec1_point(false).as_bytes().to_vec();
                (Private::P256(key.into()), raw)
            }
            Algorithm::EcdsaP384 => {
                let key = p384::SecretKey::try_from(info).map_err(|_| damaged())?;
                let raw = key.public_key().to_sec1_point(false).as_bytes().to_vec();
                (Private::P384(key.into()), raw)
            }
            Algorithm::Ed25519 => {
                let pair =
                    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| damaged())?;
                let raw = pair.public_key().as_ref().to_vec();
                (Private::Ed25519(Box::new(pair)), raw)
            }
            Algorithm::Rsa => {
                let pair = RsaKeyPair::from_pkcs8(der).map_err(|error| {
                    if error.to_string() == "TooSmall" { KeyError::TooShort } else { damaged() }
                })?;
                let raw = pair.public().as_ref().to_vec();
                (Private::Rsa(Box::new(pair)), raw)
            }
        };
        let public = PublicKey::new(algorithm, raw)?;
        Ok(Self { private, public, stored: Zeroizing::new(der.to_vec()) })
    }

    /// Reads an elliptic curve's private key by itself (SEC 1, RFC 5915), which names its curve.
    fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        use p256::pkcs8::EncodePrivateKey as _;
        let broken =
            |_| KeyError::NotPem { what: WHAT_PRIVATE, problem: "its bytes are no such key" };
        if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
            return Self::from_pkcs8(key.to_pkcs8_der().map_err(broken)?.as_bytes());
        }
        match p384::SecretKey::from_sec1_der(der) {
            Ok(key) => Self::from_pkcs8(key.to_pkcs8_der().map_err(broken)?.as_bytes()),
            Err(_) => Err(KeyError::OtherAlgorithm {
                what: WHAT_PRIVATE,
                found: "an elliptic curve".to_owned(),
            }),
        }
    }

    /// A new key, of an algorithm that takes no choice of size.
    ///
    /// # Errors
    /// [`KeyError::OtherAlgorithm`] for RSA, which other tools make.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        use p256::pkcs8::EncodePrivateKey as _;
        let broken = |_| KeyError::NotPem { what: WHAT_PRIVATE, problem: "it cannot be written" };
        match algorithm {
            Algorithm::EcdsaP256 => loop {
                let bytes = Zeroizing::new(rand::rng().random::<[u8; 32]>());
                // One in 2^32 is no key of the curve.
                if let Ok(key) = p256::SecretKey::from_slice(&*bytes) {
                    return Self::from_pkcs8(key.to_pkcs8_der().map_err(broken)?.as_bytes());
                }
            },
            Algorithm::EcdsaP384 => loop {
                let mut bytes = Zeroizing::new([0_u8; 48]);
                rand::rng().fill(&mut *bytes);
                if let Ok(key) = p384::SecretKey::from_slice(&*bytes) {
                    return Self::from_pkcs8(key.to_pkcs8_der().map_err(broken)?.as_bytes());
                }
            },
            Algorithm::Ed25519 => {
                let seed = Zeroizing::new(rand::rng().random::<[u8; 32]>());
                // RFC 8410, section 7: the seed is an octet string within the octet string.
                let inner = OctetStringRef::new(&*seed).and_then(|seed| seed.to_der());
                let inner = Zeroizing::new(inner.map_err(|error| broken(error.into()))?);
                let algorithm = AlgorithmIdentifierRef { oid: oid::ED25519, parameters: None };
                Self::from_pkcs8(&wrapped(algorithm, &inner)?)
            }
            Algorithm::Rsa => Err(KeyError::OtherAlgorithm {
                what: WHAT_PRIVATE,
                found: "RSA keys are made elsewhere and imported".to_owned(),
            }),
        }
    }

    /// The key encrypted with `password`, as `cosign.key` has it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_sealed_pem(&self, password: &Secret<String>) -> Result<Secret<String>, KeyError> {
        sealed::seal(&self.stored, password).map(Secret::new)
    }

    /// The key as it is: PKCS#8 in PEM.
    #[must_use]
    pub fn to_plain_pem(&self) -> Secret<String> {
        Secret::new(pem::armor("PRIVATE KEY", &self.stored))
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`. The same message gives the same signature (RFC 6979 for ECDSA), so a step
    /// that is run again writes the same bytes.
    ///
    /// # Errors
    /// When the key is not fit to sign with.
    pub fn sign_now(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let failed =
            |problem: String| SignError { key: self.public.fingerprint().to_string(), problem };
        match &self.private {
            Private::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(message);
                Ok(signature.as_bytes().to_vec())
            }
            Private::P384(key) => {
                // cosign hashes with SHA-256 whatever the key is, unless it is told otherwise.
                let hash = Sha256::digest(message);
                let signature: p384::ecdsa::Signature =
                    key.sign_prehash(&hash).map_err(|error| failed(error.to_string()))?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
            Private::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let random = ring::rand::SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(|_| failed("its numbers do not fit together".to_owned()))?;
                Ok(signature)
            }
        }
    }
}

impl Signer for SigningKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, SignError>> {
        Box::pin(std::future::ready(self.sign_now(message)))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(****)")
    }
}

/// A key within PKCS#8.
fn wrapped(
    algorithm: AlgorithmIdentifierRef<'_>,
    key: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let broken = |_| KeyError::NotPem { what: WHAT_PRIVATE, problem: "its bytes are no such key" };
    let key = OctetStringRef::new(key).map_err(broken)?;
    PrivateKeyInfoRef::new(algorithm, key).to_der().map(Zeroizing::new).map_err(broken)
}

#[cfg(any(test, feature = "kit"))]
pub mod kit {
    //! Keys for tests.

    use super::SigningKey;

    /// A key that `number` alone decides.
    ///
    /// # Panics
    /// For zero.
    #[must_use]
    #[expect(clippy::expect_used, reason = "for tests")]
    pub fn numbered(number: u8) -> SigningKey {
        use p256::pkcs8::EncodePrivateKey as _;
        let key = p256::SecretKey::from_slice(&[number; 32]).expect("a number of the curve");
        let der = key.to_pkcs8_der().expect("a key has a form");
        SigningKey::from_pkcs8(der.as_bytes()).expect("its own form is read")
    }

    /// The key that tests sign with.
    #[must_use]
    pub fn key() -> SigningKey {
        numbered(1)
    }

    /// Somebody else's.
    #[must_use]
    pub fn other_key() -> SigningKey {
        numbered(2)
    }

    /// A key as steps take it.
    #[must_use]
    pub fn pem_of(key: &SigningKey) -> String {
        key.to_plain_pem().expose().clone()
    }
}

#[cfg(test)]
mod tests;
