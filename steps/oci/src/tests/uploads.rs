//! Uploads: whole, in pieces, taken up again, mounted.

use bytes::Bytes;

use super::{client, default_client};
use crate::kit::{FakeRegistry, Fault, Login, Uploads};
use crate::{Client, Descriptor, Error, Landed, Options, Transport};

#[tokio::test]
async fn a_blob_is_written_once() {
    let registry = FakeRegistry::start().await;
    let to = registry.repository("shop");
    let blob = Bytes::from_static(b"small");
    assert_eq!(client().put_blob(&to, &blob).await.unwrap(), Landed::Copied);
    assert_eq!(client().put_blob(&to, &blob).await.unwrap(), Landed::Present);
    assert_eq!(registry.asked("PUT"), 1);
}

#[tokio::test]
async fn a_large_blob_goes_in_pieces_and_survives_failures() {
    let content = Bytes::from("0123456789".repeat(1234));
    for (part, fault) in [
        ("PATCH", Fault::Status(503, None)),
        ("PATCH", Fault::Mute),
        ("PUT", Fault::Mute),
        ("PUT", Fault::Status(502, None)),
        ("PUT", Fault::Status(404, None)),
        ("POST", Fault::Status(429, None)),
    ] {
        let registry = FakeRegistry::start().await;
        let to = registry.repository("shop");
        registry.fail(part, fault.clone(), 1);
        let landed = client().put_blob(&to, &content).await.unwrap();
        assert_eq!(landed, Landed::Copied, "{part} {fault:?}");
        let descriptor = Descriptor::of("text/plain", &content);
        let back = client().blob_bytes(&to, &descriptor, 1 << 20).await.unwrap();
        assert_eq!(back, content);
    }
}

#[tokio::test]
async fn a_piece_whose_answer_was_lost_is_not_sent_twice() {
    let registry = FakeRegistry::start().await;
    let to = registry.repository("shop");
    registry.fail("PATCH", Fault::Mute, 1);
    let content = Bytes::from("0123456789".repeat(250));
    client().put_blob(&to, &content).await.unwrap();
    assert_eq!(registry.asked("PATCH"), 3, "{:?}", registry.log());
}

#[tokio::test]
async fn a_mount_that_becomes_an_upload_is_used_as_one() {
    let registry = FakeRegistry::start().await;
    let digest = registry.seed_blob("apps/shop", "content");
    registry.behave(|b| b.mounts = false);
    let (from, to) = (registry.repository("apps/shop"), registry.repository("prod/shop"));
    let descriptor = Descriptor::of("text/plain", b"content");
    let landed = client().copy_blob(&from, &to, &descriptor).await.unwrap();
    assert_eq!(landed, Landed::Copied);
    assert!(client().has_blob(&to, &digest).await.unwrap());
    assert_eq!(registry.asked("POST"), 1, "{:?}", registry.log());
}

#[tokio::test]
async fn wrong_bytes_at_the_source_never_arrive() {
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let (from, to) = (here.repository("shop"), there.repository("shop"));
    for content in ["small".to_owned(), "large".repeat(1000)] {
        let digest = here.seed_blob("shop", content.clone());
        here.fail("GET /v2/shop/blobs", Fault::Damage, 1);
        let descriptor = Descriptor::of("text/plain", content.as_bytes());
        let error = client().copy_blob(&from, &to, &descriptor).await.unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert!(!client().has_blob(&to, &digest).await.unwrap());
    }
    assert_eq!(there.asked("DELETE"), 2, "the uploads were not given up");
}

/// More than goes up from memory in one piece.
fn large() -> Bytes {
    Bytes::from(b"0123456789abcdef".repeat(600 << 10))
}

#[tokio::test]
async fn a_large_blob_goes_up_in_one_request_where_registries_take_no_pieces() {
    let content = large();
    let descriptor = Descriptor::of("text/plain", &content);
    for uploads in [Uploads::Whole, Uploads::PiecesUpTo(4 << 20), Uploads::Any] {
        let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
        there.behave(|b| b.uploads = uploads);
        here.seed_blob("shop", content.clone());
        let (from, to) = (here.repository("shop"), there.repository("shop"));
        let client = default_client();
        assert_eq!(client.put_blob(&to, &content).await.unwrap(), Landed::Copied);
        let (from, to) = (from, there.repository("prod/shop"));
        assert_eq!(client.copy_blob(&from, &to, &descriptor).await.unwrap(), Landed::Copied);
        assert_eq!(client.blob_bytes(&to, &descriptor, 16 << 20).await.unwrap(), content);
        let writes = |method: &str| there.asked(method);
        assert_eq!((writes("POST"), writes("PUT"), writes("PATCH")), (2, 2, 0));
    }
}

