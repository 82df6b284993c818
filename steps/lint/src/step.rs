//! The `lint` step.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use fairlead_step::{
    Artifact, ArtifactError, Capability, Digest, Effect, InputProblem, StepContext, StepError,
    StepKind, Verdict,
};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Config, MAX_CONFIG};
use crate::context::Context;
use crate::lint::{Linted, MAX_DOCKERFILE, lint};
use crate::report::{self, Counts};
use crate::rule::Severity;

/// Lines of the log about findings; the report has them all.
const MAX_LINES: usize = 30;

/// `uses: lint`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lint;

/// What a lint is asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LintInput {
    /// The Dockerfile, a path within the workspace.
    #[serde(default = "dockerfile")]
    pub file: String,
    /// The folder of the build context, within the workspace: its .dockerignore is looked at, too.
    #[serde(default = "here")]
    pub context: String,
    /// The configuration, a path within the workspace: what rules weigh, which registries and labels are
    /// allowed, and findings that somebody answers for, each with an owner, a reason and the last day it
    /// counts.
    pub config: Option<String>,
    /// A finding of this weight or more makes the answer a no. Without it, the findings are reported and
    /// the step passes.
    pub fail_on: Option<Threshold>,
}

/// A weight that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Threshold {
    /// Any finding.
    Style,
    /// What is worth knowing, or more.
    Info,
    /// Warnings and errors.
    Warning,
    /// Errors.
    Error,
}

/// What a lint answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LintOutput {
    /// The report as JSON (`fairlead.dev/lint/v1`).
    pub findings: Artifact,
    /// The report as SARIF 2.1.0.
    pub sarif: Artifact,
    /// The report as lines for people.
    pub table: Artifact,
    /// Findings by weight, without the ignored ones.
    pub counts: Counts,
    /// Findings that `fairlead lint --fix` can mend.
    pub fixable: u64,
    /// Findings that somebody answers for, or a comment ignores.
    pub ignored: u64,
    /// The digest of the Dockerfile.
    pub digest: Digest,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}

fn here() -> String {
    ".".to_owned()
}

impl Threshold {
    const fn severity(self) -> Severity {
        match self {
            Self::Style => Severity::Style,
            Self::Info => Severity::Info,
            Self::Warning => Severity::Warning,
            Self::Error => Severity::Error,
        }
    }
}

impl StepKind for Lint {
    const KIND: &'static str = "lint";
    const SUMMARY: &'static str = "look for what is wrong with a Dockerfile and its context";
    const EFFECT: Effect = Effect::Pure;
    const CAPABILITIES: &'static [Capability] = &[];

    type Input = LintInput;
    type Output = LintOutput;

    fn check(&self, input: &LintInput) -> Vec<InputProblem> {
        let paths = [
            ("/file", Some(&input.file)),
            ("/context", Some(&input.context)),
            ("/config", input.config.as_ref()),
        ];
        let outside = paths.into_iter().filter(|(_, path)| {
            path.is_some_and(|path| !stays_inside(Path::new(path)) || path.is_empty())
        });
        let problem = |(place, _)| {
            InputProblem::at(place, "the path leaves the workspace")
                .hint("write a path relative to the workspace, without `..`")
        };
        outside.map(problem).collect()
    }

    async fn reads(
        &self,
        input: &LintInput,
        context: &StepContext,
    ) -> Result<Vec<(String, Digest)>, StepError> {
        let job = Job::of(input, context);
        let read = tokio::task::spawn_blocking(move || {
            let found = job.read()?;
            let mut reads = vec![
                ("file".to_owned(), Digest::sha256(found.text.as_bytes())),
                ("context".to_owned(), Digest::sha256(format!("{:?}", found.context).as_bytes())),
                ("config".to_owned(), Digest::sha256(found.config_text.as_bytes())),
            ];
            // An ignored finding counts until a day.
            if found.config.has_days() {
                reads.push(("today".to_owned(), Digest::sha256(job.today.to_string().as_bytes())));
            }
            Ok(reads)
        });
        read.await.map_err(|error| StepError::terminal("the lint broke off").because(error))?
    }

    async fn run(
        &self,
        input: LintInput,
        context: &StepContext,
    ) -> Result<Verdict<LintOutput>, StepError> {
        let job = Job::of(&input, context);
        let work = async {
            tokio::task::spawn_blocking(move || {
                let found = job.read()?;
                let linted =
                    lint(&job.file, &found.text, &found.config, Some(&found.context), job.today);
                Ok::<_, StepError>((found.text, linted))
            })
            .await
        };
        let done = context.cancel().guard(async { Ok::<_, StepError>(work.await) }).await?;
        let (text, linted) =
            done.map_err(|error| StepError::terminal("the lint broke off").because(error))??;
        let table = report::table(&linted);
        let lines = table.lines().filter(|line| !line.starts_with(' '));
        lines.clone().take(MAX_LINES).for_each(|line| context.say(line));
        if lines.count() > MAX_LINES {
            context
                .say(format!("{}; the report has them all", Counts::of(&linted.findings).words()));
        }
        linted.notes.iter().for_each(|note| context.say(note));
        let outputs = store(&input.file, &text, &linted, table, context).await?;
        let failing = |threshold: Threshold| {
            let weighs = |severity: Severity| severity >= threshold.severity();
            Counts::of(linted.findings.iter().filter(|finding| weighs(finding.severity)))
        };
        Ok(match input.fail_on.map(failing) {
            Some(counts) if counts != Counts::default() => {
                let reason = format!("{} in {}", counts.words(), input.file);
                Verdict::Rejected { reason, outputs }
            }
            Some(_) | None => Verdict::passed(outputs),
        })
    }
}

