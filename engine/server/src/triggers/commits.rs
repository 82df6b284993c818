//! What a forge says of a commit that a push speaks of. A push is a hint; the forge knows.

use fairlead_event::{GitPushed, GitRef, SourceEvent};
use fairlead_step::StepError;

use super::confirm::Confirmation;
use crate::ports::Workspaces;

/// What became of the commit of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It is under its name; the commit is filled in as the forge has it.
    Holds(Box<GitPushed>),
    /// The name has something else by now, whose history does not lead to it.
    Overtaken,
    /// There is no such branch or tag.
    Gone,
}

/// Compares a push with what its forge has.
///
/// A commit of a branch must be its head, or in the history of that: pushes come in quick succession,
/// and each is an event of its own. A commit that was forced away is not what the branch holds any
/// more, and neither is one that only the store of the forge has: forks share it, so that anybody may
/// have put it there. A tag has no history: it points to what was pushed, or it was moved.
async fn look_up(workspaces: &dyn Workspaces, push: &GitPushed) -> Result<Standing, StepError> {
    let Some(after) = &push.after else { return Ok(Standing::Gone) };
    let Some(found) = workspaces.find(push).await? else { return Ok(Standing::Gone) };
    let is_there = *after == found.object || *after == found.commit;
    match &push.reference {
        GitRef::Tag(_) if is_there => {
            let pushed = GitPushed { commit: Some(found.commit), ..push.clone() };
            Ok(Standing::Holds(Box::new(pushed)))
        }
        GitRef::Tag(_) => Ok(Standing::Overtaken),
        GitRef::Branch(_) => {
            let pushed = GitPushed { commit: Some(after.clone()), ..push.clone() };
            let holds = is_there || workspaces.contains(&pushed).await?;
            Ok(if holds { Standing::Holds(Box::new(pushed)) } else { Standing::Overtaken })
        }
    }
}

/// The push as its forge confirms it, with the commit; none when it does not. Where the source names no
/// forge there is nobody to ask: the push then has no address either, and its run no checkout.
///
/// # Errors
/// What was away, or does not show the push yet although it is `young`.
pub(super) async fn confirmed(
    by: &Confirmation,
    key: &str,
    source: &str,
    push: GitPushed,
    young: bool,
) -> Result<Option<GitPushed>, String> {
    let subject = SourceEvent::GitPushed(push.clone()).subject();
    let Some(source) = by.sources.get(source) else {
        tracing::warn!(event = key, "ignored: there is no source `{source}` any more");
        return Ok(None);
    };
    // What was stored under other settings is not believed either.
    let push = match source.sender.locate(push) {
        Ok(push) => push,
        Err(why) => {
            tracing::warn!(event = key, "ignored: {why}");
            return Ok(None);
        }
    };
    if source.sender.forge().is_none() {
        return Ok(Some(push));
    }
    let question = look_up(&*by.workspaces, &push);
    match tokio::time::timeout(by.forge, question).await {
        Err(_) => Err(format!("the forge of {subject} did not answer in time")),
        Ok(Err(error)) => Err(format!("cannot look {subject} up: {}", error.chain())),
        Ok(Ok(Standing::Holds(push))) => Ok(Some(*push)),
        Ok(Ok(Standing::Gone | Standing::Overtaken)) if young => {
            Err(format!("the forge does not show {subject} yet"))
        }
        Ok(Ok(Standing::Gone)) => {
            tracing::warn!(event = key, "ignored: {subject} is not at its forge any more");
            Ok(None)
        }
        Ok(Ok(Standing::Overtaken)) => {
            let commit = push.after.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(event = key, "ignored: {subject} does not hold {commit} any more");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use fairlead_event::{ChangedPaths, ObjectId};
    use fairlead_step::BoxFuture;

    use super::*;
    use crate::ports::FoundRef;

    /// A forge with one name, and a history behind it.
    struct Forge {
        found: Option<FoundRef>,
        history: Vec<ObjectId>,
    }

    impl Workspaces for Forge {
        fn find<'a>(
            &'a self,
            _: &'a GitPushed,
        ) -> BoxFuture<'a, Result<Option<FoundRef>, StepError>> {
            Box::pin(async move { Ok(self.found.clone()) })
        }

        fn contains<'a>(&'a self, push: &'a GitPushed) -> BoxFuture<'a, Result<bool, StepError>> {
            Box::pin(async move { Ok(push.commit.iter().any(|it| self.history.contains(it))) })
        }

        fn checkout<'a>(
            &'a self,
            _: &'a GitPushed,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Option<PathBuf>, StepError>> {
            Box::pin(async move { Ok(None) })
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
}
