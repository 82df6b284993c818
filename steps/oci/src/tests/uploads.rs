//! Uploads: whole, in pieces, taken up again, mounted.

use bytes::Bytes;

use super::client;
use crate::kit::{FakeRegistry, Fault};
use crate::{Descriptor, Error, Landed};

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
