//! The kind `policy`: a gate.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use fairlead_oci::Client;
use fairlead_step::{
    Artifact, Capability, Digest, Effect, Image, InputProblem, StepContext, StepError, StepKind,
    Verdict,
};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::MAX_FILE;
use crate::{Policy, RuleAnswer, gather, judge};

/// The `policy` step kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct PolicyStep;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyInput {
    /// The image.
    pub image: Image,
    /// The policy file, a path within the workspace. Files of keys that it names lie below its folder.
    pub policy: String,
}

/// What the step produces.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PolicyOutput {
    /// The image.
    pub image: Image,
    /// The digest of the policy file that was asked.
    pub policy: Digest,
    /// Every rule and what became of it.
    pub rules: Vec<RuleOutput>,
    /// The report, with why, as JSON.
    pub report: Artifact,
}

/// One rule.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RuleOutput {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub answer: RuleAnswer,
}

impl StepKind for PolicyStep {
    const KIND: &'static str = "policy";
    const SUMMARY: &'static str =
        "hold the evidence at an image against a policy: who signed, and what is attested";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[Capability::RegistryRead];
    type Input = PolicyInput;
    type Output = PolicyOutput;

    fn check(&self, input: &PolicyInput) -> Vec<InputProblem> {
        if stays_inside(Path::new(&input.policy)) {
            return Vec::new();
        }
        vec![
            InputProblem::at("/policy", "the path leaves the workspace")
                .hint("write a path relative to the workspace, without `..`"),
        ]
    }

    async fn run(
        &self,
        input: PolicyInput,
        context: &StepContext,
    ) -> Result<Verdict<PolicyOutput>, StepError> {
        let policy = Policy::load(context.workspace(), &input.policy)?;
        let client = Client::new(context.registries()?);
        let image = input.image;
        let work = Box::pin(gather(&client, &image, &policy));
        let facts = context.cancel().guard(work).await?;
        let today = context.now().to_zoned_datetime(TimeZone::UTC).date();
        let report = judge(&policy, &image, &facts, today);
        for rule in &report.rules {
            context.say(format!("{}: {}", rule.name, rule.answer.name()));
            for line in &rule.lines {
                context.say(format!("  {line}"));
            }
            if let Some(excepted) = &rule.excepted {
                context.say(format!("  excepted by {excepted}"));
            }
        }
        let bytes = serde_json::to_vec(&report)
            .map(Bytes::from)
            .map_err(|error| StepError::terminal("the report cannot be written").because(error))?;
        let name = format!("{}.policy.json", policy.name);
        let stored = context.artifacts().put(&name, "application/json", bytes).await;
        let stored = stored.map_err(|error| {
            StepError::retryable(format!("cannot store `{name}`")).because(error)
        })?;
        let rules = report.rules.iter();
        let outputs = PolicyOutput {
            image,
            policy: report.policy_digest.clone(),
            rules: rules
                .map(|rule| RuleOutput { name: rule.name.clone(), answer: rule.answer })
                .collect(),
            report: stored,
        };
        Ok(match report.reason() {
            Some(reason) => Verdict::Rejected { reason, outputs },
            None => Verdict::passed(outputs),
        })
    }
}

impl Policy {
    /// Reads a policy file at `path` below `folder`, with the key files that it names.
    ///
    /// # Errors
    /// When it cannot be read, or is wrong.
    pub fn load(folder: &Path, path: &str) -> Result<Self, StepError> {
        let text = inside(folder, path).map_err(StepError::terminal)?;
        let below = Path::new(path).parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let read = |file: &str| {
            if !stays_inside(Path::new(file)) {
                return Err(format!("`{file}` leaves the folder of the policy"));
            }
            inside(folder, &below.join(file).to_string_lossy())
        };
        Self::read(Path::new(path), &text, read).map_err(|error| {
            StepError::terminal(error.to_string())
                .hint("`fairlead policy test FILE` checks a policy, and runs its tests")
        })
    }
}

fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The text of a file below `folder`.
fn inside(folder: &Path, path: &str) -> Result<String, String> {
    let failed = |problem: String| format!("cannot read `{path}`: {problem}");
    let io = |error: std::io::Error| failed(error.to_string());
    let root = folder.canonicalize().map_err(io)?;
    // A symbolic link may lead out of the folder though the path does not.
    let file = root.join(path).canonicalize().map_err(io)?;
    if !file.starts_with(&root) {
        return Err(failed("it leads out of the workspace".to_owned()));
    }
    let metadata = std::fs::metadata(&file).map_err(io)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(failed("it is no file of up to 1 MiB".to_owned()));
    }
    std::fs::read_to_string(&file).map_err(io)
}
