//! What may run: what the pipelines of each project may have of this machine and of what stands around it.
//!
//! A [`Policy`] is asked twice: when a run is asked for, about all steps at once and as far as their inputs
//! are known, so that a person hears of everything before anything is done; and when an attempt is made,
//! about the whole input, which is where it is enforced. A person's own machine has [`Policy::open`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Component;
use std::sync::{Arc, PoisonError, RwLock};

use fairlead_plan::{Plan, PlanStep, Scope};
use fairlead_step::{
    ByteSize, Capability, Catalog, Confinement, Globs, ImageRef, Limits, Required, Requirement,
    Step, StepError, StepId, StepSpec,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::secrets::SecretProvider;

/// The project of every pipeline that no other project has.
pub const DEFAULT_PROJECT: &str = "default";

/// Memory of a container whose project says nothing about it.
const MEMORY: ByteSize = ByteSize(2 << 30);
/// Processors of such a container.
const CPUS: f64 = 2.0;
/// Processes and threads of such a container: enough for a large build, and no fork bomb.
const PIDS: u32 = 2048;
/// The most processors that can be given: more than a machine has.
const MOST_CPUS: f64 = 4096.0;

/// What only a pattern for every program fits: no program is called so.
const ANY_PROGRAM: &str = "any program";

/// What the pipelines of a project may have. Whatever is not named is refused.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// The step kinds, such as `build` or `command`; `*` for every kind of the build.
    kinds: Patterns,
    /// The programs that steps may start on the host, as they name them, such as `make` or
    /// `./scripts/**`. They have the rights of the server's own user.
    host_programs: Patterns,
    /// The images that containers may run.
    images: Images,
    /// The networks of containers and of what a build runs: `none`, `bridge` (the engine's default), or the
    /// name of one. `host` and `container:NAME` are allowed by their own names alone, by no pattern.
    networks: Patterns,
    /// Paths of the host that steps may use outside of their workspace.
    host_paths: Patterns,
    /// Capabilities of Linux that a step may ask for its container, such as `NET_RAW`.
    capabilities: Patterns,
}

/// The images that containers may run, by their repositories, such as `docker.io/library/*`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Images {
    /// Those that may run when a digest names them; any when it is not given.
    digest: Globs,
    /// Those that may run when only a tag names them, which somebody may move.
    tag: Patterns,
}

/// Patterns of which an empty list fits nothing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Patterns(Option<Globs>);

impl Patterns {
    fn fit(&self, text: &str) -> bool {
        self.0.as_ref().is_some_and(|globs| globs.is_match(text))
    }

    /// The same for a path, or the name of a program. One that climbs is only what is written as it is:
    /// a pattern such as `scripts/**` does not mean what is above it.
    fn fit_path(&self, text: &str) -> bool {
        let climbs =
            std::path::Path::new(text).components().any(|part| part == Component::ParentDir);
        if climbs { self.name(text) } else { self.fit(text) }
    }

    /// Whether `text` itself is one of them.
    fn name(&self, text: &str) -> bool {
        // As it was written: a pattern is shown as its own text.
        let written = self.0.as_ref().and_then(|globs| serde_json::to_value(globs).ok());
        match written {
            Some(serde_json::Value::String(one)) => one == text,
            Some(serde_json::Value::Array(many)) => many.iter().any(|one| one == text),
            Some(_) | None => false,
        }
    }
}

/// How the containers of a project are shut in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Containers {
    /// How much memory a container has; `2GiB` when it is not given.
    memory: ByteSize,
    /// How many processors, such as `0.5`; 2 when it is not given.
    cpus: f64,
    /// How many processes and threads; 2048 when it is not given.
    pids: u32,
    /// The user of containers whose step and image name none but root, such as `1000:1000`. With it no
    /// step may ask for root.
    user: Option<String>,
    /// Capabilities of Linux that every container keeps, such as `CHOWN`. Without any, root in a container
    /// cannot even read the files of another user.
    capabilities: BTreeSet<String>,
    /// Whether no container may write to the file system of its image. `/tmp` is in memory then.
    read_only: bool,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            memory: MEMORY,
            cpus: CPUS,
            pids: PIDS,
            user: None,
            capabilities: BTreeSet::new(),
            read_only: false,
        }
    }
}

