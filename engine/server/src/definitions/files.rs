//! From the files of a repository to pipelines: what cannot be taken is refused with its findings, and the
//! last good one stays.

use std::sync::Arc;

use fairlead_plan::{Compiled, Diagnostics, Severity, Source, compile};
use fairlead_run::Projects;
use fairlead_step::{Catalog, ObjectId};

use super::kept::{Kept, KeptFile, MOST_BYTES, MOST_FILES};
use super::settings::RepositorySettings;
use crate::ports::{Pipeline, PipelineFiles, PipelineOrigin, Pipelines};

/// The most findings that are told of one file.
const MOST_FINDINGS: usize = 20;

/// What files are compiled against.
#[derive(Clone, Copy)]
pub(super) struct Against<'a> {
    pub(super) settings: &'a RepositorySettings,
    pub(super) catalog: &'a Catalog,
    pub(super) projects: &'a Projects,
    /// The pipelines of everywhere else, whose names are taken.
    pub(super) others: &'a Pipelines,
}

/// What became of the files of a commit.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) kept: Kept,
    pub(super) pipelines: Vec<Pipeline>,
    /// What is odd about files that were taken.
    pub(super) warnings: Vec<String>,
}

/// A file that was compiled.
struct Good {
    pipeline: Pipeline,
    warnings: Vec<String>,
}

impl Against<'_> {
    fn origin(&self, commit: &ObjectId, path: &str) -> PipelineOrigin {
        PipelineOrigin {
            source: self.settings.source.clone(),
            repository: self.settings.repository.clone(),
            branch: self.settings.branch.clone(),
            commit: commit.clone(),
            path: path.to_owned(),
        }
    }

    /// The pipeline of one file. `taken` are the names within the repository.
    fn compiled(
        &self,
        commit: &ObjectId,
        path: &str,
        text: &str,
        taken: &Pipelines,
    ) -> Result<Good, Vec<String>> {
        let origin = self.origin(commit, path);
        let source = Source::new(origin.name(), text);
        let Compiled { plan, warnings, .. } =
            compile(&source, self.catalog).map_err(|findings| lines(path, &findings))?;
        let (name, project) = (plan.name(), &self.settings.project);
        // Whoever may write to the repository of one project must not define what another runs.
        let projects = self.projects.of(name);
        if projects != [project.as_str()] {
            let whose = projects.join("` and `");
            return Err(vec![format!(
                "{path}: the pipeline `{name}` belongs to project `{whose}`, and this repository is for \
                 `{project}`"
            )]);
        }
        if let Some(other) = self.others.get(name).or_else(|| taken.get(name)) {
            let other = other.plan.source_name();
            return Err(vec![format!("{path}: `{other}` has a pipeline `{name}` already")]);
        }
        let pipeline = Pipeline { plan: Arc::new(plan), origin: Some(Arc::new(origin)) };
        Ok(Good { pipeline, warnings: lines(path, &warnings) })
    }

    /// The pipelines of a commit. Where a file cannot be taken, that of `before` stays.
    pub(super) fn take(&self, commit: &ObjectId, files: PipelineFiles, before: &Kept) -> Taken {
        let mut taken = Taken::default();
        taken.kept.commit = Some(commit.clone());
        let mut names = Pipelines::default();
        let (mut bytes, mut count) = (0, 0);
        for (path, text) in files {
            count += 1;
            bytes += text.as_ref().map_or(0, String::len);
            let compiled = match text {
                _ if count > MOST_FILES || bytes > MOST_BYTES => Err(vec![format!(
                    "{path}: a repository has at most {MOST_FILES} pipeline files, with {MOST_BYTES} bytes \
                     together"
                )]),
                Ok(text) => {
                    self.compiled(commit, &path, &text, &names).map(|good| (good, commit, text))
                }
                Err(why) => Err(vec![format!("{path}: {why}")]),
            };
            let good = match compiled {
                Ok((good, commit, text)) => Some((good, commit.clone(), text)),
                Err(findings) => {
                    taken.kept.refused.insert(path.clone(), findings);
                    let last = before.files.get(&path).cloned();
                    last.and_then(|KeptFile { commit, text }| {
                        let good = self.compiled(&commit, &path, &text, &names).ok()?;
                        Some((good, commit, text))
                    })
                }
            };
            if let Some((good, commit, text)) = good {
                // Its name was looked at a moment ago.
                if names.add(good.pipeline.clone()).is_ok() {
                    taken.pipelines.push(good.pipeline);
                    taken.warnings.extend(good.warnings);
                    taken.kept.files.insert(path, KeptFile { commit, text });
                }
            }
        }
        taken
    }

    /// The pipelines of what was kept. What this build or this configuration does not take any more is
    /// refused.
    pub(super) fn take_kept(&self, kept: &Kept) -> Taken {
        let mut taken = Taken::default();
        taken.kept.commit.clone_from(&kept.commit);
        taken.kept.refused.clone_from(&kept.refused);
        let mut names = Pipelines::default();
        for (path, file) in &kept.files {
            match self.compiled(&file.commit, path, &file.text, &names) {
                Ok(good) if names.add(good.pipeline.clone()).is_ok() => {
                    taken.pipelines.push(good.pipeline);
                    taken.warnings.extend(good.warnings);
                    taken.kept.files.insert(path.clone(), file.clone());
                }
                Ok(_) => {}
                Err(findings) => {
                    taken.kept.refused.insert(path.clone(), findings);
                    // It may be good again under the next configuration.
                    taken.kept.files.insert(path.clone(), file.clone());
                }
            }
        }
        taken
    }
}

/// Findings as lines for people: place, code, cause, way out.
fn lines(path: &str, findings: &Diagnostics) -> Vec<String> {
    let line = |found: &fairlead_plan::Diagnostic| {
        let help = found.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        let word = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let (row, column) = (found.span.line, found.span.column);
        format!("{path}:{row}:{column}: {word}[{}]: {}{help}", found.code, found.message)
    };
    findings.list().iter().take(MOST_FINDINGS).map(line).collect()
}
