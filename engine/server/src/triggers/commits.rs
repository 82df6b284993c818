//! What a forge says of a commit that an event speaks of. An event is a hint; the forge knows.

use std::collections::BTreeMap;

use fairlead_event::{
    Comment, ForgeRepository, GitPushed, GitRef, ObjectId, PullRequest, PullRequestAction,
    PullRequestHead, Release, ReleaseAction, Sender, SourceEvent,
};
use fairlead_step::StepError;

use super::confirm::Confirmation;
use crate::ports::{Forges, FoundRef};

/// What became of the commit of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing<T> {
    /// It is under its name; the commit is filled in as the forge has it.
    Holds(Box<T>),
    /// The name has something else by now, whose history does not lead to it.
    Overtaken,
    /// There is no such branch, tag or pull request.
    Gone,
}

impl<T> Standing<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Standing<U> {
        match self {
            Self::Holds(event) => Standing::Holds(Box::new(make(*event))),
            Self::Overtaken => Standing::Overtaken,
            Self::Gone => Standing::Gone,
        }
    }
}

/// Compares a push with what its forge has.
///
/// A commit of a branch must be its head, or in the history of that: pushes come in quick succession,
/// and each is an event of its own. A commit that was forced away is not what the branch holds any
/// more, and neither is one that only the store of the forge has: forks share it, so that anybody may
/// have put it there. A tag has no history: it points to what was pushed, or it was moved.
async fn look_up(forges: &dyn Forges, push: &GitPushed) -> Result<Standing<GitPushed>, StepError> {
    let Some(after) = &push.after else { return Ok(Standing::Gone) };
    let Some(found) = forges.find(push).await? else { return Ok(Standing::Gone) };
    let is_there = *after == found.object || *after == found.commit;
    match &push.reference {
        GitRef::Tag(_) if is_there => {
            let pushed = GitPushed { commit: Some(found.commit), ..push.clone() };
            Ok(Standing::Holds(Box::new(pushed)))
        }
        GitRef::Tag(_) => Ok(Standing::Overtaken),
        GitRef::Branch(_) => {
            let pushed = GitPushed { commit: Some(after.clone()), ..push.clone() };
            let holds = is_there || forges.contains(&pushed).await?;
            Ok(if holds { Standing::Holds(Box::new(pushed)) } else { Standing::Overtaken })
        }
    }
}

/// Compares a pull request with what its forge has: its head under the name that the forge shows it
/// under, its base, and whether a branch of the repository itself has the head. Only that is no fork,
/// whatever the message says: who may push there is a member.
async fn pull_request(
    forges: &dyn Forges,
    sender: &Sender,
    request: &PullRequest,
) -> Result<Standing<PullRequest>, StepError> {
    let base = format!("refs/heads/{}", request.base_branch);
    let at = &request.repository;
    let asked =
        Asked { at, number: request.number, head: &request.head, besides: vec![base.clone()] };
    let Some((commit, found)) = head(forges, sender, asked).await? else {
        return Ok(Standing::Gone);
    };
    let base_commit = found.get(&base).map(|found| found.commit.clone());
    if base_commit.is_none() && request.action != PullRequestAction::Closed {
        return Ok(Standing::Gone);
    }
    if !request.head.may_be(&commit) {
        return Ok(Standing::Overtaken);
    }
    let mut request = PullRequest {
        is_fork: !is_own(&found, &request.head, &commit),
        base_commit: base_commit.clone().or_else(|| request.base_commit.clone()),
        head: PullRequestHead { commit: Some(commit), ..request.head.clone() },
        ..request.clone()
    };
    if let Some(merged) = request.merge_commit.clone() {
        let holds =
            base_commit.as_ref() == Some(&merged) || forges.contains(&request.as_push()).await?;
        if !holds {
            return Ok(Standing::Overtaken);
        }
        // The branch is often gone by then, and what is worked on is the base's own.
        request.is_fork =
            request.head.repository.as_deref() != Some(request.repository.name.as_str());
    }
    Ok(Standing::Holds(Box::new(request)))
}