/// What one attempt reads.
struct Job {
    workspace: PathBuf,
    file: String,
    context: String,
    config: Option<String>,
    today: Date,
}

struct Found {
    text: String,
    context: Context,
    config: Config,
    config_text: String,
}

impl Job {
    fn of(input: &LintInput, context: &StepContext) -> Self {
        Self {
            workspace: context.workspace().to_owned(),
            file: input.file.clone(),
            context: input.context.clone(),
            config: input.config.clone(),
            today: context.now().to_zoned_datetime(TimeZone::UTC).date(),
        }
    }

    fn read(&self) -> Result<Found, StepError> {
        let (_, text) = self.text("Dockerfile", &self.file, MAX_DOCKERFILE)?;
        let (config, config_text) = match &self.config {
            Some(path) => {
                let (_, text) = self.text("configuration", path, MAX_CONFIG)?;
                let config = Config::read(path, &text).map_err(|error| {
                    StepError::terminal(error.to_string())
                        .hint("docs/lint.md says what a configuration may hold")
                })?;
                (config, text)
            }
            None => (Config::default(), String::new()),
        };
        let (folder, file) =
            (self.inside("context", &self.context)?, self.inside("Dockerfile", &self.file)?);
        let context = Context::read(&folder, &file).map_err(|error| {
            StepError::terminal(format!("cannot look at the context `{}`", self.context))
                .because(error)
        })?;
        Ok(Found { text, context, config, config_text })
    }

    /// A path of the workspace, wherever symbolic links lead.
    fn inside(&self, what: &str, path: &str) -> Result<PathBuf, StepError> {
        let failed = |error: std::io::Error| {
            StepError::terminal(format!("cannot read the {what} `{path}`")).because(error)
        };
        let root = self.workspace.canonicalize().map_err(failed)?;
        let file = root.join(path).canonicalize().map_err(failed)?;
        if file.starts_with(&root) {
            Ok(file)
        } else {
            let message = format!("the {what} `{path}` leads out of the workspace");
            Err(StepError::terminal(message).hint("a symbolic link may point to files within it"))
        }
    }

    fn text(&self, what: &str, path: &str, most: u64) -> Result<(PathBuf, String), StepError> {
        let file = self.inside(what, path)?;
        let failed = |problem: String| {
            StepError::terminal(format!("cannot read the {what} `{path}`: {problem}"))
        };
        let metadata = std::fs::metadata(&file).map_err(|error| failed(error.to_string()))?;
        if !metadata.is_file() {
            return Err(failed("it is not a file".to_owned()));
        }
        if metadata.len() > most {
            return Err(failed(format!("it is over {} KiB", most / 1024)));
        }
        let text = std::fs::read_to_string(&file).map_err(|error| failed(error.to_string()))?;
        Ok((file, text))
    }
}

fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

async fn store(
    file: &str,
    text: &str,
    linted: &Linted,
    table: String,
    context: &StepContext,
) -> Result<LintOutput, StepError> {
    let json = |value: &serde_json::Value| {
        let mut bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| StepError::terminal("the report cannot be written").because(error))?;
        bytes.push(b'\n');
        Ok::<_, StepError>(Bytes::from(bytes))
    };
    let findings = json(&report::document(file, text, linted))?;
    let sarif = json(&report::sarif(linted))?;
    let put = async |name: &str, media_type: &str, bytes: Bytes| {
        let stored = context.artifacts().put(name, media_type, bytes).await;
        stored.map_err(|error| {
            let what = format!("cannot store `{name}`");
            match error {
                ArtifactError::NotFound { .. } | ArtifactError::Damaged { .. } => {
                    StepError::terminal(what).because(error)
                }
                ArtifactError::Unavailable { .. } | _ => StepError::retryable(what).because(error),
            }
        })
    };
    let certain = |fix: &crate::finding::Fix| fix.certain;
    let fixable = linted.findings.iter().filter(|f| f.fix.as_ref().is_some_and(certain)).count();
    Ok(LintOutput {
        findings: put("lint.json", "application/vnd.fairlead.lint.v1+json", findings).await?,
        sarif: put("lint.sarif", "application/sarif+json", sarif).await?,
        table: put("lint.txt", "text/plain; charset=utf-8", Bytes::from(table)).await?,
        counts: Counts::of(&linted.findings),
        fixable: fixable as u64,
        ignored: linted.ignored.len() as u64,
        digest: Digest::sha256(text.as_bytes()),
    })
}