#[tokio::test]
async fn a_large_upload_that_broke_is_begun_anew() {
    let content = large();
    let descriptor = Descriptor::of("text/plain", &content);
    for (part, fault) in [
        ("PUT", Fault::Mute),
        ("PUT", Fault::Status(502, None)),
        ("PUT", Fault::Status(404, None)),
        ("PUT", Fault::Status(429, Some("0".into()))),
        ("GET", Fault::CutAfter(3_000_000)),
    ] {
        let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
        here.seed_blob("shop", content.clone());
        let (from, to) = (here.repository("shop"), there.repository("shop"));
        here.fail(part, fault.clone(), 1);
        there.fail(part, fault.clone(), 1);
        default_client().copy_blob(&from, &to, &descriptor).await.unwrap();
        let back = default_client().blob_bytes(&to, &descriptor, 16 << 20).await;
        assert!(back.unwrap() == content, "{part} {fault:?}");
    }
    // A registry that wants to be left alone for an hour is not waited for.
    let registry = FakeRegistry::start().await;
    registry.fail("PUT", Fault::Status(429, Some("3600".into())), 9);
    let error = default_client().put_blob(&registry.repository("shop"), &content).await;
    assert!(matches!(error.unwrap_err(), Error::Busy { status: 429, .. }));
    assert_eq!(registry.asked("PUT"), 1);
    // One that never says that it took all is asked what it has.
    let patience = std::time::Duration::from_millis(300);
    let anonymous = FakeRegistry::registries(fairlead_step::RegistryAuth::Anonymous);
    let options = Options { request_timeout: patience, ..Options::default() };
    let client = Client::with(anonymous, Transport::new(), options);
    let registry = FakeRegistry::start().await;
    registry.fail("PUT", Fault::Hang, 9);
    let landed = client.put_blob(&registry.repository("shop"), &content).await.unwrap();
    assert_eq!((landed, registry.asked("PUT")), (Landed::Copied, 1));
}

#[tokio::test]
async fn damaged_bytes_of_a_large_blob_never_make_a_whole_upload() {
    let content = large();
    let (here, there) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let digest = here.seed_blob("shop", content.clone());
    here.fail("GET", Fault::Damage, 1);
    let (from, to) = (here.repository("shop"), there.repository("shop"));
    let descriptor = Descriptor::of("text/plain", &content);
    let error = default_client().copy_blob(&from, &to, &descriptor).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(!client().has_blob(&to, &digest).await.unwrap());
    // The request was broken off before it was whole.
    assert_eq!((there.asked("PUT"), there.asked("DELETE")), (0, 1), "{:?}", there.log());
}

#[tokio::test]
async fn pieces_are_as_large_as_asked_for_and_as_the_registry_wants() {
    let content = Bytes::from("0123456789".repeat(1234));
    for (least, pieces) in [(None, 13), (Some(5000), 3), (Some(20_000), 0), (Some(usize::MAX), 0)] {
        let registry = FakeRegistry::start().await;
        registry.behave(|b| {
            b.least_chunk = least;
            b.uploads = Uploads::PiecesUpTo(least.unwrap_or(1000));
        });
        client().put_blob(&registry.repository("shop"), &content).await.unwrap();
        assert_eq!(registry.asked("PATCH"), pieces, "{least:?}");
        assert_eq!(registry.asked("PUT"), 1);
    }
}

#[tokio::test]
async fn a_token_that_ends_before_a_large_upload_is_bought_again() {
    let registry = FakeRegistry::start().await;
    registry.behave(|b| b.login = Login::Token("robot".into(), "pw".into()));
    let auth = fairlead_step::RegistryAuth::Basic {
        user: "robot".into(),
        password: fairlead_step::Secret::new("pw".into()),
    };
    let client = Client::new(FakeRegistry::registries(auth));
    let challenge = format!("Bearer realm=\"{}/token\",service=\"fake\"", registry.url());
    let ended = Fault::Answer(401, vec![("www-authenticate", challenge)], String::new());
    registry.fail("PUT", ended, 1);
    client.put_blob(&registry.repository("shop"), &large()).await.unwrap();
    assert_eq!(registry.asked("PUT"), 2);
}
