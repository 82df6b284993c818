//! Dockerfiles in `fairlead lint`: read, looked at, mended, drawn.

use std::path::{Path, PathBuf};

use fairlead_step_lint::{
    Config, Context as BuildContext, Counts, Linted, MAX_CONFIG, MAX_DOCKERFILE, Severity, fixed,
    is_dockerfile, lint, sarif_run,
};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use miette::{LabeledSpan, NamedSource};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{LintArgs, LintFormat, LintWeight};
use crate::exit::Stop;
use crate::load;
use crate::output::{Output, Style};
use crate::report::{Drawn, draw_all};

/// Where the configuration is looked for when none is named.
const USUAL: &str = ".fairlead/lint.yaml";

/// The Dockerfiles of one `fairlead lint`.
pub(super) struct Dockerfiles {
    config: Config,
    today: Date,
    linted: Vec<(String, Linted)>,
}

impl Dockerfiles {
    pub(super) fn new(context: &Context<'_>, args: &LintArgs) -> Result<Self, Stop> {
        let usual = PathBuf::from(USUAL);
        let path = args.rules.clone().or_else(|| usual.is_file().then_some(usual));
        let config = match path {
            Some(path) => {
                let text = load::text(&path, MAX_CONFIG)?;
                Config::read(&path.display().to_string(), &text).map_err(|error| {
                    Stop::usage(error.to_string())
                        .hint("docs/lint.md says what a configuration may hold")
                })?
            }
            None => Config::default(),
        };
        Ok(Self {
            config,
            today: context.settings.clock.now().to_zoned_datetime(TimeZone::UTC).date(),
            linted: Vec::new(),
        })
    }

    /// Looks at `path` if it is a Dockerfile; whether it is one.
    pub(super) fn lint(
        &mut self,
        path: &Path,
        context: &Context<'_>,
        args: &LintArgs,
    ) -> Result<bool, Stop> {
        let mut text = load::text(path, MAX_DOCKERFILE)?;
        if !is_dockerfile(path, Some(&text)) {
            return Ok(false);
        }
        let (name, output) = (path.display().to_string(), context.output);
        let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = args.context.as_deref().or(beside).unwrap_or(Path::new("."));
        let around = BuildContext::read(folder, path).map_err(|error| {
            Stop::usage(format!("cannot look at the context {}", folder.display())).because(&error)
        })?;
        if args.fix {
            let mended = fixed(&name, &text, &self.config, Some(&around), self.today);
            if mended != text {
                std::fs::write(path, &mended)
                    .map_err(|e| Stop::failed(format!("cannot write {name}")).because(&e))?;
                output.say(format!("{name}: mended"));
                text = mended;
            }
        }
        let linted = lint(&name, &text, &self.config, Some(&around), self.today);
        if args.format == LintFormat::Text {
            tell(&name, &text, &linted, output);
        }
        self.linted.push((name, linted));
        Ok(true)
    }

    /// Each file with its findings, as those of pipeline files are told.
    pub(super) fn json(&self) -> Vec<Value> {
        let file = |(name, linted): &(String, Linted)| {
            json!({
                "file": name,
                "findings": linted.findings,
                "ignored": linted.ignored,
                "notes": linted.notes,
            })
        };
        self.linted.iter().map(file).collect()
    }

    /// A run for a SARIF document, where there was a Dockerfile.
    pub(super) fn sarif(&self) -> Option<Value> {
        let all: Vec<Linted> = self.linted.iter().map(|(_, linted)| linted.clone()).collect();
        (!all.is_empty()).then(|| sarif_run(&all))
    }

    /// Whether a finding weighs as much as `--fail-on` says.
    pub(super) fn fails(&self, args: &LintArgs) -> bool {
        let least = match args.fail_on {
            LintWeight::Style => Severity::Style,
            LintWeight::Info => Severity::Info,
            LintWeight::Warning => Severity::Warning,
            LintWeight::Error => Severity::Error,
        };
        self.linted.iter().any(|(_, linted)| linted.findings.iter().any(|f| f.severity >= least))
    }
}

fn tell(name: &str, text: &str, linted: &Linted, output: &Output) {
    for note in &linted.notes {
        output.say(format!("{name}: {note}"));
    }
    if linted.findings.is_empty() {
        let fine = output.paint(Style::Good, "no findings");
        output.say(format!("{name}: {fine}"));
        return;
    }
    let drawn = linted.findings.iter().map(|finding| {
        let alias = finding.alias.map(|alias| format!(" {alias}")).unwrap_or_default();
        let (word, code) = (finding.severity.as_str(), finding.code);
        let place = &finding.place;
        Drawn {
            title: format!("{word}[{code}{alias}]: {}", finding.message),
            severity: match finding.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
                Severity::Info | Severity::Style | Severity::Off => miette::Severity::Advice,
            },
            help: Some(format!("{}; {}", finding.why, finding.help)),
            labels: vec![LabeledSpan::new_primary_with_span(
                Some("here".into()),
                place.start..place.end,
            )],
            source: NamedSource::new(name, text.to_owned()),
        }
    });
    let mended = linted.findings.iter().filter(|f| f.fix.as_ref().is_some_and(|fix| fix.certain));
    let mut all = draw_all(drawn, output.color());
    all.push_str(&format!("{name}: {}", Counts::of(&linted.findings).words()));
    let count = mended.count();
    if count > 0 {
        all.push_str(&format!("; `--fix` mends {count}"));
    }
    output.data(all);
}
