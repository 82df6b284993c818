//! The `scan` step.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fairlead_step::{
    Artifact, ArtifactError, Capability, Digest, Effect, HumanDuration, InputProblem, Missing,
    Preflight, StepContext, StepError, StepKind, Verdict,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::{Database, DbError};
use crate::finding::{self, Resolved};
use crate::ignore::{Ignores, MAX_FILE};
use crate::report::{self, Counts, Origin, Report};
use crate::sbom;
use crate::severity::Severity;
use crate::unassessed::{Accepting, Unassessed};

/// Bytes of a bill of materials.
const MAX_SBOM: u64 = 256 * 1024 * 1024;
/// Lines of the log about what was not assessed; the report has them all.
const MAX_NOTES: usize = 20;

/// Matches a bill of materials against the advisory database.
#[derive(Debug, Clone)]
pub struct Scan {
    db_dir: Arc<Path>,
}

impl Scan {
    /// A scan against the database in `db_dir`. The database is opened when a step runs.
    #[must_use]
    pub fn new(db_dir: PathBuf) -> Self {
        Self { db_dir: db_dir.into() }
    }
}

/// What a scan is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanInput {
    /// The bill of materials: SPDX 2 (JSON, or tags and values) or CycloneDX 1 (JSON, XML), such as
    /// `{{ steps.sbom.document }}`.
    pub sbom: Artifact,
    /// What makes the answer a no. Without it, the findings are reported and the step passes.
    pub fail_on: Option<FailOn>,
    /// The ignore file, a path within the workspace: findings that somebody answers for, each
    /// with an owner, a reason and the last day it counts.
    pub ignore: Option<String>,
    /// What may stay unassessed though `fail_on` is set: a kind, such as `go-binary`, or a kind and
    /// a subject, such as `go-binary:/usr/bin/*`, `distribution:rhel 9` or `ecosystem:nuget`. A `*`
    /// stays within a folder, `**` goes through them. What is accepted is told in the report.
    #[serde(default)]
    pub ignore_unassessed: Vec<String>,
    /// How old the newest record of each ecosystem that the bill needs may be, such as `7d`.
    pub max_db_age: Option<HumanDuration>,
}

/// What makes the answer a no.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailOn {
    /// A finding of this severity or worse.
    pub severity: Option<Threshold>,
    /// Whether only findings that a newer version fixes count.
    #[serde(default)]
    pub fixable: bool,
    /// Whether what could not be assessed counts, too: what the bill says was seen and not read,
    /// and packages that no advisory of the database can be about. It counts unless this says
    /// `false`.
    pub unassessed: Option<bool>,
}

/// A severity that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Threshold {
    /// Low or worse.
    Low,
    /// Medium or worse.
    Medium,
    /// High or worse.
    High,
    /// Critical.
    Critical,
}

/// What a scan answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ScanOutput {
    /// The report as JSON (`fairlead.dev/scan/v1`).
    pub findings: Artifact,
    /// The report as SARIF 2.1.0.
    pub sarif: Artifact,
    /// The report as a table for people.
    pub table: Artifact,
    /// Findings of each severity, without the ignored ones.
    pub counts: Counts,
    /// Findings that a newer version fixes.
    pub fixable: u64,
    /// Findings that the ignore file answers for.
    pub ignored: u64,
    /// Packages that were looked up.
    pub packages: u64,
    /// Packages that could not be looked up; the report says why.
    pub unmatched: u64,
    /// Packages, files and other things in the image that could not be assessed, without those
    /// that `ignore_unassessed` accepts.
    pub unassessed: u64,
    /// Findings in packages of languages that packages of the distribution brought. They do not
    /// count: the distribution's own advisories do.
    pub distribution_owned: u64,
    /// The digest of the database that was asked.
    pub database: Digest,
}

impl Threshold {
    const fn severity(self) -> Severity {
        match self {
            Self::Low => Severity::Low,
            Self::Medium => Severity::Medium,
            Self::High => Severity::High,
            Self::Critical => Severity::Critical,
        }
    }
}

