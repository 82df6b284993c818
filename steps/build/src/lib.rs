//! The build step: an image from a Dockerfile, by Docker Engine with BuildKit.
//!
//! Dockerfile semantics are BuildKit's. This crate sends the context, answers what the engine asks
//! while it builds (secrets, credentials), tells its progress, brings the result to the registry and
//! reads it back: what the step answers is what the registry holds.

mod context;
mod engine;
mod hold;
mod ignore;
mod progress;
mod push;
mod session;
mod solve;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fairlead_oci::{Client, Platform};
use fairlead_step::{
    Capability, Digest, Effect, EngineAddress, Image, InputProblem, Missing, Preflight, Repository,
    Required, Requirement, Secret, StepContext, StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::{Context, ContextError};
use crate::engine::{Engine, EngineError};
use crate::hold::Holds;
use crate::push::Pusher;
use crate::session::{Offer, Session};

/// The most platforms of one build.
const MAX_PLATFORMS: usize = 32;

/// The step kind `build`.
#[derive(Debug, Clone)]
pub struct Build {
    engine: Engine,
}

impl Build {
    /// Builds on the engine at `engine`.
    #[must_use]
    pub const fn new(engine: EngineAddress) -> Self {
        Self { engine: Engine(engine) }
    }
}

/// What the engine at `address` says of itself, such as `Docker 20.10.24`.
///
/// # Errors
/// When it cannot be reached.
pub async fn engine_version(address: &EngineAddress) -> Result<String, StepError> {
    Engine(address.clone()).version().await
}

/// What stands under `with:` of a `build` step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The folder to send to the engine, relative to the workspace. Its `.dockerignore` says what
    /// stays behind.
    #[serde(default = "default_context")]
    pub context: String,
    /// The Dockerfile, relative to the context.
    #[serde(default = "default_dockerfile")]
    pub dockerfile: String,
    /// The repository to push to, without a tag.
    pub image: Repository,
    /// The stage to build; the last one when it is not given.
    #[serde(default)]
    pub target: Option<String>,
    /// Values for the Dockerfile's `ARG`. They are visible in the image's history: no secrets here.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// Labels of the image, such as `org.opencontainers.image.revision`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Secrets for `RUN --mount=type=secret,id=NAME`. They reach neither image, history nor log.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret<String>>,
    /// Platforms to build, such as `linux/amd64`; the engine's own when none is given. Several give
    /// one OCI index.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Tags to point to the result when everything else is done. A tag that reads as a version
    /// never moves; any other follows the newest build.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether to push. Without it the build is only tried, and there is no `image` to go on with.
    #[serde(default = "yes")]
    pub push: bool,
    /// Whether to build every instruction anew.
    #[serde(default)]
    pub no_cache: bool,
    /// Which network `RUN` has.
    #[serde(default)]
    pub network: Network,
}

fn default_context() -> String {
    ".".into()
}

fn default_dockerfile() -> String {
    "Dockerfile".into()
}

const fn yes() -> bool {
    true
}

/// Which network the instructions of a build have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// What the engine gives, or the Dockerfile asks for.
    #[default]
    Default,
    /// The engine's host's own.
    Host,
    /// None at all.
    None,
}

/// What a `build` step answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The image in the registry, by digest: the index where several platforms were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Image")]
    pub image: Option<Image>,
    /// The image of each platform, in the order asked for. Empty when nothing was pushed.
    pub platforms: Vec<BuiltPlatform>,
}

/// One platform's image.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BuiltPlatform {
    /// The platform, such as `linux/amd64`.
    pub platform: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The bytes of its config and layers in the registry.
    pub size: u64,
}

