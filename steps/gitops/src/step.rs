//! The kind `gitops`.

use fairlead_git::{Checkout, Commit, Git, GitAuth, Identity, Push, Remote};
use fairlead_step::{
    Artifact, Capability, Effect, InputProblem, Missing, Preflight, Required, Requirement, Secret,
    StepContext, StepError, StepKind, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::edit::{DocumentName, Edit};
use crate::repository::{edit_files, inner_path};

/// How often the edit is made again on a new head before the step gives up for now.
const MAX_RACES: u32 = 10;

/// The `gitops` step kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gitops;

/// What stands under `with:`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The repository: `https://…`, `ssh://…`, `user@host:path`, `file://…` or an absolute path.
    pub repository: String,
    /// The branch; the remote's default when it is left out.
    pub branch: Option<String>,
    /// The edits, made in this order and committed together.
    #[schemars(length(min = 1))]
    pub edits: Vec<Edit>,
    /// The commit message. Trailers are added behind it.
    pub message: String,
    /// Who the commit is by.
    #[serde(default)]
    pub author: Author,
    /// The user at an HTTP remote.
    pub username: Option<String>,
    /// The password or token at an HTTP remote.
    pub password: Option<Secret<String>>,
    /// The private key for an ssh remote; the machine's own keys when it is left out.
    pub ssh_key: Option<Secret<String>>,
    /// Lines of a `known_hosts` file for an ssh remote; the machine's own when left out.
    pub known_hosts: Option<String>,
}

/// Who a commit is by.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
}

impl Default for Author {
    fn default() -> Self {
        Self { name: "Fairlead".into(), email: "fairlead@localhost".into() }
    }
}

/// What the step produces.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// The commit of this step; absent when there was nothing to change.
    pub commit: Option<String>,
    /// The branch.
    pub branch: String,
    /// The diff of the commit; absent when there was nothing to change.
    pub diff: Option<Artifact>,
    /// What a person should know: why the commit may deploy nothing new.
    pub notes: Vec<String>,
}

impl StepKind for Gitops {
    const KIND: &'static str = "gitops";
    const SUMMARY: &'static str = "edit files of a git repository in place, commit and push";
    const EFFECT: Effect = Effect::CheckThenAct;
    const CAPABILITIES: &'static [Capability] =
        &[Capability::Git, Capability::Network, Capability::Secrets];
    type Input = Input;
    type Output = Output;

    fn check(&self, input: &Input) -> Vec<InputProblem> {
        let mut problems = Vec::new();
        if let Err(error) = input.repository.parse::<Remote>() {
            problems.push(InputProblem::at("/repository", error.to_string()));
        }
        if let Some(Err(error)) = input.branch.as_ref().map(|b| b.parse::<fairlead_git::Branch>()) {
            problems.push(InputProblem::at("/branch", error.to_string()));
        }
        if input.edits.is_empty() {
            problems.push(InputProblem::at("/edits", "there is no edit"));
        }
        for (index, edit) in input.edits.iter().enumerate() {
            let at = format!("/edits/{index}");
            problems.extend(check_edit(edit, &at));
        }
        if input.username.is_some() != input.password.is_some() {
            let problem = "`username` and `password` go together";
            problems.push(InputProblem::at("/username", problem));
        }
        if input.password.is_some() && input.ssh_key.is_some() {
            problems.push(InputProblem::at("/ssh_key", "give a password or a key, not both"));
        }
        for (place, text) in [("name", &input.author.name), ("email", &input.author.email)] {
            if text.is_empty() || text.contains(['<', '>', '\n', '\0']) {
                let problem = "it is empty or holds `<`, `>` or a line break";
                problems.push(InputProblem::at(format!("/author/{place}"), problem));
            }
        }
        problems
    }

    fn requirements(&self, input: &Input) -> Vec<Requirement> {
        let remote = input.repository.parse::<Remote>().ok();
        let folder = remote.and_then(|remote| remote.folder_path());
        let path = folder.map(|path| Requirement::at("/repository", Required::HostPath(path)));
        path.into_iter().collect()
    }

    async fn preflight(&self, look: &Preflight<'_>) -> Vec<Missing> {
        if look.has_program("git") {
            return Vec::new();
        }
        vec![
            Missing::new("the program `git` is not on this machine")
                .hint("install git 2.30 or newer"),
        ]
    }

