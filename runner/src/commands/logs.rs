//! `fairlead logs`: what the steps of a run wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use fairlead_run::{LogKey, LogStore, RunFilter, RunStatus, StoreError};
use fairlead_step::{RunId, Stream};

use super::{Context, named_run};
use crate::cli::LogsArgs;
use crate::exit::{Exit, Stop};
use crate::output::{Output, Style, tame};

/// How much of a log is read at once.
const PAGE: usize = 256 << 10;

/// How often a run that is followed is looked at, where nobody tells that there is more.
const LOOK: Duration = Duration::from_millis(400);
/// How often a server may fail to answer in a row before a follower gives up: some ten minutes.
const FAILURES: u32 = 40;
/// The longest pause after such a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

pub(crate) async fn logs(context: &Context<'_>, args: LogsArgs) -> Result<Exit, Stop> {
    let kept = context.kept().await?;
    let run = named_run(&*kept.journal, &args.run).await?;
    // A run without a log and a run that is not there are two things.
    let this = RunFilter { run: Some(run.clone()), limit: 1, ..RunFilter::default() };
    let found = kept.journal.list(this.clone()).await.map_err(|e| Stop::of(&e))?;
    if found.is_empty() {
        return Err(Stop::failed(format!("there is no run {run}")));
    }
    let mut printed = Printed::default();
    let mut failures = 0;
    loop {
        // In this order: what was written before the end is seen after it.
        let ended = async {
            let found = kept.journal.list(this.clone()).await?;
            let ended = found.first().is_none_or(|run| matches!(run.status, RunStatus::Ended(_)));
            printed.more(context.output, &*kept.logs, &run, &args).await.map(|()| ended)
        };
        match ended.await {
            Ok(true) => break,
            Ok(false) if !args.follow => break,
            Ok(false) => {
                failures = 0;
                tokio::time::sleep(LOOK).await;
            }
            // What was printed is known by its place: it goes on from there.
            Err(_) if args.follow && failures < FAILURES => {
                failures += 1;
                tokio::time::sleep((LOOK * (1 << failures.min(6))).min(LONGEST_PAUSE)).await;
            }
            Err(error) => return Err(Stop::of(&error)),
        }
    }
    if printed.places.is_empty() {
        context.output.say("there is no such log; `fairlead show` says which steps ran");
    }
    Ok(Exit::Passed)
}

/// How far each log was printed.
#[derive(Default)]
struct Printed {
    places: BTreeMap<LogKey, u64>,
    /// Whose line was printed last.
    last: Option<LogKey>,
}

impl Printed {
    /// Prints what is there and was not printed yet.
    async fn more(
        &mut self,
        output: &Output,
        logs: &dyn LogStore,
        run: &RunId,
        args: &LogsArgs,
    ) -> Result<(), StoreError> {
        let keys = logs.logs_of(run).await?;
        let wanted = keys.into_iter().filter(|key| {
            args.step.as_ref().is_none_or(|step| *step == key.step)
                && args.attempt.is_none_or(|attempt| attempt == key.attempt)
        });
        for key in wanted {
            let mut from = self.places.get(&key).copied();
            loop {
                let page = logs.read(&key, from.unwrap_or(0), PAGE).await?;
                let title = from.is_none() || !page.lines.is_empty();
                if args.step.is_none() && title && self.last.as_ref() != Some(&key) {
                    let title = format!("── {} (attempt {})", key.step, key.attempt);
                    output.data(output.paint(Style::Bold, title));
                    self.last = Some(key.clone());
                }
                for line in &page.lines {
                    let mark = match line.stream {
                        Stream::Stdout => ' ',
                        Stream::Stderr => '!',
                        Stream::Step => '·',
                    };
                    let at = output.paint(Style::Dim, line.at.strftime("%H:%M:%S%.3f"));
                    output.data(format!("{at} {mark} {}", tame(&line.text)));
                }
                from = Some(page.next);
                self.places.insert(key.clone(), page.next);
                if page.at_end {
                    break;
                }
            }
        }
        Ok(())
    }
}
