//! What becomes of a fact that is larger than a journal takes: it is written smaller, and says so. A run
//! whose next fact could never be written would stop at the same place for ever.

use fairlead_step::{ErrorClass, StepId};

use crate::{AttemptToken, CancelReason, Failure, Record, RunEvent, StepResult};

/// The most bytes of a text for people in the journal.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// A text for people as it may stand in the journal: a longer one is cut, and ends in `…`.
#[must_use]
pub fn bounded_text(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let mut end = MAX_TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

fn bounded(failure: &Failure) -> Failure {
    Failure {
        class: failure.class,
        message: bounded_text(failure.message.clone()),
        hint: failure.hint.clone().map(bounded_text),
    }
}

/// What to write in the place of `event`, whose record would have `size` bytes. None where nothing
/// smaller says the same: whoever brought it has to be refused before.
pub(crate) fn smaller(event: &RunEvent, size: usize) -> Option<RunEvent> {
    let limit = Record::MAX_BYTES;
    let too_large = |what: String, hint: &str| Failure {
        class: ErrorClass::Terminal,
        message: format!(
            "{what} {size} bytes in the journal, more than the {limit} that one record takes"
        ),
        hint: Some(hint.to_owned()),
    };
    let failed = |step: &StepId, attempt: u32, token: &AttemptToken, result| RunEvent::Finished {
        step: step.clone(),
        attempt,
        token: token.clone(),
        result,
    };
    let text = |text: &Option<String>| text.clone().map(bounded_text);
    Some(match event {
        RunEvent::Expanded { step, items } => RunEvent::NotStarted {
            step: step.clone(),
            failure: too_large(
                format!("its list has {} items, which take", items.len()),
                "let the list hold what tells the items apart, such as their names, and let the step \
                 read the rest from a file or an artifact",
            ),
        },
        RunEvent::Finished { step, attempt, token, result } => match result {
            StepResult::Verdict(_) => {
                let hint = "hand on large results as artifacts or files";
                let failure = too_large("its result takes".to_owned(), hint);
                failed(step, *attempt, token, StepResult::Failure(failure))
            }
            StepResult::Failure(failure) => {
                failed(step, *attempt, token, StepResult::Failure(bounded(failure)))
            }
            StepResult::Cancelled { message } => {
                let message = bounded_text(message.clone());
                failed(step, *attempt, token, StepResult::Cancelled { message })
            }
            StepResult::TimedOut { .. } => return None,
        },
        RunEvent::CacheHit { step, attempt, token, run, .. } => {
            let hint = "hand on large results as artifacts or files";
            let failure = too_large(format!("the result of run {run} takes"), hint);
            failed(step, *attempt, token, StepResult::Failure(failure))
        }
        RunEvent::NotStarted { step, failure } => {
            RunEvent::NotStarted { step: step.clone(), failure: bounded(failure) }
        }
        RunEvent::AttemptLost { step, attempt, reason } => RunEvent::AttemptLost {
            step: step.clone(),
            attempt: *attempt,
            reason: bounded_text(reason.clone()),
        },
        RunEvent::Voted { step, by, vote, reason } => RunEvent::Voted {
            step: step.clone(),
            by: by.clone(),
            vote: *vote,
            reason: text(reason),
        },
        RunEvent::Settled { step, attempt, by, decision, reason } => RunEvent::Settled {
            step: step.clone(),
            attempt: *attempt,
            by: by.clone(),
            decision: decision.clone(),
            reason: text(reason),
        },
        RunEvent::Woken { step, why } => {
            RunEvent::Woken { step: step.clone(), why: bounded_text(why.clone()) }
        }
        RunEvent::CancelRequested { by, reason } => RunEvent::CancelRequested {
            by: bounded_text(by.clone()),
            reason: match reason {
                CancelReason::Asked { why } => CancelReason::Asked { why: text(why) },
                CancelReason::TimedOut { .. }
                | CancelReason::Superseded { .. }
                | CancelReason::Busy { .. } => reason.clone(),
            },
        },
        RunEvent::Abandoned { by, reason, problem } => RunEvent::Abandoned {
            by: bounded_text(by.clone()),
            reason: text(reason),
            problem: text(problem),
        },
        // A request is refused when it is made. The others hold names, numbers and times.
        RunEvent::Requested(_)
        | RunEvent::Resumed { .. }
        | RunEvent::Queued { .. }
        | RunEvent::Admitted
        | RunEvent::GateOpened { .. }
        | RunEvent::GateDue { .. }
        | RunEvent::Started { .. }
        | RunEvent::RetryScheduled { .. }
        | RunEvent::Skipped { .. }
        | RunEvent::Ended { .. } => return None,
    })
}
