//! The promises of [`IdempotencyStore`].

use std::sync::Arc;
use std::time::Duration;

use fairlead_step::Digest;

use super::{run_id, time};
use crate::{IdempotencyStore, KEYED_FOR, KeptAnswer, KeyedEnd, KeyedRequest, KeyedStart};

const LEASE: Duration = Duration::from_secs(5);

fn request(key: &str, content: &str, run: u64) -> KeyedRequest {
    let digest = |text: &str| Digest::sha256(text.as_bytes());
    KeyedRequest { key: digest(key), content: digest(content), run: run_id(run) }
}

/// Checks that what `factory` makes keeps the promises of [`IdempotencyStore`]. Each call of `factory`
/// answers a new, empty store.
///
/// # Panics
/// At the first promise that is broken.
pub async fn idempotency_conformance(factory: impl AsyncFn() -> Arc<dyn IdempotencyStore>) {
    let store = &factory().await;
    let begin = async |request: KeyedRequest, at: i64| {
        store.begin(request, time(at), LEASE).await.expect("an answer")
    };
    let key = request("k", "a", 1).key;
    assert_eq!(begin(request("k", "a", 1), 0).await, KeyedStart::Do(run_id(1)));
    assert_eq!(begin(request("k", "a", 2), 1).await, KeyedStart::UnderWay(time(5)));
    assert_eq!(begin(request("k", "b", 3), 1).await, KeyedStart::Another);
    assert_eq!(begin(request("other", "b", 4), 1).await, KeyedStart::Do(run_id(4)));

    // Whoever was cut off is followed by one that does it under the same id.
    assert_eq!(begin(request("k", "a", 5), 5).await, KeyedStart::Do(run_id(1)));
    assert_eq!(begin(request("k", "a", 6), 9).await, KeyedStart::UnderWay(time(10)));
    store.end(&key, KeyedEnd::Unknown).await.expect("noted");
    assert_eq!(begin(request("k", "a", 7), 9).await, KeyedStart::Do(run_id(1)));

    // What was refused leaves nothing.
    store.end(&key, KeyedEnd::Refused).await.expect("noted");
    assert_eq!(begin(request("k", "b", 8), 9).await, KeyedStart::Do(run_id(8)));

    // What was answered stays so, whoever is late.
    let body = Some("{\"run\":\"ä\\u0000\"}".to_owned());
    let answer = KeptAnswer { status: 201, body };
    store.end(&key, KeyedEnd::Done(answer.clone())).await.expect("noted");
    store.end(&key, KeyedEnd::Unknown).await.expect("noted");
    store.end(&key, KeyedEnd::Refused).await.expect("noted");
    assert_eq!(begin(request("k", "b", 9), 60).await, KeyedStart::Done(answer));
    assert_eq!(begin(request("k", "a", 9), 60).await, KeyedStart::Another);
    let secret = KeptAnswer { status: 200, body: None };
    store.end(&request("other", "", 0).key, KeyedEnd::Done(secret.clone())).await.expect("noted");
    assert_eq!(begin(request("other", "b", 9), 60).await, KeyedStart::Done(secret));

    // And is forgotten in time.
    let later = i64::try_from(KEYED_FOR.as_secs()).expect("a number") + 9;
    let last = begin(request("k", "b", 10), later - 1).await;
    assert!(matches!(last, KeyedStart::Done(_)), "{last:?}");
    assert_eq!(begin(request("k", "c", 11), later).await, KeyedStart::Do(run_id(11)));
    assert_eq!(begin(request("other", "c", 12), later).await, KeyedStart::Do(run_id(12)));
    store.end(&Digest::sha256(b"nobody's"), KeyedEnd::Refused).await.expect("nothing to note");

    // Of many that begin the same at once, one does it.
    let mut many: Vec<_> = (20..60).map(|run| begin(request("race", "a", run), 0)).collect();
    let starts = futures::future::join_all(many.drain(..)).await;
    let doing = starts.iter().filter(|start| matches!(start, KeyedStart::Do(_))).count();
    let waiting = starts.iter().filter(|it| matches!(it, KeyedStart::UnderWay(_))).count();
    assert_eq!((doing, waiting), (1, 39));
}