impl Containers {
    fn confinement(&self) -> Confinement {
        // Checked to be a small number when the policy was made.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let cpu_millis = (self.cpus * 1000.0).ceil() as u64;
        Confinement {
            limits: Limits {
                memory: Some(self.memory),
                cpu_millis: Some(cpu_millis),
                pids: Some(self.pids),
            },
            restricted: true,
            capabilities: self.capabilities.iter().cloned().collect(),
            user: self.user.clone(),
            read_only: self.read_only,
        }
    }

    fn problem(&self) -> Option<&'static str> {
        /// What Docker takes as the least.
        const LEAST: ByteSize = ByteSize(6 << 20);
        let bare = |name: &String| !name.starts_with("CAP_") && !name.is_empty();
        if !(self.cpus > 0.0 && self.cpus <= MOST_CPUS) {
            Some("`containers.cpus` is more than 0 and at most 4096")
        } else if self.memory < LEAST {
            Some("`containers.memory` is at least 6MiB, less no engine takes")
        } else if self.pids == 0 {
            Some("`containers.pids` is at least 1")
        } else if !self.capabilities.iter().all(bare) {
            Some("`containers.capabilities` are written without `CAP_`, such as `CHOWN`")
        } else {
            None
        }
    }
}

/// A project: some pipelines, what they may have, and the secrets that they can name.
#[derive(Clone)]
pub struct Project {
    /// Its pipelines, by name. Nobody asks for those of [`DEFAULT_PROJECT`].
    pub pipelines: Globs,
    /// What they may have.
    pub allow: Allow,
    /// How their containers are shut in.
    pub containers: Containers,
    /// The secrets that they can name, and no others.
    pub secrets: Arc<dyn SecretProvider>,
}

/// Why projects make no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("project `{project}`: {problem}")]
pub struct PolicyError {
    project: String,
    problem: String,
}

/// What may run, by project. Cheap to clone; every clone is the same policy, also when it is replaced.
#[derive(Clone)]
pub struct Policy(Option<Arc<RwLock<Projects>>>);

/// The projects of one moment, by name.
type Projects = Arc<BTreeMap<String, Project>>;

/// A policy as it is at one moment: whoever asks several things of it is answered by the same.
struct Now(Option<Projects>);

/// Something that a step would have, and may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The step; none for what concerns the pipeline.
    pub step: Option<StepId>,
    /// One lower-case sentence fragment.
    pub message: String,
    /// The way out.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "step `{step}`: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<Refusal> for StepError {
    fn from(refusal: Refusal) -> Self {
        Self::terminal(refusal.message).hint(refusal.hint)
    }
}

impl Policy {
    /// Everything may run, in containers as the engine makes them: for a person's own machine.
    #[must_use]
    pub const fn open() -> Self {
        Self(None)
    }

    /// What `projects` allow, by their names, and nothing else.
    ///
    /// # Errors
    /// When a project has no pipelines, or no engine could keep what it says of containers.
    pub fn closed(projects: BTreeMap<String, Project>) -> Result<Self, PolicyError> {
        for (name, project) in &projects {
            let fail = |problem: &str| {
                Err(PolicyError { project: name.clone(), problem: problem.to_owned() })
            };
            if let Some(problem) = project.containers.problem() {
                return fail(problem);
            }
            match (name == DEFAULT_PROJECT, project.pipelines.is_empty()) {
                (true, false) => {
                    return fail(
                        "it has every pipeline that no other project has; `pipelines` is not for it",
                    );
                }
                (false, true) => return fail("`pipelines` says by patterns which ones it has"),
                (true, true) | (false, false) => {}
            }
        }
        Ok(Self(Some(Arc::new(RwLock::new(Arc::new(projects))))))
    }

    /// Lets from now on run what `other` does, for whoever has a clone of this one. A policy stays open, or
    /// closed, as it was made.
    pub fn replace(&self, other: &Self) {
        if let (Some(shared), Some(projects)) = (&self.0, other.now().0) {
            *shared.write().unwrap_or_else(PoisonError::into_inner) = projects;
        }
    }

    fn now(&self) -> Now {
        let projects = |shared: &Arc<RwLock<Projects>>| {
            Arc::clone(&shared.read().unwrap_or_else(PoisonError::into_inner))
        };
        Now(self.0.as_ref().map(projects))
    }

    /// The project of a pipeline, and nothing on an open machine.
    ///
    /// # Errors
    /// When two projects have the pipeline: none of them would be safe to take.
    pub fn project_of(&self, pipeline: &str) -> Result<Option<String>, PolicyError> {
        Ok(self.now().lookup(pipeline)?.map(|(name, _)| name.to_owned()))
    }

