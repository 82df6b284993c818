//! A run as a trace: the run is the root, each attempt of a step and each gate is a span.
//!
//! A trace is made when a run has ended, from its journal, which has every time: nothing is kept for it while
//! the run goes on, and a run that went on in three processes is one trace all the same. Where the event that
//! started the run was part of a trace (`traceparent`, of W3C Trace Context), the run continues it; otherwise the
//! id of its trace follows from its own.

use std::collections::BTreeMap;

use fairlead_plan::Plan;
use fairlead_run::{Record, RunEvent, StepResult};
use fairlead_step::{Digest, RunId, StepId, Verdict};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The most spans of one trace: a run has at most some thousand steps, and few need so many attempts.
const MOST_SPANS: usize = 4096;
/// The most characters of a text that is put into a span.
const MOST_TEXT: usize = 512;

/// What span and trace a run is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceParent {
    /// 32 hexadecimal digits.
    trace: String,
    /// 16 hexadecimal digits; none for a trace that begins with the run.
    span: Option<String>,
}

impl TraceParent {
    /// Reads `00-<trace>-<span>-<flags>`; none when it is no context, which is then ignored as the standard
    /// asks.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let some = |text: &str| text.bytes().any(|b| b != b'0');
        let known =
            hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let good = known && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
        (good && some(trace) && some(span))
            .then(|| Self { trace: trace.to_owned(), span: Some(span.to_owned()) })
    }

    /// The trace that begins with `run`.
    pub(crate) fn of(run: &RunId) -> Self {
        Self { trace: id(&[run.as_str(), "trace"], 32), span: None }
    }
}

/// An id of so many hexadecimal digits, the same whenever it is made of the same parts.
fn id(parts: &[&str], digits: usize) -> String {
    let digest = Digest::sha256(parts.join("\n").as_bytes());
    digest.hex().chars().take(digits).collect()
}

/// A span that has begun.
struct Open {
    kind: String,
    attempt: u32,
    at: Timestamp,
}