    async fn run(&self, input: Input, context: &StepContext) -> Result<Verdict<Output>, StepError> {
        let remote: Remote = input.repository.parse().map_err(bad_input)?;
        let branch = input.branch.as_deref().map(str::parse).transpose().map_err(bad_input)?;
        let git = Git::new(context.spawn()?, &context.scratch().join("home"), &auth(&input))?
            .within(context.egress().clone());
        git.version().await?;
        let folder = context.scratch().join("checkout");
        let checkout = Checkout::clone(&git, &remote, branch.as_ref(), &folder).await?;

        let trailers = trailers(&input, context);
        let ours = &trailers[..2];
        for race in 0..MAX_RACES {
            if let Some(commit) = checkout.find(ours).await? {
                context.say(format!("this step has committed already: {commit}"));
                return finish(&checkout, Some(commit), Vec::new(), context).await;
            }
            let changes = edit_files(&checkout, &input.edits).await?;
            let notes = changes.notes;
            notes.iter().for_each(|note| context.say(format!("note: {note}")));
            if changes.files.is_empty() {
                context.say("nothing to change: no commit, nothing is deployed by this step");
                return finish(&checkout, None, notes, context).await;
            }
            let diff = checkout.diff().await?;
            if diff.is_empty() {
                return Err(StepError::terminal(format!(
                    "{} changed, and git sees no difference",
                    changes.files.join(", ")
                )));
            }
            diff.lines().for_each(|line| context.say(line));
            let by =
                Identity { name: input.author.name.clone(), email: input.author.email.clone() };
            let message = format!("{}\n\n{}\n", input.message.trim_end(), trailers.join("\n"));
            let commit = checkout.commit(&message, &by).await?;
            match checkout.push().await? {
                Push::Done => {
                    context.say(format!("pushed {commit} to {remote} {}", checkout.branch()));
                    return finish(&checkout, Some(commit), notes, context).await;
                }
                Push::LostRace => {
                    let round = race + 1;
                    context.say(format!("somebody else pushed first ({round}): editing again"));
                    checkout.start_again().await?;
                }
            }
        }
        Err(StepError::retryable(format!(
            "the branch `{}` of {remote} moved {MAX_RACES} times while we edited it",
            checkout.branch()
        ))
        .hint("many writers push to this branch; try again when it is quieter"))
    }
}

fn bad_input(error: impl ToString) -> StepError {
    StepError::terminal(error.to_string())
}

fn check_edit(edit: &Edit, at: &str) -> Vec<InputProblem> {
    let mut problems = Vec::new();
    if let Err(problem) = inner_path(&edit.file) {
        problems.push(InputProblem::at(format!("{at}/file"), problem));
    }
    let combination = match (&edit.path, &edit.kustomize, &edit.value, &edit.image) {
        (Some(_), None, Some(_), None)
        | (Some(_), None, None, Some(_))
        | (None, Some(_), None, Some(_)) => None,
        (_, Some(_), _, None) => Some("`kustomize` takes an `image`"),
        (None, None, ..) => Some("`path` or `kustomize` must say where"),
        (Some(_), Some(_), ..) => Some("give `path` or `kustomize`, not both"),
        _ => Some("give exactly one of `value` and `image`"),
    };
    problems.extend(combination.map(|problem| InputProblem::at(at, problem)));
    if let Some(DocumentName::Name(name)) = &edit.document
        && !name.contains('/')
        && name.parse::<usize>().is_err()
    {
        let problem = format!("`{name}` is neither an index nor a `kind/name`");
        problems.push(InputProblem::at(format!("{at}/document"), problem));
    }
    match &edit.tag {
        Some(_) if edit.image.is_none() => {
            problems.push(InputProblem::at(format!("{at}/tag"), "`tag` goes with `image`"));
        }
        Some(tag) if !fairlead_step::ImageRef::is_tag(tag) => {
            problems.push(InputProblem::at(format!("{at}/tag"), format!("`{tag}` is not a tag")));
        }
        Some(_) | None => {}
    }
    problems
}

fn auth(input: &Input) -> GitAuth {
    match (&input.username, &input.password, &input.ssh_key) {
        (Some(user), Some(password), _) => {
            GitAuth::Password { user: user.clone(), password: password.clone() }
        }
        (_, _, Some(key)) => {
            GitAuth::SshKey { key: key.clone(), known_hosts: input.known_hosts.clone() }
        }
        _ => GitAuth::Ambient,
    }
}

/// The trailers of the commit. The first two say whose it is; a later attempt looks for them.
fn trailers(input: &Input, context: &StepContext) -> Vec<String> {
    let info = context.info();
    let mut trailers =
        vec![format!("Fairlead-Run: {}", info.run), format!("Fairlead-Step: {}", info.step)];
    let mut digests: Vec<String> =
        input.edits.iter().filter_map(|e| e.image.as_ref()).map(|i| i.digest.to_string()).collect();
    digests.sort();
    digests.dedup();
    trailers.extend(digests.into_iter().map(|digest| format!("Image-Digest: {digest}")));
    trailers
}

async fn finish(
    checkout: &Checkout<'_>,
    commit: Option<Commit>,
    notes: Vec<String>,
    context: &StepContext,
) -> Result<Verdict<Output>, StepError> {
    let branch = checkout.branch().to_string();
    let Some(commit) = commit else {
        return Ok(Verdict::passed(Output { commit: None, branch, diff: None, notes }));
    };
    let text = checkout.show(&commit).await?;
    let stored = context.artifacts().put("gitops.diff", "text/x-diff", text.into()).await;
    let diff = stored.map_err(|error| {
        StepError::retryable("cannot store the diff of the commit").because(error)
    })?;
    let commit = Some(commit.to_string());
    Ok(Verdict::passed(Output { commit, branch, diff: Some(diff), notes }))
}