    /// The secrets that a pipeline can name; none where the machine is open, which has its own.
    pub(crate) fn secrets(&self, pipeline: &str) -> Option<Arc<dyn SecretProvider>> {
        match self.now().lookup(pipeline) {
            Ok(None) => None,
            Ok(Some((_, Some(project)))) => Some(Arc::clone(&project.secrets)),
            Ok(Some((_, None))) | Err(_) => Some(Arc::new(crate::secrets::NoSecrets)),
        }
    }

    /// How the containers of a pipeline are shut in.
    pub(crate) fn confinement(&self, pipeline: &str) -> Confinement {
        match self.now().lookup(pipeline) {
            Ok(None) => Confinement::default(),
            Ok(Some((_, Some(project)))) => project.containers.confinement(),
            Ok(Some((_, None))) | Err(_) => Containers::default().confinement(),
        }
    }

    /// What is refused to a step of the kind `spec` that would have `required`.
    #[must_use]
    pub fn refusals(
        &self,
        pipeline: &str,
        spec: &StepSpec,
        required: &[Requirement],
    ) -> Vec<Refusal> {
        let now = self.now();
        let (name, project) = match now.lookup(pipeline) {
            Ok(None) => return Vec::new(),
            Ok(Some(found)) => found,
            Err(error) => {
                let hint = "a pipeline belongs to one project".to_owned();
                return vec![Refusal { step: None, message: error.to_string(), hint }];
            }
        };
        let nothing = Allow::default();
        let rights = Rights {
            name,
            allow: project.map_or(&nothing, |project| &project.allow),
            asks_user: project.is_some_and(|project| project.containers.user.is_some()),
        };
        let tells = |requirement: &Requirement| {
            matches!(requirement.what, Required::HostProgram(_) | Required::Image(_))
        };
        let starts = spec.capabilities.contains(&Capability::Process);
        let untold = (starts && !required.iter().any(tells)).then(|| {
            Required::AnyHostProgram(format!("the kind `{}` does not say which", spec.kind))
        });
        let wanted = required.iter().map(|requirement| &requirement.what).chain(&untold);
        let kind = (!rights.allow.kinds.fit(spec.kind)).then(|| {
            let message = format!("the kind `{}` is not allowed", spec.kind);
            rights.refusal(&message, "kinds", spec.kind, None)
        });
        kind.into_iter().chain(wanted.filter_map(|what| rights.check(what))).collect()
    }

    /// What is refused to the steps of a plan, all of it, as far as their inputs are known by now. Steps
    /// in `kept` are not made.
    #[must_use]
    pub fn foreseen(
        &self,
        plan: &Plan,
        catalog: &Catalog,
        scope: &Scope,
        kept: &BTreeSet<&StepId>,
    ) -> Vec<Refusal> {
        if self.0.is_none() {
            return Vec::new();
        }
        let made =
            plan.steps().iter().filter(|step| step.gate.is_none() && !kept.contains(&step.id));
        let mut refused = Vec::new();
        for step in made {
            // A kind that this build does not have is told of elsewhere.
            let Some(kind) = catalog.get(&step.kind) else { continue };
            let required = foreseen(kind, step, scope);
            let found = self.refusals(plan.name(), kind.spec(), &required);
            refused.extend(
                found.into_iter().map(|refusal| Refusal { step: Some(step.id.clone()), ..refusal }),
            );
        }
        refused
    }

    /// What is refused to one attempt.
    pub(crate) fn check(
        &self,
        pipeline: &str,
        kind: &dyn Step,
        with: &serde_json::Value,
    ) -> Result<(), StepError> {
        if self.0.is_none() {
            return Ok(());
        }
        let required = kind.requirements(with).map_err(|problem| {
            StepError::terminal(format!("what it requires cannot be told: {}", problem.message))
        })?;
        let refused = self.refusals(pipeline, kind.spec(), &required);
        let Some(first) = refused.first() else { return Ok(()) };
        let texts: Vec<&str> = refused.iter().map(|refusal| refusal.message.as_str()).collect();
        Err(StepError::terminal(texts.join("; ")).hint(first.hint.clone()))
    }
}

