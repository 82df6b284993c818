//! Public keys: what a signature is held against.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fairlead_step::Digest;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::{AnyRef, BitStringRef};
use pkcs8::der::{Decode as _, Encode as _};
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha2::{Digest as _, Sha256};

use super::{Algorithm, KeyError, MAX_KEY_TEXT, oid, pem};

const WHAT: &str = "public key";

/// A public key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// Its SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in DER.
    der: Vec<u8>,
    /// The key itself, as the SubjectPublicKeyInfo holds it.
    raw: Vec<u8>,
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`, as in `cosign.pub`: ECDSA on P-256 or P-384, Ed25519, or
    /// RSA of 2048 bits or more.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let text = pem.trim();
        let not_pem = |problem| KeyError::NotPem { what: WHAT, problem };
        match pem::label(text) {
            Some("PUBLIC KEY") if text.len() <= MAX_KEY_TEXT => {
                let der = pem::body(text).ok_or_else(|| not_pem("its body is not base64"))?;
                Self::from_der(&der)
            }
            Some("PUBLIC KEY") => Err(not_pem("it is too long")),
            Some(_) => Err(not_pem("it is no `PUBLIC KEY`")),
            None => Err(not_pem("it has no `-----BEGIN …-----` line")),
        }
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`KeyError`] says what is wrong.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(der)
            .map_err(|_| KeyError::NotPem { what: WHAT, problem: "its bytes are no key" })?;
        let other =
            || KeyError::OtherAlgorithm { what: WHAT, found: info.algorithm.oid.to_string() };
        let raw = info.subject_public_key.as_bytes().ok_or_else(other)?;
        let algorithm = Algorithm::of(&info.algorithm).ok_or_else(other)?;
        let raw = match algorithm {
            // A point may be written in two ways, of which one is used from here on.
            Algorithm::EcdsaP256 => {
                let point = p256::PublicKey::from_sec1_bytes(raw).map_err(|_| other())?;
                point.to_sec1_point(false).as_bytes().to_vec()
            }
            Algorithm::EcdsaP384 => {
                let point = p384::PublicKey::from_sec1_bytes(raw).map_err(|_| other())?;
                point.to_sec1_point(false).as_bytes().to_vec()
            }
            Algorithm::Ed25519 if raw.len() == 32 => raw.to_vec(),
            Algorithm::Ed25519 => return Err(other()),
            // 2048 bits of modulus and what frames them.
            Algorithm::Rsa if raw.len() >= 262 => raw.to_vec(),
            Algorithm::Rsa => return Err(KeyError::TooShort),
        };
        Self::new(algorithm, raw)
    }

    pub(super) fn new(algorithm: Algorithm, raw: Vec<u8>) -> Result<Self, KeyError> {
        let broken = |_| KeyError::NotPem { what: WHAT, problem: "it cannot be written" };
        let (curve, id): (Option<ObjectIdentifier>, _) = match algorithm {
            Algorithm::EcdsaP256 => (Some(oid::P256), oid::EC),
            Algorithm::EcdsaP384 => (Some(oid::P384), oid::EC),
            Algorithm::Ed25519 => (None, oid::ED25519),
            Algorithm::Rsa => (None, oid::RSA),
        };
        let parameters = match (algorithm, &curve) {
            (_, Some(curve)) => Some(AnyRef::from(curve)),
            (Algorithm::Rsa, None) => Some(AnyRef::NULL),
            (Algorithm::EcdsaP256 | Algorithm::EcdsaP384 | Algorithm::Ed25519, None) => None,
        };
        let info = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef { oid: id, parameters },
            subject_public_key: BitStringRef::from_bytes(&raw).map_err(broken)?,
        };
        let der = info.to_der().map_err(broken)?;
        Ok(Self { algorithm, der, raw })
    }

    /// The kind of key.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as PEM, as `cosign.pub` has it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::armor("PUBLIC KEY", &self.der)
    }

    /// The SHA-256 of the key's SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::from_sha256(&self.hash())
    }

    /// The hint that a bundle carries: the fingerprint's bytes in base64.
    #[must_use]
    pub fn hint(&self) -> String {
        BASE64.encode(self.hash())
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Whether `signature` is this key's over `message`. On P-384 the message may have been hashed
    /// with SHA-384, as the curve asks for, or with SHA-256, as cosign 2 does with every key; with Ed25519
    /// it may have been hashed before (Ed25519ph, RFC 8032), as cosign 3 does in bundles.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.algorithm {
            Algorithm::EcdsaP256 => &[&signature::ECDSA_P256_SHA256_ASN1],
            Algorithm::EcdsaP384 => {
                &[&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1]
            }
            Algorithm::Ed25519 => &[&signature::ED25519],
            Algorithm::Rsa => &[&signature::RSA_PKCS1_2048_8192_SHA256],
        };
        algorithms.iter().any(|algorithm| {
            UnparsedPublicKey::new(*algorithm, &self.raw).verify(message, signature).is_ok()
        }) || (self.algorithm == Algorithm::Ed25519 && self.verifies_hashed(message, signature))
    }

    /// Whether `signature` is this Ed25519 key's over the SHA-512 of `message`.
    fn verifies_hashed(&self, message: &[u8], signature: &[u8]) -> bool {
        use ed25519_dalek::Digest as _;
        let key = <[u8; 32]>::try_from(self.raw.as_slice())
            .ok()
            .and_then(|raw| ed25519_dalek::VerifyingKey::from_bytes(&raw).ok());
        let (Some(key), Ok(signature)) = (key, ed25519_dalek::Signature::from_slice(signature))
        else {
            return false;
        };
        let hash = ed25519_dalek::Sha512::new_with_prefix(message);
        key.verify_prehashed_strict(hash, None, &signature).is_ok()
    }
}
