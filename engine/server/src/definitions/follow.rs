//! Following repositories: a push that the forge confirms is followed at once, and each branch is looked at
//! now and again for what no push told.
//!
//! Every server follows by itself. What one has read stands in the store, where the others find it: so a
//! forge is asked for files once, and a server that starts while the forge is away has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_event::{
    CommitState, CommitStatus, ForgeRepository, GitPushed, GitRef, PullRequest, SourceEvent,
};
use fairlead_run::{DeliveryStore, EventStore, Projects};
use fairlead_step::{Catalog, Clock, Digest, ObjectId, error_chain};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::files::{Against, Taken};
use super::kept::Kept;
use super::settings::{PullRequestFiles, RepositorySettings};
use crate::current::Current;
use crate::ingest::Sources;
use crate::outgoing::{Destinations, Outgoing};
use crate::ports::{FilesAt, Forges, Pipeline, PipelineFiles, Pipelines, PlanRules};

/// How often the store is looked at for what another server has read.
const STORE_LOOK: Duration = Duration::from_secs(30);
/// How long the files of one repository may take to be read. A first fetch of a large one takes minutes.
const FETCH: Duration = Duration::from_secs(600);

/// What a server is configured to have, besides what it was started with.
pub struct Setup {
    /// The pipelines of its own files.
    pub pipelines: Pipelines,
    /// The repositories that it follows.
    pub repositories: Vec<RepositorySettings>,
    /// From whom events are taken.
    pub sources: Sources,
    /// Which pipeline belongs to which project.
    pub projects: Projects,
    /// What its pipelines may do.
    pub rules: Arc<dyn PlanRules>,
    /// Who is told of what happens.
    pub destinations: Destinations,
}

/// All of it at one moment.
pub(crate) struct Live {
    pub(crate) sources: Arc<Sources>,
    pub(crate) projects: Arc<Projects>,
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) destinations: Arc<Destinations>,
    /// The repositories, for people.
    pub(crate) repositories: Vec<RepositoryView>,
}

/// A followed repository, for people.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryView {
    pub(crate) pipelines: Vec<String>,
    pub(crate) json: Value,
}

/// A followed repository.
struct Followed {
    settings: RepositorySettings,
    at: ForgeRepository,
    taken: Taken,
    /// When its branch was looked at, by this server.
    checked_at: Option<Timestamp>,
    /// Why it could not be, the last time.
    problem: Option<String>,
    /// One fetch at a time: what was read earlier must not take the place of what was read later.
    fetching: Arc<Mutex<()>>,
}

struct Inner {
    files: Pipelines,
    sources: Arc<Sources>,
    projects: Arc<Projects>,
    rules: Arc<dyn PlanRules>,
    destinations: Arc<Destinations>,
    followed: BTreeMap<String, Followed>,
}

/// What the definitions are read with.
pub(crate) struct Tools {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) forges: Arc<dyn Forges>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) deliveries: Arc<dyn DeliveryStore>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long a forge may take to say what its branches are.
    pub(crate) forge: Duration,
}

/// The pipelines, sources and projects of a server, which may be replaced while it runs.
pub struct Definitions {
    tools: Tools,
    inner: Mutex<Inner>,
    live: watch::Sender<Arc<Live>>,
    outgoing: Outgoing,
    /// Whether every repository that it began with was read, or could not be.
    ready: watch::Sender<bool>,
    changed: Notify,
}

/// What a fetch is of.
struct Wanted {
    key: String,
    settings: RepositorySettings,
    at: ForgeRepository,
    commit: Option<ObjectId>,
    fetching: Arc<Mutex<()>>,
}

impl Definitions {
    /// What `setup` has.
    ///
    /// # Errors
    /// Everything that is wrong with its repositories.
    pub(crate) fn new(tools: Tools, setup: Setup) -> Result<Self, Vec<String>> {
        let inner = Inner::of(setup, BTreeMap::new())?;
        let is_ready = inner.followed.is_empty();
        let live = watch::Sender::new(Arc::new(inner.live()));
        let (ready, changed) = (watch::Sender::new(is_ready), Notify::new());
        let outgoing = Outgoing {
            deliveries: Arc::clone(&tools.deliveries),
            destinations: Current::of(live.subscribe(), |it: &Live| Arc::clone(&it.destinations)),
            clock: Arc::clone(&tools.clock),
            added: Arc::new(watch::Sender::new(())),
        };
        Ok(Self { tools, inner: Mutex::new(inner), live, outgoing, ready, changed })
    }

