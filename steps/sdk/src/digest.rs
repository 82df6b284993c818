//! Content digests, as the OCI image specification names them (image-spec v1.1, "Digests").

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256, Sha512};

/// The hash algorithms that the OCI specification registers and Fairlead accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`, 64 lower-case hex digits.
    Sha256,
    /// `sha512`, 128 lower-case hex digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A content digest such as `sha256:44136fa3…`: the identity of bytes, and the unit of flow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: {problem}")]
pub struct DigestError {
    text: String,
    problem: &'static str,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::from_sha256(&Sha256::digest(bytes))
    }

    /// The digest of `bytes` under `algorithm`.
    #[must_use]
    pub fn compute(algorithm: Algorithm, bytes: &[u8]) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::sha256(bytes),
            Algorithm::Sha512 => {
                Self { algorithm, hex: hex::encode(Sha512::digest(bytes)).into_boxed_str() }
            }
        }
    }

    /// Wraps a finished SHA-256 hash (32 bytes).
    #[must_use]
    pub fn from_sha256(hash: &[u8]) -> Self {
        debug_assert_eq!(hash.len(), 32);
        Self { algorithm: Algorithm::Sha256, hex: hex::encode(hash).into_boxed_str() }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits after the colon.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hex digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }

    /// Whether `bytes` hash to this digest.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::compute(self.algorithm, bytes) == *self
    }
}

/// A digest in the making, of bytes that come piece by piece.
#[derive(Debug, Clone)]
pub struct DigestHasher(Hash);

#[derive(Debug, Clone)]
enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl DigestHasher {
    /// Of nothing yet.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => Hash::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hash::Sha512(Sha512::new()),
        })
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Hash::Sha256(hash) => hash.update(bytes),
            Hash::Sha512(hash) => hash.update(bytes),
        }
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            Hash::Sha256(hash) => Digest::from_sha256(&hash.finalize()),
            Hash::Sha512(hash) => Digest {
                algorithm: Algorithm::Sha512,
                hex: hex::encode(hash.finalize()).into_boxed_str(),
            },
        }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let fail = |problem| Err(DigestError { text: text.chars().take(160).collect(), problem });
        let Some((name, hex)) = text.split_once(':') else {
            return fail("it has no `algorithm:` before the hex digits");
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return fail("the algorithm must be sha256 or sha512"),
        };
        if hex.len() != algorithm.hex_len() {
            return fail("the number of hex digits does not fit the algorithm");
        }
        if !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return fail("only the digits 0-9 and a-f may follow the colon");
        }
        Ok(Self { algorithm, hex: hex.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": crate::schema_format::DIGEST,
            "description": "A content digest, `sha256:` and 64 hex digits.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_as_written() {
        let digest = Digest::sha256(b"{}");
        assert_eq!(
            digest.to_string(),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.matches(b"{}") && !digest.matches(b"{ }"));
    }

    #[test]
    fn pieces_make_the_digest_of_the_whole() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = DigestHasher::new(algorithm);
            for piece in [&b"a "[..], b"", b"document"] {
                hasher.update(piece);
            }
            assert_eq!(hasher.finish(), Digest::compute(algorithm, b"a document"));
        }
    }

    #[test]
    fn what_is_no_digest_is_refused_with_the_reason() {
        for (text, want) in [
            ("latest", "no `algorithm:`"),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", "must be sha256 or sha512"),
            ("sha256:abc", "number of hex digits"),
            (&format!("sha256:{}", "A".repeat(64)), "only the digits"),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
