//! Signed tokens of others (RFC 7515, RFC 7519): read, and checked with the keys of their issuer (RFC 7517).
//!
//! A key says which algorithm it is for, and a token must name that one: nothing that a token says chooses
//! how it is checked. Three algorithms are known; `none` and those with shared secrets are not among them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The most bytes of a token.
const MAX_TOKEN: usize = 16 << 10;
/// The most keys of an issuer.
const MAX_KEYS: usize = 64;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// A public key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    id: Option<String>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key as it stands in a set of keys.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl Key {
    /// The keys in a document; those that are of no use here are left out.
    pub(crate) fn all_of(document: &[u8]) -> Result<Vec<Self>, String> {
        let set: JwkSet = serde_json::from_slice(document)
            .map_err(|error| format!("it is no set of keys: {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it has {} keys, and at most {MAX_KEYS} are read", set.keys.len()));
        }
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(keys.filter_map(Self::of).collect())
    }

    fn of(jwk: Jwk) -> Option<Self> {
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: &Option<String>| decoded(text.as_deref()?);
        let (algorithm, material) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => ("RS256", Material::Rsa { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? }),
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                ("ES256", Material::P256([&[4_u8][..], x.as_slice(), y.as_slice()].concat()))
            }
            ("OKP", Some("Ed25519")) => ("EdDSA", Material::Ed25519(bytes(&jwk.x)?)),
            _ => return None,
        };
        let fits = jwk.alg.is_none_or(|named| named == algorithm);
        fits.then_some(Self { id: jwk.kid, material })
    }

    const fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// A token, read and not yet believed.
pub(crate) struct Unverified<'t> {
    message: &'t [u8],
    signature: Vec<u8>,
    algorithm: Algorithm,
    key: Option<String>,
    claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    crit: Option<Value>,
    b64: Option<Value>,
}

impl<'t> Unverified<'t> {
    /// Reads a token; none when it is no signed token, or signed by an algorithm that is not known.
    pub(crate) fn read(text: &'t str) -> Option<Self> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&decoded(header)?).ok()?;
        // What a token calls critical would have to be understood, and nothing is.
        if header.crit.is_some() || header.b64.is_some() {
            return None;
        }
        let claims: Map<String, Value> = serde_json::from_slice(&decoded(claims)?).ok()?;
        Some(Self {
            message: message.as_bytes(),
            signature: decoded(signature)?,
            algorithm: header.alg,
            key: header.kid,
            claims,
        })
    }

    /// Who it says has issued it. Keys are looked for by that, and nothing else is believed of it.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Whether `keys` have the one that it names.
    pub(crate) fn knows_key(&self, keys: &[Key]) -> bool {
        self.candidates(keys).next().is_some()
    }

    fn candidates<'k>(&self, keys: &'k [Key]) -> impl Iterator<Item = &'k Key> {
        let fits = move |key: &&Key| {
            let named = self.key.is_none() || key.id == self.key;
            named && key.algorithm() == self.algorithm
        };
        keys.iter().filter(fits)
    }

    /// What it claims, when one of `keys` has signed it.
    pub(crate) fn verified(self, keys: &[Key]) -> Option<Map<String, Value>> {
        let signed = self.candidates(keys).any(|key| key.verifies(self.message, &self.signature));
        signed.then_some(self.claims)
    }
}
