//! Step kinds that do nothing: fakes, with the schemas that real ones have.

use std::collections::BTreeMap;

use fairlead_step::{
    Artifact, Capability, Catalog, Digest, Effect, HumanDuration, Image, InputProblem, Repository,
    Secret, StepContext, StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    catalog.add(Build).unwrap();
    catalog.add(Scan).unwrap();
    catalog.add(Sign).unwrap();
    catalog.add(Note).unwrap();
    catalog
}

macro_rules! never_runs {
    () => {
        async fn run(
            &self,
            _: Self::Input,
            _: &StepContext,
        ) -> Result<Verdict<Self::Output>, StepError> {
            Err(StepError::terminal("a fake never runs"))
        }
    };
}

pub(super) struct Build;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a fake reads nothing")]
pub(super) struct BuildInput {
    #[serde(default)]
    context: Option<String>,
    image: Repository,
    #[serde(default)]
    platforms: Vec<String>,
    #[serde(default)]
    secrets: BTreeMap<String, Secret<String>>,
    #[serde(default)]
    args: BTreeMap<String, String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct BuildOutput {
    image: Image,
    digest: Digest,
    platforms: Vec<String>,
}

impl StepKind for Build {
    const KIND: &'static str = "build";
    const SUMMARY: &'static str = "a fake";
    const VERSION: &'static str = "1.0";
    const EFFECT: Effect = Effect::Idempotent;
    const CAPABILITIES: &'static [Capability] = &[Capability::Secrets];
    type Input = BuildInput;
    type Output = BuildOutput;
    never_runs!();
}

pub(super) struct Scan;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Severity {
    /// Little.
    Low,
    /// Much.
    Critical,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a fake reads nothing")]
pub(super) struct ScanInput {
    image: Image,
    #[serde(default)]
    fail_on: Option<Threshold>,
    #[serde(default)]
    limit: Option<u8>,
    #[serde(default)]
    within: Option<HumanDuration>,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    baseline: Option<Artifact>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a fake reads nothing")]
pub(super) struct Threshold {
    severity: Severity,
    #[serde(default)]
    fixable: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ScanOutput {
    report: Artifact,
    findings: u64,
    worst: Option<String>,
}

impl StepKind for Scan {
    const KIND: &'static str = "scan";
    const SUMMARY: &'static str = "a fake";
    const VERSION: &'static str = "1.0";
    const EFFECT: Effect = Effect::Pure;
    const CAPABILITIES: &'static [Capability] = &[];
    type Input = ScanInput;
    type Output = ScanOutput;
    never_runs!();
}

pub(super) struct Sign;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a fake reads nothing")]
pub(super) struct SignInput {
    image: Image,
    key: Key,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "a fake reads nothing")]
pub(super) enum Key {
    /// A key.
    Private { pem: Secret<String> },
    /// No key.
    Keyless { issuer: String },
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SignOutput {
    signature: Digest,
}

impl StepKind for Sign {
    const KIND: &'static str = "sign";
    const SUMMARY: &'static str = "a fake";
    const VERSION: &'static str = "1.0";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] = &[Capability::Secrets];
    type Input = SignInput;
    type Output = SignOutput;
    never_runs!();
}

/// A fake that may not receive secrets although its input would take one, and that refuses texts
/// its type allows.
pub(super) struct Note;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a fake reads nothing")]
pub(super) struct NoteInput {
    #[serde(default)]
    text: String,
    #[serde(default)]
    lines: Vec<String>,
    #[serde(default)]
    data: Option<serde_json::Value>,
    #[serde(default)]
    token: Option<Secret<String>>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct NoteOutput {}

impl StepKind for Note {
    const KIND: &'static str = "note";
    const SUMMARY: &'static str = "a fake";
    const VERSION: &'static str = "1.0";
    const EFFECT: Effect = Effect::Once;
    const CAPABILITIES: &'static [Capability] = &[];
    type Input = NoteInput;
    type Output = NoteOutput;

    fn check(&self, input: &NoteInput) -> Vec<InputProblem> {
        let shouts = |text: &str| text.contains('!');
        let lines = input.lines.iter().enumerate().filter(|(_, line)| shouts(line));
        let lines = lines.map(|(at, _)| InputProblem::at(format!("/lines/{at}"), "it shouts"));
        let text = shouts(&input.text).then(|| InputProblem::at("/text", "it shouts"));
        text.into_iter().chain(lines).map(|problem| problem.hint("speak lower")).collect()
    }

    never_runs!();
}
