//! Tests of keys: every form that OpenSSL and cosign write, by keys that OpenSSL made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::kit::{key, other_key};
use super::*;

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn plain(pem: &str) -> SigningKey {
    SigningKey::from_pem(&secret(pem), None).unwrap()
}

#[test]
fn an_encrypted_key_opens_with_its_password_alone() {
    let pem = key().to_sealed_pem(&secret("pw")).unwrap();
    let opened = SigningKey::from_pem(&pem, Some(&secret("pw"))).unwrap();
    assert_eq!(opened.public_key(), key().public_key());
    let wrong = SigningKey::from_pem(&pem, Some(&secret("no"))).unwrap_err();
    assert_eq!(wrong, KeyError::WrongPassword);
    assert_eq!(SigningKey::from_pem(&pem, None).unwrap_err(), KeyError::NoPassword);
    let old = pem.expose().replace("ENCRYPTED SIGSTORE", "ENCRYPTED COSIGN");
    assert!(SigningKey::from_pem(&secret(&old), Some(&secret("pw"))).is_ok());
    // An empty password is one, too.
    let pem = key().to_sealed_pem(&secret("")).unwrap();
    assert!(SigningKey::from_pem(&pem, Some(&secret(""))).is_ok());
}

#[test]
fn what_is_no_key_is_refused_without_repeating_it() {
    for text in ["", "hunter2", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
        let error = SigningKey::from_pem(&secret(text), None).unwrap_err().to_string();
        assert!(error.contains("not PEM") && !error.contains("hunter2"), "{error}");
    }
    let body = r#"{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1},"salt":""},"cipher":{"name":"nacl/secretbox","nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"ciphertext":""}"#;
    let bomb = pem::armor(sealed::LABEL, body.as_bytes());
    let error = SigningKey::from_pem(&secret(&bomb), Some(&secret("pw"))).unwrap_err();
    assert!(error.to_string().contains("out of bounds"), "{error}");
    let address = SigningKey::from_pem(&secret("env://COSIGN_KEY"), None).unwrap_err();
    assert!(address.hint().contains("--secret"), "{address}");
}

#[test]
fn a_signature_verifies_under_its_key_alone() {
    let signature = key().sign_now(b"message").unwrap();
    assert_eq!(signature, key().sign_now(b"message").unwrap(), "signing is deterministic");
    assert!(key().public_key().verifies(b"message", &signature));
    assert!(!key().public_key().verifies(b"massage", &signature));
    assert!(!other_key().public_key().verifies(b"message", &signature));
    assert!(!key().public_key().verifies(b"message", b"not a signature"));
}

#[test]
fn every_algorithm_reads_what_openssl_wrote() {
    let p384 = include_str!("fixtures/p384.pem");
    let ed25519 = include_str!("fixtures/ed25519.pem");
    let rsa = include_str!("fixtures/rsa.pem");
    for (pem, public, signed, algorithm) in [
        (
            p384,
            include_str!("fixtures/p384.pub"),
            include_str!("fixtures/p384-sha384.sig"),
            Algorithm::EcdsaP384,
        ),
        (
            ed25519,
            include_str!("fixtures/ed25519.pub"),
            include_str!("fixtures/ed25519.sig"),
            Algorithm::Ed25519,
        ),
        (rsa, include_str!("fixtures/rsa.pub"), include_str!("fixtures/rsa.sig"), Algorithm::Rsa),
    ] {
        let key = plain(pem);
        assert_eq!(key.public_key().to_pem(), public);
        let public = PublicKey::from_pem(public).unwrap();
        assert_eq!((&public, public.algorithm()), (key.public_key(), algorithm));
        assert!(public.verifies(b"message", &BASE64.decode(signed).unwrap()), "{algorithm}");
        assert!(!public.verifies(b"massage", &BASE64.decode(signed).unwrap()), "{algorithm}");
        let ours = key.sign_now(b"message").unwrap();
        assert!(public.verifies(b"message", &ours), "{algorithm}");
        assert_eq!(ours, key.sign_now(b"message").unwrap(), "{algorithm}");
        // What it writes of itself is read again, sealed and plain.
        let again = SigningKey::from_pem(&key.to_plain_pem(), None).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let sealed = key.to_sealed_pem(&secret("pw")).unwrap();
        let again = SigningKey::from_pem(&sealed, Some(&secret("pw"))).unwrap();
        assert_eq!(again.public_key(), key.public_key());
    }
    let sec1 = plain(include_str!("fixtures/p384-sec1.pem"));
    assert_eq!(sec1.public_key(), plain(p384).public_key());
    let pkcs1 = plain(include_str!("fixtures/rsa-pkcs1.pem"));
    assert_eq!(pkcs1.public_key(), plain(rsa).public_key());
    for (sealed, of) in [
        (include_str!("fixtures/p384-encrypted.pem"), p384),
        (include_str!("fixtures/ed25519-scrypt.pem"), ed25519),
    ] {
        let opened = SigningKey::from_pem(&secret(sealed), Some(&secret("pw"))).unwrap();
        assert_eq!(opened.public_key(), plain(of).public_key());
        let wrong = SigningKey::from_pem(&secret(sealed), Some(&secret("no"))).unwrap_err();
        assert_eq!(wrong, KeyError::WrongPassword);
    }
}

#[test]
fn keys_of_other_algorithms_and_short_ones_are_named() {
    let refuse = |pem| SigningKey::from_pem(&secret(pem), None).unwrap_err();
    let other = refuse(include_str!("fixtures/p521.pem"));
    assert!(matches!(other, KeyError::OtherAlgorithm { .. }), "{other}");
    assert_eq!(refuse(include_str!("fixtures/rsa-1024.pem")), KeyError::TooShort);
}

#[test]
fn a_made_key_signs_and_is_another_each_time() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::EcdsaP384, Algorithm::Ed25519] {
        let (one, two) =
            (SigningKey::generate(algorithm).unwrap(), SigningKey::generate(algorithm).unwrap());
        assert_eq!(one.public_key().algorithm(), algorithm);
        assert_ne!(one.public_key(), two.public_key());
        let signature = one.sign_now(b"message").unwrap();
        assert!(one.public_key().verifies(b"message", &signature));
        assert!(!two.public_key().verifies(b"message", &signature));
    }
    assert!(SigningKey::generate(Algorithm::Rsa).is_err());
}

#[test]
fn plain_keys_and_public_keys_read_back() {
    use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
    let secret_key = p256::SecretKey::from_slice(&[1; 32]).unwrap();
    let pkcs8 = secret_key.to_pkcs8_pem(LineEnding::LF).unwrap();
    let sec1 = secret_key.to_sec1_pem(LineEnding::LF).unwrap();
    for pem in [&pkcs8, &sec1] {
        assert_eq!(plain(pem).public_key(), key().public_key());
    }
    let pem = key().public_key().to_pem();
    assert_eq!(&PublicKey::from_pem(&pem).unwrap(), key().public_key());
    assert!(PublicKey::from_pem("x").is_err() && PublicKey::from_pem(&pkcs8).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(-----BEGIN [A-Z ]{0,30}-----\n)?\\PC{0,200}") {
        let _ = SigningKey::from_pem(&secret(&text), Some(&secret("pw")));
        let _ = PublicKey::from_pem(&text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0_u8.., 0..200), at in 0_usize..6) {
        let labels = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "PUBLIC KEY",
            "ENCRYPTED PRIVATE KEY", sealed::LABEL];
        let text = pem::armor(labels[at], &bytes);
        let _ = SigningKey::from_pem(&secret(&text), Some(&secret("pw")));
        let _ = PublicKey::from_pem(&text);
    }
}
