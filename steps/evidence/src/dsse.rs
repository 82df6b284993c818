//! DSSE envelopes (secure-systems-lab DSSE v1.0.2): what is signed is the type and the payload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::{PublicKey, SignError, Signer};

/// The payload type of in-toto statements.
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";

/// An envelope: a payload with signatures over its pre-authentication encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    sig: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    keyid: String,
}

impl Envelope {
    /// An envelope around an in-toto statement, signed by `signer`.
    ///
    /// # Errors
    /// When the signer does not sign.
    pub async fn sign(payload: &[u8], signer: &dyn Signer) -> Result<Self, SignError> {
        let signature = signer.sign(&encoding(IN_TOTO, payload)).await?;
        Ok(Self {
            payload: BASE64.encode(payload),
            payload_type: IN_TOTO.into(),
            signatures: vec![Signature { sig: BASE64.encode(signature), keyid: String::new() }],
        })
    }

    /// The payload, when it is an in-toto statement at all.
    #[must_use]
    pub fn statement(&self) -> Option<Vec<u8>> {
        (self.payload_type == IN_TOTO).then(|| BASE64.decode(&self.payload).ok()).flatten()
    }

    /// Whether one of the signatures is `key`'s.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Ok(payload) = BASE64.decode(&self.payload) else { return false };
        let message = encoding(&self.payload_type, &payload);
        self.signatures.iter().take(64).any(|signature| {
            BASE64.decode(&signature.sig).is_ok_and(|bytes| key.verifies(&message, &bytes))
        })
    }
}

/// The pre-authentication encoding: `DSSEv1 LEN(type) type LEN(payload) payload`.
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{key, other_key};

    #[test]
    fn the_encoding_is_the_specifications_example() {
        // DSSE protocol, "Test vectors": payload "hello world", type http://example.com/HelloWorld.
        assert_eq!(
            encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[tokio::test]
    async fn a_changed_payload_is_not_signed() {
        let mut envelope = Envelope::sign(b"{}", &key()).await.unwrap();
        assert!(envelope.is_signed_by(key().public_key()));
        assert!(!envelope.is_signed_by(other_key().public_key()));
        envelope.payload = BASE64.encode(b"{ }");
        assert!(!envelope.is_signed_by(key().public_key()));
    }
}
