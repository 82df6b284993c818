//! The promises of [`AuditLog`].

use std::sync::Arc;

use futures::future::join_all;
use serde_json::Map;

use super::time;
use crate::{AuditAction, AuditEntry, AuditLog, Seq, check_audit};

fn entry(number: i64) -> AuditEntry {
    let detail = serde_json::json!({ "reason": "ä\n\u{0} \"'", "n": number });
    AuditEntry {
        actor: "ann".to_owned(),
        via: "token tok_1".to_owned(),
        on_behalf_of: (number % 2 == 0).then(|| "bob".to_owned()),
        address: Some("192.0.2.7".to_owned()),
        action: AuditAction::StepApprove,
        target: format!("run {number}"),
        detail: detail.as_object().cloned().unwrap_or_else(Map::new),
    }
}

/// Checks that what `factory` makes keeps the promises of [`AuditLog`]. Each call of `factory`
/// answers a new, empty store, as two values that two processes might have.
///
/// # Panics
/// At the first promise that is broken.
pub async fn audit_log_conformance(
    factory: impl AsyncFn() -> (Arc<dyn AuditLog>, Arc<dyn AuditLog>),
) {
    let (log, other) = &factory().await;
    assert_eq!(log.head().await.expect("an answer"), None);
    assert_eq!(log.read(Seq(0), 10).await.expect("an answer"), []);
    let first = log.append(time(1), entry(1)).await.expect("written");
    assert_eq!((first.seq(), first.at(), first.entry()), (Seq(1), time(1), &entry(1)));
    assert_eq!(other.head().await.expect("an answer"), Some((Seq(1), first.hash())));

    // Many at once, from both sides: each has a place of its own, and the chain is whole.
    let both = |n: i64| if n % 2 == 0 { log } else { other };
    let written = join_all((2..=21).map(|n| both(n).append(time(n), entry(n)))).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    let all = log.read(Seq(0), 100).await.expect("an answer");
    assert_eq!(all.len(), 21);
    let end = check_audit(None, &all).expect("a whole chain");
    assert_eq!(other.head().await.expect("an answer"), end);
    let mut said: Vec<_> = all.iter().map(|record| record.entry().target.clone()).collect();
    said.sort();
    said.dedup();
    assert_eq!(said.len(), 21, "each entry stands there once");

    let page = other.read(Seq(5), 4).await.expect("an answer");
    assert_eq!(page, all[5..9]);
    assert_eq!(log.read(Seq(21), 10).await.expect("an answer"), []);
}