impl Now {
    /// Its own entry is none where nobody wrote one: such a project has nothing.
    fn lookup(&self, pipeline: &str) -> Result<Option<(&str, Option<&Project>)>, PolicyError> {
        let Some(projects) = self.0.as_deref() else { return Ok(None) };
        let mut found: Option<(&str, &Project)> = None;
        for (name, project) in projects.iter().filter(|(name, _)| *name != DEFAULT_PROJECT) {
            if !project.pipelines.is_match(pipeline) {
                continue;
            }
            if let Some((first, _)) = found {
                let problem = format!(
                    "it has the pipeline `{pipeline}`, and `{first}` has it, too; change the \
                     `pipelines` of one"
                );
                return Err(PolicyError { project: name.clone(), problem });
            }
            found = Some((name, project));
        }
        Ok(Some(match found {
            Some((name, project)) => (name, Some(project)),
            None => (DEFAULT_PROJECT, projects.get(DEFAULT_PROJECT)),
        }))
    }
}

/// What a project has.
struct Rights<'p> {
    name: &'p str,
    allow: &'p Allow,
    /// Whether its containers are asked to have another user than root.
    asks_user: bool,
}

impl Rights<'_> {
    /// The refusal of one thing; none where it is allowed.
    fn check(&self, what: &Required) -> Option<Refusal> {
        let allow = self.allow;
        let message = format!("{what} is not allowed");
        let refuse =
            |key: &str, value: &str, other| Some(self.refusal(&message, key, value, other));
        match what {
            Required::HostProgram(program) if allow.host_programs.fit_path(program) => None,
            Required::HostProgram(program) => {
                refuse("host_programs", program, Some("run it in a `container`"))
            }
            Required::AnyHostProgram(_) if allow.host_programs.fit(ANY_PROGRAM) => None,
            Required::AnyHostProgram(_) => refuse("host_programs", "**", None),
            Required::Image(image) => {
                let repository = image.repository.to_string();
                match allow.images.problem(image, &repository)? {
                    Unfit::Digest => refuse("images.digest", &repository, None),
                    Unfit::Tag => {
                        let message = format!("{what}, which no digest names, is not allowed");
                        let other = Some("name it by digest");
                        Some(self.refusal(&message, "images.tag", &repository, other))
                    }
                }
            }
            Required::Network(network) => {
                let special = network == "host" || network.starts_with("container:");
                let fits = match special {
                    true => allow.networks.name(network),
                    false => allow.networks.fit(network),
                };
                let other = (network != "none").then_some("write `network: none`");
                if fits { None } else { refuse("networks", network, other) }
            }
            Required::LinuxCapability(name) if allow.capabilities.fit(name) => None,
            Required::LinuxCapability(name) => refuse("capabilities", name, None),
            Required::HostPath(path) => {
                let path = path.to_string_lossy();
                if allow.host_paths.fit_path(&path) {
                    None
                } else {
                    refuse("host_paths", &path, None)
                }
            }
            Required::ContainerRoot => self.asks_user.then(|| Refusal {
                hint: "leave `user` away, or name another one".to_owned(),
                ..self.refusal(&message, "", "", None)
            }),
        }
    }

    /// A refusal whose way out is to allow `value` under `key`, or the `other` one.
    fn refusal(&self, message: &str, key: &str, value: &str, other: Option<&str>) -> Refusal {
        let name = self.name;
        let or = other.map_or(String::new(), |other| format!("{other}, or "));
        Refusal {
            step: None,
            message: format!("{message} in project `{name}`"),
            hint: format!(
                "{or}add `{value}` under `projects.{name}.allow.{key}` in the server's configuration"
            ),
        }
    }
}

/// What a step would have, as far as it is known. No secret is needed to tell.
fn foreseen(kind: &Arc<dyn Step>, step: &PlanStep, scope: &Scope) -> Vec<Requirement> {
    kind.foreseen_requirements(&step.foresee(scope).fill_known(|_| None))
}

/// How an image does not fit.
enum Unfit {
    /// Only a tag names it.
    Tag,
    /// Its repository is none of those.
    Digest,
}

impl Images {
    fn problem(&self, image: &ImageRef, repository: &str) -> Option<Unfit> {
        if image.digest.is_some() {
            return (!self.digest.is_match(repository)).then_some(Unfit::Digest);
        }
        (!self.tag.fit(repository)).then_some(Unfit::Tag)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Policy(open)"),
            Some(_) => {
                let now = self.now().0.unwrap_or_default();
                f.debug_tuple("Policy").field(&now.keys()).finish()
            }
        }
    }
}