impl StepKind for Build {
    const KIND: &'static str = "build";
    const SUMMARY: &'static str = "build an image with Docker's BuildKit and push it";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Engine,
        Capability::RegistryRead,
        Capability::RegistryWrite,
        Capability::Secrets,
    ];
    type Input = Input;
    type Output = Output;

    fn requirements(&self, input: &Input) -> Vec<Requirement> {
        // What the engine gives by default reaches whatever the engine's host does.
        let network = match input.network {
            Network::Default => "bridge",
            Network::Host => "host",
            Network::None => "none",
        };
        vec![Requirement::at("/network", Required::Network(network.to_owned()))]
    }

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        for (index, text) in input.platforms.iter().enumerate() {
            let at = format!("/platforms/{index}");
            match text.parse::<Platform>() {
                Err(error) => problems.push(InputProblem::at(at, error.to_string())),
                Ok(_) if input.platforms[..index].contains(text) => {
                    problems.push(InputProblem::at(at, format!("`{text}` is asked for twice")));
                }
                Ok(_) => {}
            }
        }
        if input.platforms.len() > MAX_PLATFORMS {
            let text = format!("more than {MAX_PLATFORMS} platforms");
            problems.push(InputProblem::at("/platforms", text));
        }
        for (index, tag) in input.tags.iter().enumerate() {
            if !fairlead_step::ImageRef::is_tag(tag) {
                let text = format!("`{tag}` is not a tag");
                problems.push(
                    InputProblem::at(format!("/tags/{index}"), text)
                        .hint("a tag has up to 128 letters, digits, `_`, `.` and `-`"),
                );
            }
        }
        if !input.push && !input.tags.is_empty() {
            problems.push(
                InputProblem::at("/tags", "tags need a push")
                    .hint("remove `push: false` or the tags"),
            );
        }
        let names = [
            ("args", input.args.keys().collect::<Vec<_>>()),
            ("labels", input.labels.keys().collect()),
            ("secrets", input.secrets.keys().collect()),
        ];
        for (field, keys) in names {
            if keys.iter().any(|key| key.is_empty() || key.contains(['=', '\n', '\r', '\0'])) {
                let text = "a name is empty, or has `=` or an end of line in it";
                problems.push(InputProblem::at(format!("/{field}"), text));
            }
        }
        problems
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        let mut missing: Vec<Missing> =
            self.engine.version().await.err().into_iter().map(Missing::from).collect();
        // A step before this one may make the context, and another name the folder.
        if let (true, Some(context), Some(dockerfile)) =
            (look.is_first(), look.text("/context", "."), look.text("/dockerfile", "Dockerfile"))
        {
            let folder = look.workspace().join(context);
            let file = folder.join(dockerfile);
            if !folder.is_dir() {
                missing.push(
                    Missing::new(format!("there is no folder {} to build", folder.display()))
                        .hint("`context` is a folder of the workspace; `--workspace` names that"),
                );
            } else if !file.is_file() {
                missing.push(
                    Missing::new(format!("there is no Dockerfile at {}", file.display()))
                        .hint("`dockerfile` names another one, from the context"),
                );
            }
        }
        missing
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        let holds = Holds::default();
        let built = context.cancel().guard(self.build(input, &holds, context)).await;
        holds.release().await;
        built.map(Verdict::passed)
    }
}

impl Build {
    async fn build(
        &self,
        mut input: Input,
        holds: &Holds,
        context: &StepContext,
    ) -> Result<Output, StepError> {
        let files = Arc::new(look_through(&input, context).await?);
        let (count, bytes) = files.size();
        context.say(format!("context: {count} entries, {bytes} bytes"));
        let dockerfile = files.dockerfile();
        let docker = self.engine.client().await?;
        let registries = context.registries()?;

        let secrets = std::mem::take(&mut input.secrets);
        let mut ids = Vec::new();
        for platform in platforms(&input) {
            if let Some(platform) = platform {
                context.say(format!("building for {platform}"));
            }
            let name = unique_name(context);
            let hold = input.push.then(|| holds.name(&docker, &name));
            let offer = Offer {
                context: Arc::clone(&files),
                secrets: secrets.clone(),
                registries: Arc::clone(&registries),
            };
            let session = Session::open(&self.engine, name.clone(), offer).await?;
            let request = solve::Request {
                dockerfile: &dockerfile,
                subfolder: files.subfolder(),
                target: input.target.as_deref(),
                platform: platform.map(str::to_owned),
                args: &input.args,
                labels: &input.labels,
                no_cache: input.no_cache,
                network: input.network,
                hold: hold.as_deref(),
            };
            let solving = solve::solve(&self.engine, &session, &name, &request, context.log());
            let id = Box::pin(solving).await?;
            context.say(format!("built {id}"));
            ids.push(id);
        }
        if !input.push {
            return Ok(Output { image: None, platforms: Vec::new() });
        }

        let client = Client::new(Arc::clone(&registries));
        let pusher = Pusher {
            docker: &docker,
            client: &client,
            registries: &registries,
            repository: &input.image,
            log: context.log(),
        };
        let mut pushed = Vec::with_capacity(ids.len());
        for id in &ids {
            pushed.push(pusher.push(id).await?);
        }
        let image = match pushed.as_slice() {
            [one] => input.image.at(one.digest().clone()),
            several => pusher.join(several).await?,
        };
        pusher.tag(&image, &input.tags).await?;
        pusher.untag(&pushed).await?;
        context.say(format!("image: {image}"));
        let platforms = pushed
            .into_iter()
            .map(|one| BuiltPlatform {
                platform: one.platform.to_string(),
                digest: one.manifest,
                size: one.size,
            })
            .collect();
        Ok(Output { image: Some(image), platforms })
    }
}