impl FailOn {
    /// Why the answer is no, such as `2 critical findings with a fix`; nothing when it is yes.
    fn reason(self, report: &Report) -> Option<String> {
        let unassessed = if self.unassessed_counts() { not_assessed(report) } else { None };
        match (self.findings(report), unassessed) {
            (Some(findings), Some(unassessed)) => Some(format!("{findings}; {unassessed}")),
            (findings, unassessed) => findings.or(unassessed),
        }
    }

    fn unassessed_counts(self) -> bool {
        self.unassessed.unwrap_or(true)
    }

    /// What is wrong with it before anything is scanned.
    fn problem(self) -> Option<InputProblem> {
        let hint = "add `severity: critical`, or another one";
        match (self.severity, self.fixable, self.unassessed) {
            (Some(_), _, _) | (None, false, Some(_)) => None,
            (None, true, _) => Some(
                InputProblem::at("/fail_on/fixable", "it says nothing without a `severity`")
                    .hint(hint),
            ),
            // Whoever forgot the severity would never hear of a finding.
            (None, false, None) => {
                Some(InputProblem::at("/fail_on", "it names nothing to fail on").hint(hint))
            }
        }
    }

    fn findings(self, report: &Report) -> Option<String> {
        let threshold = self.severity?.severity();
        let counts = Counts::of(report.findings.iter().filter(|finding| {
            finding.severity >= threshold && (!self.fixable || !finding.fixed_in.is_empty())
        }));
        let total: u64 = Severity::WORST_FIRST.iter().map(|severity| counts.at(*severity)).sum();
        let words = counts.words();
        // `1 critical and 2 high` reads better than a list where there is one comma.
        let words = match words.rsplit_once(", ") {
            Some((first, last)) => format!("{first} and {last}"),
            None => words,
        };
        let noun = if total == 1 { "finding" } else { "findings" };
        let with = if self.fixable { " with a fix" } else { "" };
        (total > 0).then(|| format!("{words} {noun}{with}"))
    }
}

/// What counts as not assessed, in words: the first few of it, and how many more.
fn not_assessed(report: &Report) -> Option<String> {
    const NAMED: usize = 3;
    let counts = || report.unassessed.iter().filter(|thing| thing.accepted.is_none());
    let shown: Vec<String> = counts().take(NAMED).map(in_words).collect();
    let more = counts().count().saturating_sub(NAMED) as u64 + report.unassessed_unnamed;
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("not assessed: {}", shown.join(", "))),
        (false, more) => Some(format!("not assessed: {} and {more} more", shown.join(", "))),
    }
}

/// One thing as it may stand in a line of text.
fn in_words(thing: &Unassessed) -> String {
    const LONGEST: usize = 120;
    let name = report::plain(&thing.to_string());
    let name = match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    };
    match (thing.packages, thing.count) {
        (true, 1) => format!("{name} (1 package)"),
        (true, count) => format!("{name} ({count} packages)"),
        (false, 0 | 1) => name,
        (false, count) => format!("{name} ({count})"),
    }
}

impl StepKind for Scan {
    const KIND: &'static str = "scan";
    const SUMMARY: &'static str = "matches a bill of materials against the advisory database";
    const EFFECT: Effect = Effect::Pure;
    const CAPABILITIES: &'static [Capability] = &[];

    type Input = ScanInput;
    type Output = ScanOutput;

