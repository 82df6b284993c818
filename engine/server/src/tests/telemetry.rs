//! Measures and traces of runs as they really were.

use std::sync::Mutex;

use fairlead_step::BoxFuture;
use serde_json::Value;

use super::harness::{Harness, notification};
use crate::{ExportError, TraceExporter};

/// A fake of a collector: it keeps what it is sent, and is away the first time.
#[derive(Default)]
pub(super) struct Collector {
    taken: Mutex<Vec<Value>>,
    asked: Mutex<u32>,
}

impl TraceExporter for Collector {
    fn export(&self, body: Value) -> BoxFuture<'_, Result<(), ExportError>> {
        Box::pin(async move {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            if *asked == 1 {
                return Err(ExportError { message: "it is away".into(), again: true });
            }
            self.taken.lock().unwrap().push(body);
            Ok(())
        })
    }
}

/// The value of a measure in the text that Prometheus reads.
fn measure(text: &str, line: &str) -> f64 {
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no `{line}`:\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_run_is_measured_and_is_a_trace_that_continues_that_of_its_event() {
    let harness = Harness::new();
    harness.leave.add_permits(8);
    harness.registry.put("apps/shop:v1", "content");
    let serving = harness.serve().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let body = notification("1", "apps/shop", "v1", "content");
    let headers = [("Authorization", "Bearer registry-secret"), ("traceparent", parent.as_str())];
    let answer = serving.send("POST", "/webhooks/registry", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let ended = harness.ended(1).await;
    let run = ended[0].id.to_string();

    let text = eventually(|| async {
        let text = serving.api("GET", "/metrics", "").await.body;
        text.contains("outcome=\"handled\"").then_some(text)
    })
    .await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    for (line, value) in [
        ("fairlead_step_seconds_count{kind=\"note\",outcome=\"passed\"}", 1.0),
        ("fairlead_step_queue_seconds_count{pool=\"default\"}", 1.0),
        ("fairlead_runs_ended_total{outcome=\"passed\"}", 1.0),
        ("fairlead_event_lag_seconds_count{source=\"registry\",outcome=\"handled\"}", 1.0),
        ("fairlead_leases_lost_total", 0.0),
        ("fairlead_store_up", 1.0),
        ("fairlead_dead_letters", 0.0),
        ("fairlead_runs_unfinished{status=\"running\"}", 0.0),
    ] {
        assert!((measure(&text, line) - value).abs() < f64::EPSILON, "{line}\n{text}");
    }
    // Nothing that there may be any number of is a label.
    assert!(!text.contains(&run) && !text.contains("apps/shop"), "{text}");

    // The collector was away at first.
    let sent = eventually(|| async { harness.collector.taken.lock().unwrap().pop() }).await;
    let spans = sent.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
    let (step, whole) = (&spans[0], spans.last().unwrap());
    assert_eq!(
        (spans.len(), &step["name"], &whole["name"]),
        (2, &"note".into(), &"promote".into())
    );
    for span in spans {
        assert_eq!(span["traceId"], trace);
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span}");
    }
    assert_eq!(whole["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(step["parentSpanId"], whole["spanId"]);
    assert_eq!(step["status"]["code"], 1);
    serving.stop().await;
}

/// Asks until there is an answer.
async fn eventually<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    for _ in 0..1000 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came");
}