/// Finds the head of the pull request that a comment is on. What the comment's sender says of it, where
/// it does, must be so: what was pushed since then nobody has looked at.
async fn comment(
    forges: &dyn Forges,
    sender: &Sender,
    comment: &Comment,
) -> Result<Standing<Comment>, StepError> {
    // Of which branch it is may not be told: then it is looked for among all of them.
    let besides = match &comment.head.branch {
        Some(_) => Vec::new(),
        None => vec!["refs/heads/*".to_owned()],
    };
    let at = &comment.repository;
    let asked = Asked { at, number: comment.number, head: &comment.head, besides };
    let Some((commit, found)) = head(forges, sender, asked).await? else {
        return Ok(Standing::Gone);
    };
    if !comment.head.may_be(&commit) {
        return Ok(Standing::Overtaken);
    }
    Ok(Standing::Holds(Box::new(Comment {
        is_fork: !is_own(&found, &comment.head, &commit),
        head: PullRequestHead { commit: Some(commit), ..comment.head.clone() },
        ..comment.clone()
    })))
}

/// The release with the commit of its tag. A draft may have no tag yet, and what is deleted none any more.
async fn release(forges: &dyn Forges, release: &Release) -> Result<Standing<Release>, StepError> {
    if release.draft || release.action == ReleaseAction::Deleted {
        return Ok(Standing::Holds(Box::new(release.clone())));
    }
    let name = format!("refs/tags/{}", release.tag);
    let found = forges.find_all(&release.repository, std::slice::from_ref(&name)).await?;
    Ok(match found.get(&name) {
        Some(found) => Standing::Holds(Box::new(Release {
            commit: Some(found.commit.clone()),
            ..release.clone()
        })),
        None => Standing::Gone,
    })
}

/// What is asked of a pull request.
struct Asked<'a> {
    at: &'a ForgeRepository,
    number: u64,
    head: &'a PullRequestHead,
    /// What else is to be found.
    besides: Vec<String>,
}

/// The head of a pull request as its forge has it, and what else was asked for; none when the forge does
/// not show it. Where a kind of forge shows no heads, that is the branch which the message names, in the
/// repository that it names, at the forge of the source.
async fn head(
    forges: &dyn Forges,
    sender: &Sender,
    asked: Asked<'_>,
) -> Result<Option<(ObjectId, BTreeMap<String, FoundRef>)>, StepError> {
    let Asked { at, number, head, besides } = asked;
    let shown = sender.kind().pull_request_refs(number);
    let branch = head.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
    let patterns: Vec<String> =
        shown.iter().cloned().chain(branch.clone()).chain(besides).collect();
    let found = forges.find_all(at, &patterns).await?;
    let commit = if !shown.is_empty() {
        shown.iter().find_map(|name| found.get(name)).map(|found| found.commit.clone())
    } else {
        match (&head.repository, branch) {
            (Some(name), Some(branch)) if *name == at.name => {
                found.get(&branch).map(|found| found.commit.clone())
            }
            (Some(name), Some(branch)) => {
                let fork = ForgeRepository { name: name.clone(), clone_url: None, ssh_url: None };
                let Ok(fork) = sender.repository(fork) else { return Ok(None) };
                let elsewhere = forges.find_all(&fork, std::slice::from_ref(&branch)).await?;
                elsewhere.get(&branch).map(|found| found.commit.clone())
            }
            (None, _) | (_, None) => None,
        }
    };
    Ok(commit.map(|commit| (commit, found)))
}

/// Whether a branch of the repository itself has this commit: the one that is named, else any.
fn is_own(found: &BTreeMap<String, FoundRef>, head: &PullRequestHead, commit: &ObjectId) -> bool {
    let named = head.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
    found.iter().any(|(name, at)| {
        name.starts_with("refs/heads/")
            && named.as_ref().is_none_or(|named| named == name)
            && at.commit == *commit
    })
}

/// What became of the commit of an event that speaks of a repository at a forge.
async fn standing(
    forges: &dyn Forges,
    sender: &Sender,
    event: &SourceEvent,
) -> Result<Standing<SourceEvent>, StepError> {
    Ok(match event {
        SourceEvent::GitPushed(push) => look_up(forges, push).await?.map(SourceEvent::GitPushed),
        SourceEvent::PullRequest(request) => {
            pull_request(forges, sender, request).await?.map(SourceEvent::PullRequest)
        }
        SourceEvent::Comment(told) => {
            comment(forges, sender, told).await?.map(SourceEvent::Comment)
        }
        SourceEvent::Release(told) => release(forges, told).await?.map(SourceEvent::Release),
        // None of these speaks of a forge.
        SourceEvent::ImagePushed(_)
        | SourceEvent::Requested(_)
        | SourceEvent::ImageDeleted(_)
        | SourceEvent::ImageScanned(_)
        | SourceEvent::Scheduled(_)
        | SourceEvent::RunFinished(_)
        | SourceEvent::Custom(_) => Standing::Holds(Box::new(event.clone())),
    })
}