    fn check(&self, input: &ScanInput) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if input.ignore.as_deref().is_some_and(|path| !stays_inside(Path::new(path))) {
            problems.push(
                InputProblem::at("/ignore", "the path leaves the workspace")
                    .hint("write a path relative to the workspace, without `..`"),
            );
        }
        problems.extend(input.fail_on.and_then(FailOn::problem));
        for (place, problem) in
            Accepting::read(&input.ignore_unassessed).err().into_iter().flatten()
        {
            problems.push(
                InputProblem::at(format!("/ignore_unassessed/{place}"), problem)
                    .hint("write a kind, or a kind and a subject: `go-binary:/usr/bin/*`"),
            );
        }
        if input.sbom.size > MAX_SBOM {
            problems.push(InputProblem::at("/sbom", "the bill of materials is over 256 MiB"));
        }
        problems
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        let (db_dir, now) = (Arc::clone(&self.db_dir), look.now());
        let max_age = look.get("/max_db_age").and_then(serde_json::Value::as_str);
        let max_age = max_age.and_then(|text| text.parse::<HumanDuration>().ok());
        let opened = move || {
            let database = Database::open(&db_dir)?;
            let Some(allowed) = max_age else { return Ok(()) };
            // Which ecosystems the bill needs is not known yet: one that is fresh may be all of them.
            let all = database.ecosystems();
            let stale = database.stale(all.iter().copied(), allowed.0, now);
            if stale.len() < all.len() { Ok(()) } else { database.check_age(all, allowed.0, now) }
        };
        match tokio::task::spawn_blocking(opened).await {
            Ok(Err(error)) => vec![db_error(error).into()],
            Ok(Ok(())) | Err(_) => Vec::new(),
        }
    }

    async fn reads(
        &self,
        input: &ScanInput,
        context: &StepContext,
    ) -> Result<Vec<(String, Digest)>, StepError> {
        let db_dir = Arc::clone(&self.db_dir);
        let ignore = input.ignore.clone().map(|path| (context.workspace().to_owned(), path));
        let now = context.now();
        // An ignored finding counts until a day, and a database is young enough until a moment.
        let by_day = input.ignore.is_some();
        let max_age = input.max_db_age;
        let read = move || {
            let database = Database::open(&db_dir).map_err(db_error)?;
            let mut reads = vec![("database".to_owned(), database.digest().clone())];
            // Which of them the bill needs is known when it is read; an ecosystem that has become
            // too old since makes an earlier answer another question.
            if let Some(allowed) = max_age {
                let stale = database.stale(database.ecosystems(), allowed.0, now);
                let names: Vec<&str> = stale.iter().map(|old| old.ecosystem.as_str()).collect();
                reads.push(("too old".to_owned(), Digest::sha256(names.join("\n").as_bytes())));
            }
            if let Some((workspace, path)) = ignore {
                let text = ignore_file(&workspace, &path)?;
                reads.push(("ignore".to_owned(), Digest::sha256(text.as_bytes())));
            }
            if by_day {
                let today = now.to_zoned_datetime(TimeZone::UTC).date().to_string();
                reads.push(("today".to_owned(), Digest::sha256(today.as_bytes())));
            }
            Ok(reads)
        };
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| StepError::terminal("the scan broke off").because(error))?
    }

    async fn run(
        &self,
        input: ScanInput,
        context: &StepContext,
    ) -> Result<Verdict<ScanOutput>, StepError> {
        let sbom = context.cancel().guard(read_sbom(&input.sbom, context)).await?;
        let job = Job {
            db_dir: Arc::clone(&self.db_dir),
            sbom,
            sbom_artifact: input.sbom,
            ignore: input.ignore.map(|path| (context.workspace().to_owned(), path)),
            ignore_unassessed: input.ignore_unassessed,
            max_db_age: input.max_db_age,
            now: context.now(),
        };
        // Reading files and comparing versions would hold up the other steps of the run.
        let work = async { tokio::task::spawn_blocking(move || job.scan()).await };
        let report = context.cancel().guard(async { Ok::<_, StepError>(work.await) }).await?;
        let report =
            report.map_err(|error| StepError::terminal("the scan broke off").because(error))??;
        for line in notes(&report) {
            context.say(line);
        }
        let outputs = store(&report, context).await?;
        Ok(match input.fail_on.and_then(|fail_on| fail_on.reason(&report)) {
            Some(reason) => {
                if input.fail_on.is_some_and(FailOn::unassessed_counts)
                    && report.summary.unassessed > 0
                {
                    context.say(
                        "what was not assessed makes the answer a no; what somebody has looked at \
                         is accepted with `ignore_unassessed`, and `fail_on.unassessed: false` \
                         lets everything pass",
                    );
                }
                Verdict::Rejected { reason, outputs }
            }
            None => Verdict::passed(outputs),
        })
    }
}

