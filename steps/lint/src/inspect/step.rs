//! The `inspect` step, and the budget that can make its answer a no.

use bytes::Bytes;
use fairlead_oci::{Client, Platform};
use fairlead_step::{
    Artifact, ByteSize, Capability, Effect, Image, InputProblem, StepContext, StepError, StepKind,
    Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draw::size;
use super::{InspectError, Inspection, draw, inspect_image};

/// `uses: inspect`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inspect;

/// What an image may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The most bytes of the files of all layers, such as `500MB`.
    pub max_size: Option<ByteSize>,
    /// The most bytes that later layers hide.
    pub max_wasted: Option<ByteSize>,
    /// The least efficiency, between 0 and 1, as dive computes it.
    pub min_efficiency: Option<f64>,
}

/// What to inspect.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InspectInput {
    /// The image, by digest.
    pub image: Image,
    /// The platform, such as `linux/arm64`, where the image has several; `linux/amd64` unless it is said.
    pub platform: Option<String>,
    /// The image that it is built from: what is above it is counted by itself.
    pub base: Option<Image>,
    /// What makes the answer a no.
    #[serde(default)]
    pub budget: Budget,
}

/// What there is to say.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InspectOutput {
    /// The report as JSON.
    pub report: Artifact,
    /// The report as a picture for terminals.
    pub picture: Artifact,
    /// Bytes of the files of all layers.
    pub size: u64,
    /// Bytes of all layers as they are stored.
    pub packed: u64,
    /// Bytes that later layers hide.
    pub wasted: u64,
    /// Between 0 and 1.
    pub efficiency: f64,
}

impl Budget {
    /// What breaks it, in words.
    #[must_use]
    pub fn broken(&self, found: &Inspection) -> Option<String> {
        let mut broken = Vec::new();
        if let Some(most) = self.max_size.filter(|most| found.size > most.0) {
            broken.push(format!("{} is more than {most}", size(found.size)));
        }
        if let Some(most) = self.max_wasted.filter(|most| found.wasted > most.0) {
            broken.push(format!("{} wasted is more than {most}", size(found.wasted)));
        }
        if let Some(least) = self.min_efficiency.filter(|least| found.efficiency < *least) {
            broken.push(format!("an efficiency of {:.3} is less than {least}", found.efficiency));
        }
        (!broken.is_empty()).then(|| broken.join("; "))
    }
}

impl StepKind for Inspect {
    const KIND: &'static str = "inspect";
    const SUMMARY: &'static str = "size and waste of an image, layer by layer, within a budget";
    const EFFECT: Effect = Effect::Pure;
    const CAPABILITIES: &'static [Capability] = &[Capability::RegistryRead];

    type Input = InspectInput;
    type Output = InspectOutput;

    fn check(&self, input: &InspectInput) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if let Some(Err(error)) = input.platform.as_deref().map(str::parse::<Platform>) {
            problems.push(InputProblem::at("/platform", error.to_string()));
        }
        if input.budget.min_efficiency.is_some_and(|least| !(0.0..=1.0).contains(&least)) {
            problems.push(
                InputProblem::at("/budget/min_efficiency", "it is not between 0 and 1")
                    .hint("write `0.95` for 95 %"),
            );
        }
        problems
    }

    async fn run(
        &self,
        input: InspectInput,
        context: &StepContext,
    ) -> Result<Verdict<InspectOutput>, StepError> {
        let client = Client::new(context.registries()?);
        let found = context.cancel().guard(look(&client, &input)).await?;
        let picture = draw(&found);
        picture.lines().for_each(|line| context.say(line));
        let broken = |error| StepError::terminal("the report cannot be written").because(error);
        let json = serde_json::to_vec_pretty(&found).map_err(broken)?;
        let put = async |name: &str, media_type: &str, bytes: Vec<u8>| {
            let stored = context.artifacts().put(name, media_type, Bytes::from(bytes)).await;
            stored.map_err(|error| {
                StepError::retryable(format!("cannot store `{name}`")).because(error)
            })
        };
        let outputs = InspectOutput {
            report: put("inspect.json", "application/vnd.fairlead.inspect.v1+json", json).await?,
            picture: put("inspect.txt", "text/plain; charset=utf-8", picture.into_bytes()).await?,
            size: found.size,
            packed: found.packed,
            wasted: found.wasted,
            efficiency: found.efficiency,
        };
        Ok(match input.budget.broken(&found) {
            Some(reason) => Verdict::Rejected { reason, outputs },
            None => Verdict::passed(outputs),
        })
    }
}

async fn look(client: &Client, input: &InspectInput) -> Result<Inspection, StepError> {
    let wanted = input.platform.as_deref().unwrap_or("linux/amd64");
    let wanted: Platform = wanted
        .parse()
        .map_err(|error| StepError::terminal("the platform cannot be read").because(error))?;
    let image = client.platform(&input.image, &wanted).await?;
    let mut found = inspect_image(client, &image).await?;
    if let Some(base) = &input.base {
        let base = client.platform(base, &wanted).await?;
        found.above(&inspect_image(client, &base).await?);
    }
    Ok(found)
}

impl From<InspectError> for StepError {
    fn from(error: InspectError) -> Self {
        match error {
            InspectError::Registry(error) => error.into(),
            InspectError::Read { .. } | InspectError::Malformed { .. } => {
                let message = error.to_string();
                Self::terminal(message).because(error)
            }
        }
    }
}
