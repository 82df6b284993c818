//! The promises of [`TokenStore`].

use std::sync::Arc;

use fairlead_step::Digest;

use super::time;
use crate::{Grant, Revoked, Role, StoredToken, TokenStore};

fn token(number: u32) -> StoredToken {
    let shop = "operator:shop".parse().expect("a grant");
    StoredToken {
        id: format!("tok_{number}"),
        hash: Digest::sha256(format!("token {number}").as_bytes()),
        subject: format!("ann \"{number}\" ä"),
        grants: vec![shop, Grant::everywhere(Role::Viewer)],
        speaks_for_others: !number.is_multiple_of(2),
        created_by: "root".to_owned(),
        created_at: time(i64::from(number)),
        expires_at: number.is_multiple_of(3).then(|| time(1000)),
        revoked_at: None,
        last_used_at: None,
    }
}

/// Checks that what `factory` makes keeps the promises of [`TokenStore`]. Each call of `factory`
/// answers a new, empty store.
///
/// # Panics
/// At the first promise that is broken.
pub async fn token_store_conformance(factory: impl AsyncFn() -> Arc<dyn TokenStore>) {
    let store = &factory().await;
    assert_eq!(store.tokens().await.expect("an answer"), []);
    assert_eq!(store.by_hash(&token(1).hash).await.expect("an answer"), None);
    for number in 1..=3 {
        store.create(token(number)).await.expect("kept");
    }
    let listed = store.tokens().await.expect("an answer");
    assert_eq!(listed, [token(3), token(2), token(1)], "newest first, whole");
    assert_eq!(store.by_hash(&token(2).hash).await.expect("an answer"), Some(token(2)));

    // Neither an id nor a hash is given twice, and what was refused leaves nothing.
    let twice = StoredToken { hash: Digest::sha256(b"another"), ..token(1) };
    assert!(store.create(twice.clone()).await.is_err());
    assert!(store.create(StoredToken { id: "tok_9".to_owned(), ..token(1) }).await.is_err());
    assert_eq!(store.tokens().await.expect("an answer").len(), 3);
    assert_eq!(store.by_hash(&twice.hash).await.expect("an answer"), None);

    store.used("tok_1", time(20)).await.expect("noted");
    store.used("tok_1", time(10)).await.expect("noted");
    store.used("tok_7", time(10)).await.expect("nothing to note");
    let used = store.by_hash(&token(1).hash).await.expect("an answer").expect("it is there");
    assert_eq!(used.last_used_at, Some(time(20)), "time does not go back");

    let expected = StoredToken { revoked_at: Some(time(30)), ..used };
    let revoked = store.revoke("tok_1", time(30)).await.expect("an answer");
    assert_eq!(revoked, Revoked::Now(Box::new(expected.clone())));
    assert_eq!(store.by_hash(&token(1).hash).await.expect("an answer"), Some(expected));
    let again = store.revoke("tok_1", time(40)).await.expect("an answer");
    assert_eq!(again, Revoked::Before(time(30)));
    assert_eq!(store.revoke("tok_7", time(40)).await.expect("an answer"), Revoked::Unknown);
    assert_eq!(store.by_hash(&token(2).hash).await.expect("an answer"), Some(token(2)));
}
