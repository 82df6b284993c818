//! `fairlead verify` and `fairlead policy`: what the evidence at an image is worth, by a policy or a key.

use std::path::Path;

use fairlead_step::StepError;
use fairlead_step_policy::{Policy, Report, RuleAnswer, RuleMode, gather, judge, run_cases};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{Context, trace};
use crate::cli::{PolicyCommand, VerifyArgs};
use crate::exit::{Exit, Stop};
use crate::output::{Style, tame};

fn today(context: &Context<'_>) -> Date {
    context.settings.clock.now().to_zoned_datetime(TimeZone::UTC).date()
}

fn load(file: &Path) -> Result<Policy, Stop> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    Policy::load(folder, &name.unwrap_or_default()).map_err(|error: StepError| {
        let stop = Stop::usage(error.chain());
        match error.way_out() {
            Some(hint) => stop.hint(hint),
            None => stop,
        }
    })
}

pub(crate) async fn verify(context: &Context<'_>, args: VerifyArgs) -> Result<Exit, Stop> {
    let policy = match (&args.policy, &args.key) {
        (Some(file), _) => load(file)?,
        (None, Some(file)) => Policy::of_key(trace::public_key(file)?, &args.attestations),
        (None, None) => return Err(Stop::usage("nothing says what is asked for")),
    };
    let (client, image) = trace::found(context, &args.image).await?;
    let facts = gather(&client, &image, &policy).await.map_err(|error| Stop::of(&error))?;
    let report = judge(&policy, &image, &facts, today(context));
    if args.json {
        context.output.json(&report)?;
    } else {
        draw(context, &report);
    }
    Ok(if report.passes { Exit::Passed } else { Exit::Rejected })
}

fn draw(context: &Context<'_>, report: &Report) {
    let output = context.output;
    output.data(output.paint(Style::Bold, &report.image));
    for rule in &report.rules {
        let style = match (rule.answer, rule.mode) {
            (RuleAnswer::Verified, _) => Style::Good,
            (RuleAnswer::Off, _) | (_, RuleMode::Off) => Style::Dim,
            (_, RuleMode::Warn) => Style::Warn,
            (_, RuleMode::Require) => {
                if rule.excepted.is_some() {
                    Style::Warn
                } else {
                    Style::Bad
                }
            }
        };
        output.data(format!("{}: {}", rule.name, output.paint(style, rule.answer.name())));
        for line in &rule.lines {
            output.data(format!("  {}", tame(line)));
        }
        if let Some(excepted) = &rule.excepted {
            output.data(format!("  excepted by {}", tame(excepted)));
        }
    }
    match report.reason() {
        Some(reason) => output.say(format!("{} {reason}", output.paint(Style::Bad, "no:"))),
        None => output.say(format!("{} {}", output.paint(Style::Good, "yes:"), report.policy)),
    }
}

pub(crate) fn policy(context: &Context<'_>, command: PolicyCommand) -> Result<Exit, Stop> {
    let PolicyCommand::Test { files, json } = command;
    let mut told = Vec::new();
    let mut failed = 0;
    for file in &files {
        let policy = load(file)?;
        let (count, failures) = run_cases(&policy, today(context));
        failed += failures.len();
        if json {
            told.push(json!({
                "file": file, "policy": policy.name, "digest": policy.digest, "tests": count,
                "failures": failures,
            }));
            continue;
        }
        let output = context.output;
        for failure in &failures {
            output.data(format!("{}: {}", output.paint(Style::Bad, "failed"), failure.name));
            for problem in &failure.problems {
                output.data(format!("  {problem}"));
            }
        }
        let passed = count - failures.len();
        output.data(format!("{}: {passed} of {count} tests pass", file.display()));
    }
    if json {
        context.output.json(&told)?;
    }
    Ok(if failed == 0 { Exit::Passed } else { Exit::Rejected })
}