/// The event as its forge confirms it, with the commit; none when it does not. Where the source names no
/// forge there is nobody to ask: the event then has no address either, and its run no commit.
///
/// # Errors
/// What was away, or does not show the commit yet although the event is `young`.
pub(super) async fn confirmed(
    by: &Confirmation,
    key: &str,
    source: &str,
    event: SourceEvent,
    young: bool,
) -> Result<Option<SourceEvent>, String> {
    let subject = event.subject();
    let sources = by.sources.get();
    let Some(source) = sources.get(source) else {
        tracing::warn!(event = key, "ignored: there is no source `{source}` any more");
        return Ok(None);
    };
    // What was stored under other settings is not believed either.
    let event = match source.sender.located(event) {
        Ok(event) => event,
        Err(why) => {
            tracing::warn!(event = key, "ignored: {why}");
            return Ok(None);
        }
    };
    if source.sender.forge().is_none() {
        // Nobody can say whether it is a fork, and its sender is not believed about that.
        return Ok(Some(match event {
            SourceEvent::PullRequest(request) => {
                SourceEvent::PullRequest(PullRequest { is_fork: true, ..request })
            }
            SourceEvent::Comment(told) => SourceEvent::Comment(Comment { is_fork: true, ..told }),
            other @ (SourceEvent::GitPushed(_)
            | SourceEvent::Release(_)
            | SourceEvent::ImagePushed(_)
            | SourceEvent::Requested(_)
            | SourceEvent::ImageDeleted(_)
            | SourceEvent::ImageScanned(_)
            | SourceEvent::Scheduled(_)
            | SourceEvent::RunFinished(_)
            | SourceEvent::Custom(_)) => other,
        }));
    }
    let question = standing(&*by.forges, &source.sender, &event);
    match tokio::time::timeout(by.forge, question).await {
        Err(_) => Err(format!("the forge of {subject} did not answer in time")),
        Ok(Err(error)) => Err(format!("cannot look {subject} up: {}", error.chain())),
        Ok(Ok(Standing::Holds(event))) => Ok(Some(*event)),
        Ok(Ok(Standing::Gone | Standing::Overtaken)) if young => {
            Err(format!("the forge does not show {subject} yet"))
        }
        Ok(Ok(Standing::Gone)) => {
            tracing::warn!(event = key, "ignored: {subject} is not at its forge any more");
            Ok(None)
        }
        Ok(Ok(Standing::Overtaken)) => {
            let commit = event.as_push().and_then(|push| push.after);
            let commit = commit.map(|commit| commit.to_string()).unwrap_or_default();
            tracing::warn!(event = key, "ignored: {subject} does not hold {commit} any more");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fairlead_event::{
        Association, ChangedPaths, CommentCommand, Forge as ForgeAddress, SenderKind,
    };
    use fairlead_step::BoxFuture;

    use super::*;
    use crate::ports::{FilesAt, PipelineFiles};

    /// A forge with one name, and a history behind it.
    struct Forge {
        found: Option<FoundRef>,
        history: Vec<ObjectId>,
    }

    impl Forges for Forge {
        fn find<'a>(
            &'a self,
            _: &'a GitPushed,
        ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>> {
            Box::pin(async move { Ok(self.found.clone()) })
        }

        fn find_all<'a>(
            &'a self,
            _: &'a ForgeRepository,
            _: &'a [String],
        ) -> BoxFuture<'a, Result<BTreeMap<String, FoundRef>, StepError>> {
            Box::pin(async move { Ok(BTreeMap::new()) })
        }

        fn files<'a>(&'a self, _: &'a FilesAt) -> BoxFuture<'a, Result<PipelineFiles, StepError>> {
            Box::pin(async move { Ok(BTreeMap::new()) })
        }

        fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>> {
            Box::pin(async move { Ok(push.commit.iter().any(|it| self.history.contains(it))) })
        }
    }

    fn id(letter: &str) -> ObjectId {
        letter.repeat(40).parse().unwrap()
    }

    #[tokio::test]
    async fn a_commit_must_be_what_its_name_holds() {
        let push = |reference: &str, after: &str, commit: Option<&str>| GitPushed {
            repository: "acme/shop".into(),
            clone_url: None,
            ssh_url: None,
            reference: reference.parse().unwrap(),
            before: None,
            after: Some(id(after)),
            commit: commit.map(id),
            forced: false,
            paths: ChangedPaths::Unknown,
            actor: None,
        };
        let found =
            |object: &str, commit: &str| Some(FoundRef { object: id(object), commit: id(commit) });
        let (branch, tag) = ("refs/heads/main", "refs/tags/v1");
        // What the name holds, what is pushed, what the message calls the commit; the commit wanted.
        for (reference, found, after, commit, want) in [
            (branch, found("a", "a"), "a", None, Some("a")),
            (branch, found("a", "a"), "a", Some("c"), Some("a")),
            (branch, found("a", "a"), "b", None, Some("b")),
            (branch, found("a", "a"), "c", None, None),
            (branch, None, "a", None, None),
            // An annotated tag, by its object and by its commit; what the message says is not asked.
            (tag, found("d", "a"), "d", None, Some("a")),
            (tag, found("d", "a"), "d", Some("c"), Some("a")),
            (tag, found("d", "a"), "a", None, Some("a")),
            (tag, found("a", "a"), "a", None, Some("a")),
            // That it is in some history is nothing to a tag.
            (tag, found("a", "a"), "b", Some("a"), None),
            (tag, None, "a", None, None),
        ] {
            let forge = Forge { found, history: vec![id("a"), id("b")] };
            let push = push(reference, after, commit);
            let got = look_up(&forge, &push).await.unwrap();
            let commit = match &got {
                Standing::Holds(push) => push.commit.clone(),
                Standing::Overtaken | Standing::Gone => None,
            };
            assert_eq!(commit, want.map(id), "{reference} {after}: {got:?}");
        }
    }

    /// A forge with repositories and their references, that writes down which addresses it was asked.
    #[derive(Default)]
    struct Refs {
        refs: BTreeMap<(String, String), FoundRef>,
        history: BTreeSet<ObjectId>,
        asked: std::sync::Mutex<BTreeSet<String>>,
    }

    impl Refs {
        fn of(refs: &[(&str, &str, &str)]) -> Self {
            let each = refs.iter().map(|(repository, name, object)| {
                let found = FoundRef { object: id(object), commit: id(object) };
                ((format!("{BASE}/{repository}.git"), (*name).to_owned()), found)
            });
            Self { refs: each.collect(), ..Self::default() }
        }
    }

    impl Forges for Refs {
        fn find<'a>(
            &'a self,
            _: &'a GitPushed,
        ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>> {
            Box::pin(async move { Ok(None) })
        }

        fn find_all<'a>(
            &'a self,
            repository: &'a ForgeRepository,
            patterns: &'a [String],
        ) -> BoxFuture<'a, Result<BTreeMap<String, FoundRef>, StepError>> {
            Box::pin(async move {
                let address = repository.clone_url.clone().unwrap_or_default();
                self.asked.lock().unwrap().insert(address.clone());
                let fits = |name: &str| {
                    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                        Some(start) => name.starts_with(start),
                        None => pattern == name,
                    })
                };
                let found = self.refs.iter().filter(|((at, name), _)| *at == address && fits(name));
                Ok(found.map(|((_, name), found)| (name.clone(), found.clone())).collect())
            })
        }

        fn files<'a>(&'a self, _: &'a FilesAt) -> BoxFuture<'a, Result<PipelineFiles, StepError>> {
            Box::pin(async move { Ok(BTreeMap::new()) })
        }

        fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>> {
            Box::pin(async move { Ok(push.commit.iter().any(|it| self.history.contains(it))) })
        }
    }

    const BASE: &str = "https://git.example.com";

    fn sender(kind: SenderKind) -> Sender {
        Sender::new(kind, None, None, Some(ForgeAddress::new(BASE, None).unwrap())).unwrap()
    }

    fn request(kind: SenderKind, change: impl FnOnce(&mut PullRequest)) -> PullRequest {
        let repository =
            ForgeRepository { name: "acme/shop".into(), clone_url: None, ssh_url: None };
        let mut request = PullRequest {
            repository: sender(kind).repository(repository).unwrap(),
            number: 7,
            action: PullRequestAction::Opened,
            title: None,
            head: PullRequestHead {
                repository: Some("acme/shop".into()),
                branch: Some("topic".into()),
                commit: Some(id("a")),
                abbreviated: None,
            },
            base_branch: "main".into(),
            base_commit: None,
            merge_commit: None,
            is_fork: false,
            draft: false,
            labels: BTreeSet::new(),
            author: None,
            actor: None,
            at: None,
        };
        change(&mut request);
        request
    }

    #[tokio::test]
    async fn a_pull_request_is_what_its_forge_shows() {
        let (shop, pull, topic, main) =
            ("acme/shop", "refs/pull/7/head", "refs/heads/topic", "refs/heads/main");
        let base = (shop, main, "b");
        type Case<'a> =
            (&'a [(&'a str, &'a str, &'a str)], fn(&mut PullRequest), Option<(&'a str, bool)>);
        let same: fn(&mut PullRequest) = |_| ();
        // What the forge has, what is told; the head and whether it is a fork, as confirmed.
        let cases: &[Case<'_>] = &[
            (&[base, (shop, pull, "a"), (shop, topic, "a")], same, Some(("a", false))),
            // Its word that it comes from the repository itself is not enough.
            (&[base, (shop, pull, "a")], same, Some(("a", true))),
            (&[base, (shop, pull, "a"), (shop, topic, "c")], same, Some(("a", true))),
            // Pushed to since then, not there, without a base.
            (&[base, (shop, pull, "c"), (shop, topic, "c")], same, None),
            (&[base, (shop, topic, "a")], same, None),
            (&[(shop, pull, "a"), (shop, topic, "a")], same, None),
            // What the sender does not say is what the forge has.
            (&[base, (shop, pull, "c")], |it| it.head.commit = None, Some(("c", true))),
            // Of one that is closed the base may be gone.
            (&[(shop, pull, "a")], |it| it.action = PullRequestAction::Closed, Some(("a", true))),
            // Merged: the commit must be what the base has, or had.
            (
                &[base, (shop, pull, "a")],
                |it| {
                    it.action = PullRequestAction::Merged;
                    it.merge_commit = Some(id("b"));
                },
                Some(("a", false)),
            ),
            (
                &[base, (shop, pull, "a")],
                |it| {
                    it.action = PullRequestAction::Merged;
                    it.merge_commit = Some(id("d"));
                },
                Some(("a", false)),
            ),
            (
                &[base, (shop, pull, "a")],
                |it| {
                    it.action = PullRequestAction::Merged;
                    it.merge_commit = Some(id("e"));
                },
                None,
            ),
        ];
        for (index, (refs, change, want)) in cases.iter().enumerate() {
            let forge = Refs { history: [id("d")].into(), ..Refs::of(refs) };
            let kind = SenderKind::Gitea;
            let told = request(kind, *change);
            let got = pull_request(&forge, &sender(kind), &told).await.unwrap();
            let got = match got {
                Standing::Holds(it) => it.head.commit.clone().map(|commit| (commit, it.is_fork)),
                Standing::Overtaken | Standing::Gone => None,
            };
            assert_eq!(got, want.map(|(commit, fork)| (id(commit), fork)), "case {index}");
            let asked = forge.asked.into_inner().unwrap();
            assert_eq!(asked, [format!("{BASE}/acme/shop.git")].into(), "case {index}");
        }
    }

    #[tokio::test]
    async fn each_kind_of_forge_shows_heads_under_names_of_its_own() {
        for (kind, name, address) in [
            (SenderKind::GitHub, "refs/pull/7/head", "acme/shop"),
            (SenderKind::GitLab, "refs/merge-requests/7/head", "acme/shop"),
            (SenderKind::BitbucketDataCenter, "refs/pull-requests/7/from", "scm/acme/shop"),
        ] {
            let forge = Refs::of(&[(address, name, "a"), (address, "refs/heads/main", "b")]);
            let got = pull_request(&forge, &sender(kind), &request(kind, |_| ())).await.unwrap();
            assert!(matches!(got, Standing::Holds(_)), "{kind}: {got:?}");
        }
    }

    #[tokio::test]
    async fn where_no_heads_are_shown_the_branch_is_asked_at_the_same_forge() {
        let kind = SenderKind::Bitbucket;
        let fork = |it: &mut PullRequest| {
            it.head.repository = Some("mallory/shop".into());
            it.head.commit = None;
            it.head.abbreviated = Some("aaaaaaaaaaaa".into());
        };
        let forge = Refs::of(&[
            ("acme/shop", "refs/heads/main", "b"),
            ("mallory/shop", "refs/heads/topic", "a"),
        ]);
        let got = pull_request(&forge, &sender(kind), &request(kind, fork)).await.unwrap();
        let Standing::Holds(got) = got else { panic!("{got:?}") };
        assert_eq!((got.head.commit.clone(), got.is_fork), (Some(id("a")), true));
        // A name that is none asks nobody.
        for name in ["https://elsewhere.example.com/x", "../x", "-x/y z"] {
            let forge = Refs::of(&[("acme/shop", "refs/heads/main", "b")]);
            let told = request(kind, |it| it.head.repository = Some(name.into()));
            let got = pull_request(&forge, &sender(kind), &told).await.unwrap();
            assert_eq!(got, Standing::Gone, "{name}");
            assert_eq!(forge.asked.into_inner().unwrap().len(), 1, "{name}");
        }
    }

    #[tokio::test]
    async fn a_comment_has_the_head_that_was_commented_on() {
        let told = |commit: Option<&str>, branch: Option<&str>| Comment {
            repository: request(SenderKind::GitHub, |_| ()).repository,
            number: 7,
            id: "1".into(),
            command: CommentCommand::in_comment("/fairlead run x").unwrap().unwrap(),
            author: None,
            association: Association::Unknown,
            head: PullRequestHead {
                repository: None,
                branch: branch.map(str::to_owned),
                commit: commit.map(id),
                abbreviated: None,
            },
            is_fork: true,
        };
        let (shop, pull) = ("acme/shop", "refs/pull/7/head");
        for (refs, told, want) in [
            (&[(shop, pull, "a")][..], told(None, None), Some(("a", true))),
            (
                &[(shop, pull, "a"), (shop, "refs/heads/any", "a")],
                told(None, None),
                Some(("a", false)),
            ),
            (
                &[(shop, pull, "a"), (shop, "refs/heads/any", "a")],
                told(None, Some("topic")),
                Some(("a", true)),
            ),
            // Pushed to after the comment was written.
            (&[(shop, pull, "c")], told(Some("a"), None), None),
            (&[], told(None, None), None),
        ] {
            let forge = Refs::of(refs);
            let got = comment(&forge, &sender(SenderKind::GitHub), &told).await.unwrap();
            let got = match got {
                Standing::Holds(it) => it.head.commit.clone().map(|commit| (commit, it.is_fork)),
                Standing::Overtaken | Standing::Gone => None,
            };
            assert_eq!(got, want.map(|(commit, fork)| (id(commit), fork)), "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_release_has_the_commit_of_its_tag() {
        let told = |action, draft| Release {
            repository: request(SenderKind::GitHub, |_| ()).repository,
            action,
            tag: "v1".into(),
            name: None,
            draft,
            prerelease: false,
            commit: None,
            actor: None,
            at: None,
        };
        let there = Refs::of(&[("acme/shop", "refs/tags/v1", "a")]);
        let nothing = Refs::default();
        for (forge, told, want) in [
            (&there, told(ReleaseAction::Published, false), Some(Some(id("a")))),
            (&nothing, told(ReleaseAction::Published, false), None),
            (&nothing, told(ReleaseAction::Published, true), Some(None)),
            (&nothing, told(ReleaseAction::Deleted, false), Some(None)),
        ] {
            let got = match release(forge, &told).await.unwrap() {
                Standing::Holds(release) => Some(release.commit),
                Standing::Overtaken | Standing::Gone => None,
            };
            assert_eq!(got, want, "{told:?}");
        }
    }
}