    /// What is told to others.
    pub(crate) fn outgoing(&self) -> Outgoing {
        self.outgoing.clone()
    }

    /// What there is, as it is replaced.
    pub(crate) fn live(&self) -> watch::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// Has from now on what `setup` has, all of it at one moment. Whoever works with what there was ends
    /// with that. Repositories that were followed before keep their files. `with` is done at that moment, and
    /// only when all is well.
    ///
    /// # Errors
    /// Everything that is wrong; then nothing changes.
    pub async fn replace(&self, setup: Setup, with: impl FnOnce()) -> Result<(), Vec<String>> {
        let mut inner = self.inner.lock().await;
        let before = inner.followed.iter().map(|(key, followed)| {
            let Followed { settings: _, at: _, taken, checked_at, problem, fetching } = followed;
            let (kept, fetching) = (taken.kept.clone(), Arc::clone(fetching));
            (key.clone(), (kept, *checked_at, problem.clone(), fetching))
        });
        let before: BTreeMap<_, _> = before.collect();
        let mut next = Inner::of(setup, BTreeMap::new())?;
        for (key, (kept, checked_at, problem, fetching)) in before {
            if let Some(followed) = next.followed.get_mut(&key) {
                (followed.checked_at, followed.problem) = (checked_at, problem);
                followed.fetching = fetching;
                next.adopt(&key, &kept, &self.tools.catalog);
            }
        }
        with();
        *inner = next;
        self.publish(&inner);
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    fn publish(&self, inner: &Inner) {
        self.live.send_replace(Arc::new(inner.live()));
    }

    /// Waits until every repository that the server began with was read, or could not be: what comes
    /// before that would find no pipeline that waits for it.
    pub(crate) async fn ready(&self) {
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Follows the repositories until the server stops.
    pub(crate) async fn run(self: Arc<Self>, stopping: CancellationToken) {
        let begun = stopping.run_until_cancelled(self.begin()).await;
        self.ready.send_replace(true);
        if begun.is_none() {
            return;
        }
        let mut due: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            let now = Instant::now();
            let known: BTreeMap<String, Duration> = {
                let inner = self.inner.lock().await;
                let poll = |(key, it): (&String, &Followed)| (key.clone(), it.settings.poll.0);
                inner.followed.iter().map(poll).collect()
            };
            due.retain(|key, _| known.contains_key(key));
            for (key, poll) in &known {
                // What is new is looked at at once.
                let next = due.entry(key.clone()).or_insert(now);
                if *next > now {
                    continue;
                }
                *next = now + jittered(*poll);
                let (this, key, stopping) = (Arc::clone(&self), key.clone(), stopping.clone());
                tokio::spawn(async move {
                    stopping.run_until_cancelled(this.look(&key)).await;
                });
            }
            let until = due.values().min().copied();
            let pause = match until {
                Some(until) => until.saturating_duration_since(now).min(STORE_LOOK),
                None => Duration::MAX,
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(pause) => self.adopt_stored().await,
            }
        }
    }

    /// Reads what the store has, and asks the forges for what it has not.
    async fn begin(&self) {
        self.adopt_stored().await;
        let keys: Vec<String> = {
            let inner = self.inner.lock().await;
            let unread = |(_, it): &(&String, &Followed)| it.taken.kept.commit.is_none();
            inner.followed.iter().filter(unread).map(|(key, _)| key.clone()).collect()
        };
        let looks = keys.iter().map(|key| tokio::time::timeout(self.tools.forge, self.look(key)));
        futures::future::join_all(looks).await;
    }

    /// Takes what other servers have read since, or an earlier process.
    async fn adopt_stored(&self) {
        let keys: Vec<String> = self.inner.lock().await.followed.keys().cloned().collect();
        for key in keys {
            let stored = match self.tools.events.checkpoint(&key).await {
                Ok(stored) => stored,
                Err(error) => {
                    tracing::warn!("cannot look up `{key}`: {}", error_chain(&error));
                    return;
                }
            };
            let Some(kept) = stored.as_deref().and_then(Kept::from_json) else { continue };
            let mut inner = self.inner.lock().await;
            let is_known =
                inner.followed.get(&key).is_none_or(|it| it.taken.kept.commit == kept.commit);
            if !is_known {
                inner.adopt(&key, &kept, &self.tools.catalog);
                self.publish(&inner);
            }
        }
    }

    /// Looks at a branch, and reads its files when it has moved.
    async fn look(&self, key: &str) {
        let Some(wanted) = self.wanted(key).await else { return };
        // Somebody is at it.
        let Ok(_alone) = Arc::clone(&wanted.fetching).try_lock_owned() else { return };
        let looked = self.refresh(&wanted).await;
        if let Err(problem) = &looked {
            tracing::warn!("`{key}` cannot be looked at: {problem}");
        }
        let mut inner = self.inner.lock().await;
        if let Some(followed) = inner.followed.get_mut(key) {
            followed.problem = looked.err();
            followed.checked_at = Some(self.tools.clock.now());
        }
        self.publish(&inner);
    }

    async fn wanted(&self, key: &str) -> Option<Wanted> {
        let inner = self.inner.lock().await;
        let followed = inner.followed.get(key)?;
        Some(Wanted {
            key: key.to_owned(),
            settings: followed.settings.clone(),
            at: followed.at.clone(),
            commit: followed.taken.kept.commit.clone(),
            fetching: Arc::clone(&followed.fetching),
        })
    }

    /// Reads the files of the branch as it is at its forge now, unless they are known.
    async fn refresh(&self, wanted: &Wanted) -> Result<(), String> {
        let name = wanted.settings.reference();
        let patterns = std::slice::from_ref(&name);
        let question = self.tools.forges.find_all(&wanted.at, patterns);
        let found = tokio::time::timeout(self.tools.forge, question).await;
        let found = found
            .map_err(|_| "the forge did not answer in time".to_owned())?
            .map_err(|error| error.chain())?;
        let branch = &wanted.settings.branch;
        let head = found.get(&name).ok_or_else(|| format!("there is no branch `{branch}`"))?;
        let commit = head.commit.clone();
        if wanted.commit.as_ref() == Some(&commit) {
            return Ok(());
        }
        let files = self.files(&wanted.settings, &wanted.at, commit.clone(), name).await?;
        let (json, refused) = {
            let mut inner = self.inner.lock().await;
            let Some(kept) = inner.take(&wanted.key, &commit, files, &self.tools.catalog) else {
                return Ok(());
            };
            let told = (kept.to_json(), kept.refused.clone());
            self.publish(&inner);
            told
        };
        self.report(&wanted.settings, &commit, &refused).await;
        // It is in use here whether or not others learn of it.
        if let Err(error) = self.tools.events.save_checkpoint(&wanted.key, &json).await {
            tracing::warn!("`{}` cannot be kept: {}", wanted.key, error_chain(&error));
        }
        Ok(())
    }

    /// Tells the forge what becomes of the pipeline files of a commit, where it is told of commits.
    async fn report(
        &self,
        settings: &RepositorySettings,
        commit: &ObjectId,
        refused: &BTreeMap<String, Vec<String>>,
    ) {
        let mut findings = refused.values().flatten();
        let (state, description) = match findings.next() {
            None => (CommitState::Success, "every file is in use".to_owned()),
            Some(first) => {
                let more = match findings.count() {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                (CommitState::Failure, format!("{first}{more}"))
            }
        };
        let status = CommitStatus {
            repository: settings.repository.clone(),
            commit: commit.to_string(),
            context: "fairlead/pipelines".to_owned(),
            state,
            description,
            path: "/api/v1/pipelines".to_owned(),
        };
        // The same is said once, whoever says it.
        let said = Digest::sha256(format!("{}\n{status:?}", settings.key()).as_bytes());
        self.outgoing.set_status(&settings.source, said.to_string(), status).await;
    }

    async fn files(
        &self,
        settings: &RepositorySettings,
        repository: &ForgeRepository,
        commit: ObjectId,
        reference: String,
    ) -> Result<PipelineFiles, String> {
        let at = FilesAt {
            source: settings.source.clone(),
            repository: repository.clone(),
            commit,
            reference,
            folder: settings.folder().to_owned(),
        };
        let read = tokio::time::timeout(FETCH, self.tools.forges.files(&at)).await;
        let read = read.map_err(|_| "the forge did not give its files in time".to_owned())?;
        read.map_err(|error| error.chain())
    }

    /// The repositories whose branch this event says has moved, by their keys. It is not confirmed yet.
    pub(crate) async fn follows(&self, event: &SourceEvent) -> Vec<String> {
        let SourceEvent::GitPushed(GitPushed { clone_url, reference, .. }) = event else {
            return Vec::new();
        };
        let GitRef::Branch(branch) = reference else { return Vec::new() };
        let inner = self.inner.lock().await;
        let moved = inner.followed.iter().filter(|(_, it)| {
            clone_url.is_some() && it.at.clone_url == *clone_url && it.settings.branch == *branch
        });
        moved.map(|(key, _)| key.clone()).collect()
    }

    /// Follows branches that have moved, before anything else is made of the push that moved them.
    ///
    /// # Errors
    /// What was away.
    pub(crate) async fn pushed(&self, keys: &[String]) -> Result<(), String> {
        for key in keys {
            let Some(first) = self.wanted(key).await else { continue };
            let _alone = first.fetching.lock().await;
            // What was read meanwhile need not be read again.
            let Some(wanted) = self.wanted(key).await else { continue };
            let followed = self.refresh(&wanted).await;
            followed.map_err(|problem| format!("`{key}` cannot be followed: {problem}"))?;
        }
        Ok(())
    }

    /// Whether pipelines may have to be read from the pull request itself. It is not confirmed yet.
    pub(crate) async fn may_have_own(&self, event: &SourceEvent) -> bool {
        let SourceEvent::PullRequest(request) = event else { return false };
        let inner = self.inner.lock().await;
        inner.followed.values().any(|followed| followed.reads_own(request))
    }

    /// The pipelines that may start for a confirmed event: those that there are, and for a pull request of
    /// a repository whose project lets it, those of its own files in the place of the repository's.
    ///
    /// # Errors
    /// What was away.
    pub(crate) async fn pipelines_for(
        &self,
        event: &SourceEvent,
    ) -> Result<Arc<Pipelines>, String> {
        let live = Arc::clone(&self.live.borrow());
        let SourceEvent::PullRequest(request) = event else {
            return Ok(Arc::clone(&live.pipelines));
        };
        let mut pipelines = Arc::clone(&live.pipelines);
        let own: Vec<(RepositorySettings, ForgeRepository)> = {
            let inner = self.inner.lock().await;
            let own =
                inner.followed.values().filter(|it| it.reads_own(request) && !request.is_fork);
            own.map(|it| (it.settings.clone(), it.at.clone())).collect()
        };
        for (settings, at) in own {
            let Some(commit) = request.head.commit.clone() else { continue };
            let branch = request.head.branch.as_ref();
            let reference = branch.map_or(settings.reference(), |it| format!("refs/heads/{it}"));
            let files = self.files(&settings, &at, commit.clone(), reference).await?;
            let is_here = |pipeline: &&Pipeline| {
                pipeline.origin.as_ref().is_some_and(|origin| {
                    origin.source == settings.source
                        && origin.repository == settings.repository
                        && origin.branch == settings.branch
                })
            };
            let others = pipelines.iter().filter(|pipeline| !is_here(pipeline)).cloned();
            let others = Pipelines::new(others).map_err(|error| error.to_string())?;
            let against = Against {
                settings: &settings,
                catalog: &self.tools.catalog,
                projects: &live.projects,
                others: &others,
            };
            // Nothing stands in for a file that is bad: its author is waiting to hear of it.
            let taken = against.take(&commit, files, &Kept::default());
            for finding in taken.kept.refused.values().flatten() {
                let number = request.number;
                tracing::warn!("{}: pull request {number}: {finding}", settings.repository);
            }
            self.report(&settings, &commit, &taken.kept.refused).await;
            let mut all = others;
            for pipeline in taken.pipelines {
                all.add(pipeline).map_err(|error| error.to_string())?;
            }
            pipelines = Arc::new(all);
        }
        Ok(pipelines)
    }
}

impl Followed {
    /// Whether the pipelines of this pull request run from its own files, unless it is a fork.
    fn reads_own(&self, request: &PullRequest) -> bool {
        use fairlead_event::PullRequestAction::{Closed, Edited, Merged, Opened, Updated};
        let is_open = match request.action {
            Opened | Updated | Edited => true,
            // What was merged is the branch's own by now.
            Merged | Closed => false,
        };
        is_open
            && self.settings.pull_requests == PullRequestFiles::Own
            && self.at.clone_url.is_some()
            && self.at.clone_url == request.repository.clone_url
            && self.settings.branch == request.base_branch
    }
}

impl Inner {
    fn of(setup: Setup, mut followed: BTreeMap<String, Followed>) -> Result<Self, Vec<String>> {
        let Setup { pipelines: files, repositories, sources, projects, rules, destinations } =
            setup;
        let mut problems = Vec::new();
        for settings in repositories {
            let at = match settings.check(&sources, &projects) {
                Ok(at) => at,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            let key = settings.key();
            let new = Followed {
                settings,
                at,
                taken: Taken::default(),
                checked_at: None,
                problem: None,
                fetching: Arc::default(),
            };
            if followed.insert(key.clone(), new).is_some() {
                problems.push(format!("`{key}` is followed twice"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (sources, projects) = (Arc::new(sources), Arc::new(projects));
        let destinations = Arc::new(destinations);
        Ok(Self { files, sources, projects, rules, destinations, followed })
    }

    /// The pipelines of everywhere but one repository.
    fn others(&self, key: &str) -> Pipelines {
        let mut others = self.files.clone();
        let rest = self.followed.iter().filter(|(other, _)| *other != key);
        for pipeline in rest.flat_map(|(_, followed)| &followed.taken.pipelines) {
            // Each was compared with the others when it was taken.
            if let Err(error) = others.add(pipeline.clone()) {
                tracing::error!("{error}");
            }
        }
        others
    }

    /// Takes what a commit of a repository has, and answers what is to be kept; none when the repository is
    /// not followed any more.
    fn take(
        &mut self,
        key: &str,
        commit: &ObjectId,
        files: PipelineFiles,
        catalog: &Catalog,
    ) -> Option<&Kept> {
        let (others, projects) = (self.others(key), Arc::clone(&self.projects));
        let followed = self.followed.get_mut(key)?;
        let against =
            Against { settings: &followed.settings, catalog, projects: &projects, others: &others };
        let taken = against.take(commit, files, &followed.taken.kept);
        followed.taken = taken;
        let followed = self.followed.get(key)?;
        self.tell(followed);
        Some(&followed.taken.kept)
    }

    /// Takes what was kept of a repository.
    fn adopt(&mut self, key: &str, kept: &Kept, catalog: &Catalog) {
        let (others, projects) = (self.others(key), Arc::clone(&self.projects));
        let Some(followed) = self.followed.get_mut(key) else { return };
        let against =
            Against { settings: &followed.settings, catalog, projects: &projects, others: &others };
        followed.taken = against.take_kept(kept);
        if let Some(followed) = self.followed.get(key) {
            self.tell(followed);
        }
    }

    /// Tells the log what a repository has.
    fn tell(&self, followed: &Followed) {
        let Taken { kept, pipelines, warnings } = &followed.taken;
        let at = format!("{}@{}", followed.settings.repository, followed.settings.branch);
        let commit = kept.commit.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!("{at} is at {commit}, with {} pipelines", pipelines.len());
        for (path, findings) in &kept.refused {
            let stays =
                if kept.files.contains_key(path) { "; its last good one stays" } else { "" };
            tracing::error!("{at}: {path} is refused{stays}: {}", findings.join("; "));
        }
        for warning in warnings {
            tracing::warn!("{at}: {warning}");
        }
        for pipeline in pipelines {
            for refusal in self.rules.refusals(&pipeline.plan) {
                tracing::warn!("{at}: `{}`: {refusal}", pipeline.plan.name());
            }
        }
    }

    fn live(&self) -> Live {
        let pipelines = self.others("");
        let view = |followed: &Followed| {
            let (settings, taken) = (&followed.settings, &followed.taken);
            let names = taken.pipelines.iter().map(|it| it.plan.name().to_owned());
            let refused = taken.kept.refused.iter().map(|(path, findings)| {
                let in_use = taken.kept.files.get(path).map(|file| &file.commit);
                json!({ "path": path, "findings": findings, "in_use": in_use })
            });
            let names: Vec<String> = names.collect();
            let json = json!({
                "source": settings.source,
                "repository": settings.repository,
                "branch": settings.branch,
                "path": settings.folder(),
                "project": settings.project,
                "commit": taken.kept.commit,
                "pipelines": names,
                "refused": refused.collect::<Vec<_>>(),
                "warnings": taken.warnings,
                "checked_at": followed.checked_at,
                "problem": followed.problem,
            });
            RepositoryView { pipelines: names, json }
        };
        Live {
            sources: Arc::clone(&self.sources),
            projects: Arc::clone(&self.projects),
            pipelines: Arc::new(pipelines),
            destinations: Arc::clone(&self.destinations),
            repositories: self.followed.values().map(view).collect(),
        }
    }
}

/// A little more or less, so that servers and repositories do not all ask at one moment.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.9..1.1))
}