/// One scan, ready for a thread of its own.
struct Job {
    db_dir: Arc<Path>,
    sbom: Bytes,
    sbom_artifact: Artifact,
    /// The workspace and the path within it.
    ignore: Option<(PathBuf, String)>,
    ignore_unassessed: Vec<String>,
    max_db_age: Option<HumanDuration>,
    now: Timestamp,
}

impl Job {
    fn scan(self) -> Result<Report, StepError> {
        let ignores = match &self.ignore {
            Some((workspace, path)) => read_ignores(workspace, path)?,
            None => Ignores::default(),
        };
        let name = &self.sbom_artifact.name;
        let bill = sbom::read(&self.sbom).map_err(|error| {
            StepError::terminal(format!("cannot scan the bill of materials `{name}`: {error}"))
                .hint("give the JSON document of an `sbom` step, SPDX 2.3 or CycloneDX 1.6")
        })?;
        let accepting = Accepting::read(&self.ignore_unassessed).map_err(|problems| {
            let problems: Vec<String> = problems.into_iter().map(|(_, problem)| problem).collect();
            StepError::terminal(format!("`ignore_unassessed`: {}", problems.join("; ")))
        })?;
        let database = Database::open(&self.db_dir).map_err(db_error)?;
        let resolved = Resolved::of(&bill, &database);
        if let Some(allowed) = self.max_db_age {
            database.check_age(resolved.needs(), allowed.0, self.now).map_err(db_error)?;
        }
        let matched = finding::find(resolved, &database).map_err(db_error)?;
        let origin = Origin {
            sbom: self.sbom_artifact.digest,
            sbom_name: self.sbom_artifact.name,
            database: database.digest().clone(),
            database_newest: database.newest().map(|newest| newest.to_string()),
        };
        let today = self.now.to_zoned_datetime(TimeZone::UTC).date();
        Ok(Report::new(origin, matched, &ignores, &accepting, today))
    }
}

async fn read_sbom(sbom: &Artifact, context: &StepContext) -> Result<Bytes, StepError> {
    let bytes = context.artifacts().get(&sbom.digest).await.map_err(|error| {
        let what = format!("cannot read the bill of materials `{}`", sbom.name);
        artifact_error(what, error)
    })?;
    if bytes.len() as u64 > MAX_SBOM {
        return Err(StepError::terminal("the bill of materials is over 256 MiB"));
    }
    Ok(bytes)
}

fn artifact_error(what: String, error: ArtifactError) -> StepError {
    match error {
        ArtifactError::NotFound { .. } | ArtifactError::Damaged { .. } => {
            StepError::terminal(what).because(error)
        }
        ArtifactError::Unavailable { .. } | _ => StepError::retryable(what).because(error),
    }
}

fn db_error(error: DbError) -> StepError {
    let hint = error.hint();
    let message = error.to_string();
    StepError::terminal(message).because(error).hint(hint)
}

fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The text of an ignore file.
fn ignore_file(workspace: &Path, path: &str) -> Result<String, StepError> {
    let failed = |problem: String| {
        StepError::terminal(format!("cannot read the ignore file `{path}`: {problem}"))
    };
    let io = |error: std::io::Error| failed(error.to_string());
    let root = workspace.canonicalize().map_err(io)?;
    // A symbolic link may lead out of the workspace though the path does not.
    let file = root.join(path).canonicalize().map_err(io)?;
    if !file.starts_with(&root) {
        return Err(failed("it leads out of the workspace".to_owned()));
    }
    let metadata = std::fs::metadata(&file).map_err(io)?;
    if !metadata.is_file() {
        return Err(failed("it is not a file".to_owned()));
    }
    if metadata.len() > MAX_FILE {
        return Err(failed("it is over 1 MiB".to_owned()));
    }
    std::fs::read_to_string(&file).map_err(io)
}

