//! `fairlead lint`: every finding of pipeline files and Dockerfiles, and certain mends.

use std::collections::BTreeMap;

use fairlead_plan::{
    Code, Compiled, Diagnostic, Diagnostics, Plan, Severity, Source, Span, compile,
};
use fairlead_step::StepId;

use super::serve::{Config, Rules};
use super::{Context, dockerfile};
use crate::cli::{LintArgs, LintFormat};
use crate::exit::{Exit, Stop};
use crate::output::Style;
use crate::{load, report};

pub(crate) fn lint(context: &Context<'_>, args: &LintArgs) -> Result<Exit, Stop> {
    let output = context.output;
    let server = match &args.config {
        Some(path) => Some(Config::read(path)?.rules(&context.settings)?),
        None => None,
    };
    let server = server.as_ref();
    let (mut all, mut images) = (Vec::new(), dockerfile::Dockerfiles::new(context, args)?);
    for path in load::linted_files(&args.files)? {
        if images.lint(&path, context, args)? {
            continue;
        }
        let mut source = load::source(&path)?;
        let mut findings = check(&source, context, server);
        if args.fix {
            let mended = mend(&source, &findings);
            if mended != source.text() {
                std::fs::write(&path, &mended).map_err(|e| {
                    Stop::failed(format!("cannot write {}", path.display())).because(&e)
                })?;
                output.say(format!("{}: mended", path.display()));
                source = Source::new(path.display().to_string(), mended);
                findings = check(&source, context, server);
            }
        }
        if args.format == LintFormat::Text {
            if findings.list().is_empty() {
                let fine = output.paint(Style::Good, "no findings");
                output.say(format!("{}: {fine}", source.name()));
            } else {
                output.data(report::draw(&findings, output.color()));
            }
        }
        all.push(findings);
    }
    match args.format {
        LintFormat::Text => {}
        LintFormat::Json => {
            let mut files = report::json(&all);
            if let Some(list) = files.as_array_mut() {
                list.extend(images.json());
            }
            output.json(&files)?;
        }
        LintFormat::Sarif => {
            let mut document = report::sarif(&all);
            if let Some(runs) = document["runs"].as_array_mut() {
                runs.extend(images.sarif());
            }
            output.json(&document)?;
        }
    }
    let errors = all.iter().any(|f| f.list().iter().any(|d| d.severity == Severity::Error));
    Ok(if errors || images.fails(args) { Exit::Usage } else { Exit::Passed })
}

fn check(source: &Source, context: &Context<'_>, server: Option<&Rules>) -> Diagnostics {
    match compile(source, &context.catalog) {
        Ok(Compiled { warnings, plan, places }) => match server {
            Some(server) => {
                let refused = refused(&plan, &places, context, server);
                let all = warnings.list().iter().cloned().chain(refused).collect();
                Diagnostics::new(source.clone(), all)
            }
            None => warnings,
        },
        Err(findings) => findings,
    }
}

/// What the server would refuse to the pipeline, as far as its inputs are known.
fn refused(
    plan: &Plan,
    places: &BTreeMap<StepId, Span>,
    context: &Context<'_>,
    server: &Rules,
) -> Vec<Diagnostic> {
    let start = Span { start: 0, end: 0, line: 1, column: 1 };
    let found = server.refusals(plan, &context.catalog).into_iter().map(|refusal| {
        let place = refusal.step.as_ref().and_then(|step| places.get(step));
        let span = place.copied().unwrap_or(start);
        Diagnostic::error(Code::REFUSED, span, refusal.to_string()).help(refusal.hint)
    });
    found.collect()
}

/// The text with every certain mend made, last place first, so that places stay valid.
fn mend(source: &Source, findings: &Diagnostics) -> String {
    let mut text = source.text().to_owned();
    let mut fixes: Vec<_> = findings.list().iter().filter_map(|f| f.fix.as_ref()).collect();
    fixes.sort_by_key(|fix| std::cmp::Reverse(fix.span.start));
    let mut free_up_to = text.len();
    for fix in fixes {
        if fix.span.end <= free_up_to {
            text.replace_range(fix.span.start..fix.span.end, &fix.replacement);
            free_up_to = fix.span.start;
        }
    }
    text
}