/// The platforms to build, where `None` is the engine's own.
fn platforms(input: &Input) -> Vec<Option<&str>> {
    if input.platforms.is_empty() {
        vec![None]
    } else {
        input.platforms.iter().map(|platform| Some(platform.as_str())).collect()
    }
}

async fn look_through(input: &Input, context: &StepContext) -> Result<Context, StepError> {
    let workspace = context.workspace().to_owned();
    let (folder, dockerfile) = (input.context.clone(), input.dockerfile.clone());
    let walk = tokio::task::spawn_blocking(move || Context::open(&workspace, &folder, &dockerfile));
    match walk.await {
        Ok(files) => Ok(files?),
        Err(error) => Err(StepError::terminal("cannot look through the context").because(error)),
    }
}

/// A name for one build and its session that no other build on the engine has.
fn unique_name(context: &StepContext) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let info = context.info();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let text =
        format!("{}/{}/{}/{count}", info.idempotency_key(), info.attempt, std::process::id());
    Digest::sha256(text.as_bytes()).hex()[..32].to_owned()
}

impl From<EngineError> for StepError {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        let step = Self::terminal(text);
        match error {
            EngineError::Unreachable { source, .. } => step
                .because(source)
                .hint("start Docker, or set DOCKER_HOST; `fairlead doctor` says what is missing"),
            EngineError::Foreign { .. } => {
                step.hint("Docker Engine 20.10 or newer is needed; check DOCKER_HOST")
            }
        }
    }
}

impl From<ContextError> for StepError {
    fn from(error: ContextError) -> Self {
        let (text, hint) = (error.to_string(), error.hint());
        let step = Self::terminal(text).hint(hint);
        match error {
            ContextError::Read { source, .. } => step.because(source),
            ContextError::Outside { .. }
            | ContextError::Missing { .. }
            | ContextError::Ignore { .. }
            | ContextError::TooMuch { .. } => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_step::erase;
    use fairlead_step::kit::TestHost;
    use serde_json::json;

    use super::*;

    fn nowhere() -> Build {
        Build::new("unix:///nonexistent/docker.sock".parse().unwrap())
    }

    #[test]
    fn inputs_are_checked_before_anything_runs() {
        let step = erase(nowhere());
        let problems = |with: serde_json::Value| match step.check(&with) {
            Ok(()) => String::new(),
            Err(problems) => {
                problems.iter().map(|p| format!("{}: {}\n", p.pointer, p.message)).collect()
            }
        };
        assert_eq!(problems(json!({"image": "registry.example.com/apps/shop"})), "");
        insta::assert_snapshot!(problems(json!({
            "image": "registry.example.com/apps/shop",
            "platforms": ["linux/amd64", "amd64", "linux/amd64"],
            "tags": ["ok", "not a tag"],
            "push": false,
            "args": {"A=B": "x"},
        })), @r"
        /platforms/1: `amd64` is not a platform: write `linux/amd64` or `linux/arm/v7`
        /platforms/2: `linux/amd64` is asked for twice
        /tags/1: `not a tag` is not a tag
        /tags: tags need a push
        /args: a name is empty, or has `=` or an end of line in it
        ");
        let error = problems(json!({"image": "registry.example.com/apps/shop:latest"}));
        assert!(error.starts_with("/image: "), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_told() {
        let host = TestHost::new();
        std::fs::write(host.workspace().join("Dockerfile"), "FROM scratch\n").unwrap();
        let step = erase(nowhere());
        let error = host.run(&*step, json!({"image": "127.0.0.1:1/a"})).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no Docker engine answers at unix:///nonexistent/docker.sock"
        );
        assert!(error.way_out().unwrap().contains("fairlead doctor"));
    }

    #[test]
    fn the_output_is_an_image_that_may_be_missing() {
        let spec = erase(nowhere());
        let schema = &spec.spec().output_schema;
        assert_eq!(schema["properties"]["image"]["format"], "image");
        assert_eq!(schema["required"], json!(["platforms"]));
    }
}
