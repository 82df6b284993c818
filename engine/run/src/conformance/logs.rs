//! The promises of [`LogStore`].

use fairlead_step::Stream;

use super::{run_id, time};
use crate::{LOG_CUT, LogKey, LogLine, LogStore, MAX_LINE_BYTES};

/// Checks that what `factory` makes keeps the promises of [`LogStore`]. Each call of `factory`
/// answers a new, empty store; one whose logs may have few bytes is tested sooner.
///
/// # Panics
/// At the first promise that is broken.
pub async fn log_store_conformance<L: LogStore>(factory: impl AsyncFn() -> L) {
    lines_are_read_as_written(&factory().await).await;
    a_log_is_read_in_pages_while_it_grows(&factory().await).await;
    logs_are_bounded(&factory().await).await;
}

fn key(step: &str, attempt: u32) -> LogKey {
    LogKey { run: run_id(1), step: step.parse().expect("a step name"), attempt }
}

fn line(stream: Stream, text: impl Into<String>) -> LogLine {
    LogLine { at: time(1), stream, text: text.into() }
}

async fn lines_are_read_as_written(logs: &impl LogStore) {
    let lines = vec![
        line(Stream::Stdout, "out  with  spaces "),
        line(Stream::Stderr, ""),
        line(Stream::Step, "ünïcode \u{1b}[31mred\u{1b}[0m \\n \t"),
    ];
    logs.append(&key("scan", 1), lines.clone()).await.expect("stored");
    logs.append(&key("scan", 2), vec![line(Stream::Step, "again")]).await.expect("stored");
    // The key of an item may have dots.
    logs.append(&key("scan[1.2]", 1), vec![line(Stream::Step, "item")]).await.expect("stored");
    logs.append(&key("build", 1), vec![line(Stream::Step, "a\nb\r\nc")]).await.expect("stored");
    let page = logs.read(&key("scan", 1), 0, 1 << 20).await.expect("a page");
    assert_eq!((page.lines, page.at_end), (lines, true));
    let page = logs.read(&key("build", 1), 0, 1 << 20).await.expect("a page");
    assert_eq!(page.lines, [line(Stream::Step, "a b  c")], "one line stays one line");
    let page = logs.read(&key("nobody", 1), 0, 1 << 20).await.expect("a page");
    assert_eq!((page.lines, page.next, page.at_end), (vec![], 0, true));
    let keys = logs.logs_of(&run_id(1)).await.expect("a list");
    assert_eq!(keys, [key("build", 1), key("scan", 1), key("scan", 2), key("scan[1.2]", 1)]);
    assert_eq!(logs.logs_of(&run_id(2)).await.expect("a list"), []);
}

async fn a_log_is_read_in_pages_while_it_grows(logs: &impl LogStore) {
    let text = |n: usize| format!("{n:05} {}", "x".repeat(1000));
    let mut next = 0;
    let mut read = Vec::new();
    for batch in 0..10 {
        let lines = (0..50).map(|n| line(Stream::Stdout, text(batch * 50 + n))).collect();
        logs.append(&key("scan", 1), lines).await.expect("stored");
        let page = logs.read(&key("scan", 1), next, 40_000).await.expect("a page");
        assert!(!page.lines.is_empty() && page.lines.len() < 60, "{}", page.lines.len());
        next = page.next;
        read.extend(page.lines);
    }
    loop {
        let page = logs.read(&key("scan", 1), next, 40_000).await.expect("a page");
        next = page.next;
        read.extend(page.lines);
        if page.at_end {
            break;
        }
    }
    let texts: Vec<String> = read.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, (0..500).map(text).collect::<Vec<_>>());
    let page = logs.read(&key("scan", 1), u64::MAX, 40_000).await.expect("a page");
    assert_eq!((page.lines.len(), page.at_end), (0, true));
}

async fn logs_are_bounded(logs: &impl LogStore) {
    let long = "ä".repeat(MAX_LINE_BYTES);
    logs.append(&key("long", 1), vec![line(Stream::Stdout, long)]).await.expect("stored");
    let page = logs.read(&key("long", 1), 0, 1 << 20).await.expect("a page");
    assert!(page.lines[0].text.len() <= MAX_LINE_BYTES && page.lines[0].text.starts_with("ää"));

    let text = "y".repeat(MAX_LINE_BYTES);
    let most = logs.max_bytes();
    let many = usize::try_from(most).expect("it fits") / MAX_LINE_BYTES + 2;
    for _ in 0..3 {
        let lines = (0..many / 2).map(|_| line(Stream::Stdout, text.as_str())).collect();
        logs.append(&key("huge", 1), lines).await.expect("stored, or dropped");
    }
    let (mut next, mut size, mut last) = (0, 0, None);
    loop {
        let page = logs.read(&key("huge", 1), next, 1 << 20).await.expect("a page");
        next = page.next;
        size += page.lines.iter().map(|line| line.text.len()).sum::<usize>();
        last = page.lines.into_iter().last().or(last);
        if page.at_end {
            break;
        }
    }
    assert!(size as u64 <= most + 64, "{size}");
    assert!(size as u64 > most / 2, "{size}");
    assert_eq!(last.map(|line| line.text).as_deref(), Some(LOG_CUT));
}
