//! The live display of a run: spinners on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use fairlead_exec::{Update, Updates};
use fairlead_run::{RunEvent, StepResult};
use fairlead_step::{RunId, StepId, Stream, Verdict};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::output::{Output, Style, tame};

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Shows one run while it is driven.
pub(crate) struct Live<'o> {
    output: &'o Output,
    run: RunId,
    quiet: bool,
    bars: Option<MultiProgress>,
    running: BTreeMap<StepId, Running>,
    width: usize,
    shown_end: bool,
}

struct Running {
    since: Timestamp,
    bar: Option<ProgressBar>,
}

impl<'o> Live<'o> {
    pub(crate) fn new(output: &'o Output, run: RunId, quiet: bool, steps: &[StepId]) -> Self {
        let bars = output
            .is_live()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)));
        let width = steps.iter().map(|step| step.as_str().len()).max().unwrap_or(0);
        Self { output, run, quiet, bars, running: BTreeMap::new(), width, shown_end: false }
    }

    /// Shows updates until the run's own end was shown, or nobody sends any more.
    pub(crate) async fn follow(&mut self, updates: &mut Updates) {
        while !self.shown_end
            && let Some(update) = updates.next().await
        {
            self.shown_end = self.show(&update);
        }
    }

    /// A line above the spinners.
    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(text);
            }
            None => self.output.say(text),
        }
    }

    fn step_line(&self, step: &StepId, text: &str) {
        let width = self.width;
        let name = self.output.paint(Style::Dim, format!("{step:>width$} │"));
        self.line(&format!("{name} {text}"));
    }

    /// Shows one update; true when it is the run's last record.
    pub(crate) fn show(&mut self, update: &Update) -> bool {
        match update {
            Update::Record { run, record } if *run == self.run => {
                self.record(record.event(), record.at());
                record.event().ends_as().is_some()
            }
            Update::Line { log, line } if log.run == self.run => {
                if !self.quiet {
                    let text = match line.stream {
                        Stream::Step => self.output.paint(Style::Dim, tame(&line.text)),
                        Stream::Stdout | Stream::Stderr => tame(&line.text).into_owned(),
                    };
                    self.step_line(&log.step, &text);
                } else if let Some(bar) = self.running.get(&log.step).and_then(|r| r.bar.as_ref()) {
                    bar.set_message(tame(&line.text).into_owned());
                }
                false
            }
            Update::Progress { log, progress } if log.run == self.run => {
                if let Some(bar) = self.running.get(&log.step).and_then(|r| r.bar.as_ref()) {
                    let amount = match progress.total {
                        Some(total) if total > 0 => {
                            format!(" {}%", progress.done.saturating_mul(100) / total)
                        }
                        Some(_) | None => String::new(),
                    };
                    bar.set_message(format!("{}{amount}", progress.what));
                }
                false
            }
            Update::Notice { run, message } if *run == self.run => {
                self.line(&format!("{} {message}", self.output.paint(Style::Warn, "notice:")));
                false
            }
            Update::Missed { count } => {
                self.line(&format!("({count} updates were too fast to show; the logs have them)"));
                false
            }
            Update::Record { .. }
            | Update::Line { .. }
            | Update::Progress { .. }
            | Update::Notice { .. } => false,
        }
    }

    fn record(&mut self, event: &RunEvent, at: Timestamp) {
        match event {
            RunEvent::Started { step, attempt, .. } => {
                let bar = self.bars.as_ref().map(|bars| {
                    let style =
                        ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}");
                    let bar = bars.add(ProgressBar::new_spinner());
                    if let Ok(style) = style {
                        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
                    }
                    let width = self.width;
                    bar.set_prefix(format!("{step:<width$}"));
                    bar.enable_steady_tick(TICK);
                    bar
                });
                if bar.is_none() {
                    let again =
                        if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
                    self.step_line(step, &format!("started{again}"));
                }
                self.running.insert(step.clone(), Running { since: at, bar });
            }
            RunEvent::Finished { step, result, .. } => {
                let took = self.end(step, at);
                let (style, mark, text) = match result {
                    StepResult::Verdict(Verdict::Passed { .. }) => {
                        (Style::Good, "✓", "passed".to_owned())
                    }
                    StepResult::Verdict(Verdict::Rejected { reason, .. }) => {
                        (Style::Bad, "✗", format!("rejected: {reason}"))
                    }
                    StepResult::Verdict(Verdict::Skipped { reason }) => {
                        (Style::Dim, "–", format!("skipped: {reason}"))
                    }
                    StepResult::Failure(failure) => {
                        let hint = failure.hint.as_ref();
                        let hint = hint.map_or(String::new(), |hint| format!(" (hint: {hint})"));
                        (Style::Bad, "✗", format!("failed: {}{hint}", failure.message))
                    }
                    StepResult::TimedOut { after } => {
                        (Style::Bad, "✗", format!("did not end within {after}"))
                    }
                    StepResult::Cancelled { message } => {
                        (Style::Warn, "■", format!("cancelled: {message}"))
                    }
                };
                let mark = self.output.paint(style, format!("{mark} {text}"));
                let took = took
                    .map_or(String::new(), |t| format!(" {}", self.output.paint(Style::Dim, t)));
                self.step_line(step, &format!("{mark}{took}"));
            }
            RunEvent::AttemptLost { step, attempt, reason } => {
                self.end(step, at);
                let text = format!("attempt {attempt} was lost: {reason}");
                self.step_line(step, &self.output.paint(Style::Warn, text));
            }
            RunEvent::RetryScheduled { step, attempt, due } => {
                let wait = due.duration_since(at);
                let wait = took_text(wait.unsigned_abs());
                self.step_line(step, &format!("attempt {attempt} follows in {wait}"));
            }
            RunEvent::Skipped { step, reason } => {
                let text = format!("– skipped: {reason}");
                self.step_line(step, &self.output.paint(Style::Dim, text));
            }
            RunEvent::NotStarted { step, failure } => {
                let text = format!("✗ failed: {}", failure.message);
                self.step_line(step, &self.output.paint(Style::Bad, text));
            }
            RunEvent::CancelRequested { by, reason } => {
                let text = format!("stopping, as {by} asked: {reason}");
                self.line(&self.output.paint(Style::Warn, text));
            }
            RunEvent::CacheHit { step, run, .. } => {
                self.end(step, at);
                let text = format!("✓ the result of run {run}, for the same went in");
                self.step_line(step, &self.output.paint(Style::Good, text));
            }
            RunEvent::Queued { group, behind } => {
                let what = group.as_ref().map_or_else(
                    || "as many runs as may go on at a time do".to_owned(),
                    |group| format!("in group `{group}`"),
                );
                let behind =
                    behind.as_ref().map_or(String::new(), |run| format!(", behind run {run}"));
                self.line(&format!("waits to be admitted: {what}{behind}"));
            }
            RunEvent::Expanded { step, items } => {
                let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
                self.step_line(step, &format!("{} items: {}", items.len(), keys.join(", ")));
            }
            RunEvent::GateOpened { step, due } => {
                let until = due.map_or(String::new(), |due| format!(" until {due}"));
                self.step_line(step, &self.output.paint(Style::Bold, format!("◇ waits{until}")));
            }
            RunEvent::Voted { step, by, vote, reason } => {
                let why = reason.as_ref().map_or(String::new(), |why| format!(": {}", tame(why)));
                self.step_line(step, &format!("{} voted to {vote}{why}", tame(&by.name)));
            }
            RunEvent::GateDue { step } => self.step_line(step, "its time came"),
            RunEvent::Woken { step, why } => {
                self.step_line(step, &format!("asks again: {}", tame(why)));
            }
            RunEvent::Settled { step, by, decision, .. } => {
                let text = format!("{} decided of the lost attempt: {decision}", tame(&by.name));
                self.step_line(step, &text);
            }
            RunEvent::Requested(_)
            | RunEvent::Resumed { .. }
            | RunEvent::Admitted
            | RunEvent::Abandoned { .. }
            | RunEvent::Ended { .. } => {}
        }
    }

    fn end(&mut self, step: &StepId, at: Timestamp) -> Option<String> {
        let running = self.running.remove(step)?;
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
        }
        Some(took_text(at.duration_since(running.since).unsigned_abs()))
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        for running in self.running.values() {
            if let Some(bar) = &running.bar {
                bar.finish_and_clear();
            }
        }
    }
}

/// A duration for people: `340 ms`, `2.4 s`, `3 m 12 s`.
pub(crate) fn took_text(took: Duration) -> String {
    let (millis, seconds) = (took.as_millis(), took.as_secs());
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{:.1} s", took.as_secs_f64()),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_fitting_units() {
        for (millis, want) in
            [(7, "7 ms"), (2_400, "2.4 s"), (192_000, "3 m 12 s"), (7_260_000, "2 h 1 m")]
        {
            assert_eq!(took_text(Duration::from_millis(millis)), want);
        }
    }
}