/// The body of an OTLP request (`ExportTraceServiceRequest`, in its JSON form) with the trace of a run that has
/// ended; none of one that has not.
pub(crate) fn request(
    run: &RunId,
    plan: &Plan,
    records: &[Record],
    parent: Option<TraceParent>,
    service: &str,
) -> Option<Value> {
    let (first, last) = (records.first()?, records.last()?);
    let outcome = last.event().ends_as()?;
    let RunEvent::Requested(request) = first.event() else { return None };
    let parent = parent.unwrap_or_else(|| TraceParent::of(run));
    let root = id(&[run.as_str(), "run"], 16);
    let kind_of = |step: &StepId| {
        let named = step.parts().0;
        let planned = plan.steps().iter().find(|planned| planned.id.as_str() == named);
        planned.map_or_else(String::new, |planned| planned.kind.clone())
    };
    let mut open: BTreeMap<StepId, Open> = BTreeMap::new();
    let mut spans = Vec::new();
    let mut close = |step: &StepId, open: Open, at: Timestamp, how: &str, error: Option<&str>| {
        if spans.len() >= MOST_SPANS {
            return;
        }
        let attempt = open.attempt.to_string();
        let mut attributes = vec![
            attribute("fairlead.step", step.as_str()),
            attribute("fairlead.step.kind", &open.kind),
            attribute("fairlead.step.outcome", how),
        ];
        attributes
            .push(json!({ "key": "fairlead.step.attempt", "value": { "intValue": attempt } }));
        spans.push(json!({
            "traceId": parent.trace,
            "spanId": id(&[run.as_str(), step.as_str(), &attempt], 16),
            "parentSpanId": root,
            "name": step.as_str(),
            "kind": 1,
            "startTimeUnixNano": nanos(open.at),
            "endTimeUnixNano": nanos(at),
            "attributes": attributes,
            "status": status(error),
        }));
    };
    for record in records {
        let at = record.at();
        match record.event() {
            RunEvent::Started { step, attempt, .. } => {
                open.insert(step.clone(), Open { kind: kind_of(step), attempt: *attempt, at });
            }
            RunEvent::GateOpened { step, .. } => {
                open.insert(step.clone(), Open { kind: kind_of(step), attempt: 1, at });
            }
            RunEvent::Finished { step, result, .. } => {
                if let Some(begun) = open.remove(step) {
                    let (how, error) = ended(result);
                    close(step, begun, at, how, error);
                }
            }
            RunEvent::CacheHit { step, .. } => {
                if let Some(begun) = open.remove(step) {
                    close(step, begun, at, "cached", None);
                }
            }
            RunEvent::AttemptLost { step, reason, .. } => {
                if let Some(begun) = open.remove(step) {
                    close(step, begun, at, "lost", Some(reason));
                }
            }
            RunEvent::Requested(_)
            | RunEvent::Resumed { .. }
            | RunEvent::Queued { .. }
            | RunEvent::Admitted
            | RunEvent::Expanded { .. }
            | RunEvent::Voted { .. }
            | RunEvent::GateDue { .. }
            | RunEvent::Woken { .. }
            | RunEvent::Settled { .. }
            | RunEvent::RetryScheduled { .. }
            | RunEvent::Skipped { .. }
            | RunEvent::NotStarted { .. }
            | RunEvent::CancelRequested { .. }
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => {}
        }
    }
    // Gates end with a vote or their time, which the run has taken in by its end at the latest.
    for (step, begun) in std::mem::take(&mut open) {
        let end = gate_end(records, &step).unwrap_or_else(|| last.at());
        close(&step, begun, end, "gate", None);
    }
    let bad = !matches!(outcome, fairlead_plan::RunOutcome::Passed);
    let mut whole = json!({
        "traceId": parent.trace,
        "spanId": root,
        "name": request.pipeline,
        "kind": 1,
        "startTimeUnixNano": nanos(first.at()),
        "endTimeUnixNano": nanos(last.at()),
        "attributes": [
            attribute("fairlead.run", run.as_str()),
            attribute("fairlead.pipeline", &request.pipeline),
            attribute("fairlead.run.outcome", outcome.name()),
            attribute("fairlead.event", request.event_id.as_deref().unwrap_or_default()),
        ],
        "status": status(bad.then_some(outcome.name())),
    });
    if let Some(span) = &parent.span {
        whole["parentSpanId"] = span.as_str().into();
    }
    spans.push(whole);
    Some(json!({ "resourceSpans": [{
        "resource": { "attributes": [
            attribute("service.name", service),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ] },
        "scopeSpans": [{ "scope": { "name": "fairlead" }, "spans": spans }],
    }] }))
}

/// When the gate `step` was left: by its last vote, or when its time came.
fn gate_end(records: &[Record], step: &StepId) -> Option<Timestamp> {
    let mut ends = records.iter().rev();
    let end = ends.find(|record| {
        matches!(
            record.event(),
            RunEvent::Voted { step: of, .. } | RunEvent::GateDue { step: of } if of == step
        )
    });
    end.map(Record::at)
}

fn ended(result: &StepResult) -> (&'static str, Option<&str>) {
    match result {
        StepResult::Verdict(Verdict::Passed { .. }) => ("passed", None),
        // A no is an answer, and no error.
        StepResult::Verdict(Verdict::Rejected { .. }) => ("rejected", None),
        StepResult::Verdict(Verdict::Skipped { .. }) => ("skipped", None),
        StepResult::Failure(failure) => ("failed", Some(&failure.message)),
        StepResult::TimedOut { .. } => ("timed-out", Some("it ran longer than it may")),
        StepResult::Cancelled { message } => ("cancelled", Some(message)),
    }
}

fn status(error: Option<&str>) -> Value {
    match error {
        Some(error) => json!({ "code": 2, "message": text(error) }),
        None => json!({ "code": 1 }),
    }
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": text(value) } })
}

fn text(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

/// Nanoseconds since 1970, as a text: JSON numbers do not hold them.
fn nanos(at: Timestamp) -> String {
    at.as_nanosecond().max(0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_the_standard_has_it() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(good).unwrap();
        assert_eq!(parent.span.as_deref(), Some("00f067aa0ba902b7"));
        // A later version may have more.
        assert!(TraceParent::parse(&good.replacen("00", "01", 1)).is_some());
        assert!(TraceParent::parse(&format!("{}-more", good.replacen("00", "01", 1))).is_some());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-\"}",
        ] {
            assert!(TraceParent::parse(bad).is_none(), "{bad}");
        }
    }
}
