//! `fairlead logs`: what the steps of a run wrote.

use fairlead_step::Stream;

use super::{Context, named_run};
use crate::cli::LogsArgs;
use crate::exit::{Exit, Stop};
use crate::output::{Style, tame};

/// How much of a log is read at once.
const PAGE: usize = 256 << 10;

pub(crate) async fn logs(context: &Context<'_>, args: LogsArgs) -> Result<Exit, Stop> {
    let store = context.store().await?;
    let run = named_run(&store, &args.run).await?;
    // A run without a log and a run that is not there are two things.
    let stored = store.journal().load(&run).await.map_err(|e| Stop::of(&e))?;
    let logs = store.logs();
    let output = context.output;
    let keys = logs.logs_of(&stored.id).await.map_err(|e| Stop::of(&e))?;
    let wanted = keys.iter().filter(|key| {
        args.step.as_ref().is_none_or(|step| *step == key.step)
            && args.attempt.is_none_or(|attempt| attempt == key.attempt)
    });
    let mut any = false;
    for key in wanted {
        any = true;
        if args.step.is_none() {
            let title = format!("── {} (attempt {})", key.step, key.attempt);
            output.data(output.paint(Style::Bold, title));
        }
        let mut from = 0;
        loop {
            let page = logs.read(key, from, PAGE).await.map_err(|e| Stop::of(&e))?;
            for line in &page.lines {
                let mark = match line.stream {
                    Stream::Stdout => ' ',
                    Stream::Stderr => '!',
                    Stream::Step => '·',
                };
                let at = output.paint(Style::Dim, line.at.strftime("%H:%M:%S%.3f"));
                output.data(format!("{at} {mark} {}", tame(&line.text)));
            }
            from = page.next;
            if page.at_end {
                break;
            }
        }
    }
    if !any {
        output.say("there is no such log; `fairlead show` says which steps ran");
    }
    Ok(Exit::Passed)
}
