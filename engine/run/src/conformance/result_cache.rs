//! The promises of [`ResultCache`].

use fairlead_step::Digest;
use futures::future::join_all;
use serde_json::json;

use super::{run_id, time};
use crate::{CachedResult, ResultCache};

/// Checks that what `factory` makes keeps the promises of [`ResultCache`]. Each call of `factory`
/// answers a new, empty store.
///
/// # Panics
/// At the first promise that is broken.
pub async fn result_cache_conformance<R: ResultCache>(factory: impl AsyncFn() -> R) {
    let cache = &factory().await;
    let (key, other) = (Digest::sha256(b"what went in"), Digest::sha256(b"something else"));
    assert_eq!(cache.recall(&key).await.expect("an answer"), None);
    let first = result(1);
    cache.remember(&key, first.clone()).await.expect("kept");
    assert_eq!(cache.recall(&key).await.expect("an answer"), Some(first));
    assert_eq!(cache.recall(&other).await.expect("an answer"), None);

    let second = result(2);
    cache.remember(&key, second.clone()).await.expect("kept");
    assert_eq!(cache.recall(&key).await.expect("an answer"), Some(second.clone()));

    // Two runs may do the same work at once; one of the results stays, as a whole.
    let done = join_all((10..20).map(|n| cache.remember(&other, result(n)))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let stays = cache.recall(&other).await.expect("an answer").expect("one is there");
    assert!((10..20).any(|n| stays == result(n)), "{stays:?}");
    assert_eq!(cache.recall(&key).await.expect("an answer"), Some(second));
}

pub(super) fn result(number: u64) -> CachedResult {
    CachedResult {
        run: run_id(number),
        step: "scan".parse().expect("a step name"),
        at: time(i64::try_from(number).expect("a small number")),
        outputs: json!({ "n": number, "text": "ä\n\u{0} \"'", "list": [1.5, null, {}] }),
    }
}