fn read_ignores(workspace: &Path, path: &str) -> Result<Ignores, StepError> {
    let text = ignore_file(workspace, path)?;
    Ignores::read(Path::new(path), &text).map_err(|error| {
        StepError::terminal(error.to_string()).hint(
            "each entry needs `id`, `owner`, `reason` and `expires`, and may have `package` or \
             `purl`",
        )
    })
}

/// What the log says besides the outputs.
fn notes(report: &Report) -> Vec<String> {
    let summary = &report.summary;
    let found = match summary.findings {
        0 => "no findings".to_owned(),
        count => format!("{count} findings ({})", summary.counts.words()),
    };
    let mut notes = vec![format!(
        "{found} in {} packages, {} with a fix, {} ignored; database {}",
        summary.packages,
        summary.fixable,
        summary.ignored,
        report.origin.database.short()
    )];
    if summary.distribution_owned > 0 {
        notes.push(format!(
            "{} findings in what packages of the distribution brought; they do not count, its own \
             advisories do",
            summary.distribution_owned
        ));
    }
    notes.extend(report.unassessed.iter().take(MAX_NOTES).map(|thing| {
        let accepted = thing.accepted.as_ref().map(|by| format!("; accepted ({by})"));
        let (thing, reason) = (in_words(thing), report::plain(&thing.reason));
        format!("not assessed: {thing}: {reason}{}", accepted.unwrap_or_default())
    }));
    let more = report.unassessed.len().saturating_sub(MAX_NOTES) as u64 + report.unassessed_unnamed;
    if more > 0 {
        notes.push(format!("not assessed: {more} more; the report names them"));
    }
    for pattern in &report.unused_unassessed {
        notes.push(format!("`ignore_unassessed` has `{pattern}`, which accepts nothing"));
    }
    for entry in &report.expired_ignores {
        notes.push(format!(
            "line {} of the ignore file ({}, {}) expired on {} and no longer counts",
            entry.line, entry.id, entry.owner, entry.expires
        ));
    }
    for entry in &report.unused_ignores {
        notes.push(format!(
            "line {} of the ignore file ({}, {}) matches no finding",
            entry.line, entry.id, entry.owner
        ));
    }
    notes
}

async fn store(report: &Report, context: &StepContext) -> Result<ScanOutput, StepError> {
    let broken = |error| StepError::terminal("the report cannot be written").because(error);
    let json = |value: Result<Vec<u8>, serde_json::Error>| {
        value.map(|mut bytes| {
            bytes.push(b'\n');
            Bytes::from(bytes)
        })
    };
    let findings = json(serde_json::to_vec_pretty(report)).map_err(broken)?;
    let sarif = json(serde_json::to_vec_pretty(&report::sarif(report))).map_err(broken)?;
    let table = Bytes::from(report::table(report));
    let put = async |name: &str, media_type: &str, bytes: Bytes| {
        let stored = context.artifacts().put(name, media_type, bytes).await;
        stored.map_err(|error| artifact_error(format!("cannot store `{name}`"), error))
    };
    Ok(ScanOutput {
        findings: put("findings.json", "application/vnd.fairlead.scan.v1+json", findings).await?,
        sarif: put("findings.sarif", "application/sarif+json", sarif).await?,
        table: put("findings.txt", "text/plain; charset=utf-8", table).await?,
        counts: report.summary.counts,
        fixable: report.summary.fixable,
        ignored: report.summary.ignored,
        packages: report.summary.packages,
        unmatched: report.summary.unmatched,
        unassessed: report.summary.unassessed,
        distribution_owned: report.summary.distribution_owned,
        database: report.origin.database.clone(),
    })
}
