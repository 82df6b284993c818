//! The files of the repository: where a path really leads, and what is written there.

use std::collections::{BTreeMap, VecDeque};

use fairlead_git::{Checkout, Entry, EntryKind};
use fairlead_step::StepError;

use crate::edit::{Edit, apply};

/// The most bytes a file to edit may have.
const MAX_FILE: u64 = 4 << 20;

/// How many links are followed on the way to one file, as the kernel does.
const MAX_LINKS: usize = 40;

/// What came of the edits.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The files whose bytes changed.
    pub files: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A file that is edited.
struct Open {
    entry: Entry,
    before: String,
    text: String,
}

/// Makes every edit on what the commit that `checkout` stands on has, and stages what changed.
pub(crate) async fn edit_files(
    checkout: &Checkout<'_>,
    edits: &[Edit],
) -> Result<Changes, StepError> {
    let mut changes = Changes::default();
    // By where they really are: two paths may lead to one file.
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    for edit in edits {
        let (path, entry) = resolve(checkout, &edit.file).await?;
        let file = match open.entry(path) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let text = read(checkout, &edit.file, &entry).await?;
                vacant.insert(Open { entry, before: text.clone(), text })
            }
        };
        let edited =
            apply(&file.text, edit).map_err(|error| StepError::terminal(error.to_string()))?;
        file.text = edited.text;
        changes.notes.extend(edited.notes);
    }
    for (path, file) in open {
        if file.text != file.before {
            checkout.stage(&path, &file.entry, file.text).await?;
            changes.files.push(path);
        }
    }
    Ok(changes)
}

/// The parts of a path that stays below the root of the repository, and out of git's own folder.
pub(crate) fn inner_path(file: &str) -> Result<Vec<String>, &'static str> {
    let parts: Vec<String> =
        file.split('/').filter(|part| !matches!(*part, "" | ".")).map(ToOwned::to_owned).collect();
    let stays = parts.iter().all(|part| part != ".." && !is_git(part));
    if parts.is_empty() || !stays || file.starts_with('/') || file.contains('\0') {
        return Err("it must be a path below the root of the repository, without `..`");
    }
    Ok(parts)
}

fn is_git(part: &str) -> bool {
    part.eq_ignore_ascii_case(".git")
}

/// Where `file` really is, and what is there. Symbolic links are followed as far as they stay in
/// the repository.
async fn resolve(checkout: &Checkout<'_>, file: &str) -> Result<(String, Entry), StepError> {
    let parts = inner_path(file).map_err(StepError::terminal)?;
    let whole = parts.join("/");
    if let Some(entry) = checkout.entry(&whole).await?
        && matches!(entry.kind, EntryKind::File | EntryKind::Executable)
    {
        return Ok((whole, entry));
    }
    let fail =
        |why: String| StepError::terminal(format!("cannot read {file} in the repository: {why}"));
    let outside = |link: &str, target: &str| {
        fail(format!("the link `{link}` leads out of the repository, to `{target}`"))
    };
    let mut links = 0;
    let mut ahead: VecDeque<String> = parts.into();
    let mut done: Vec<String> = Vec::new();
    while let Some(part) = ahead.pop_front() {
        done.push(part);
        let here = done.join("/");
        let entry = checkout.entry(&here).await?.ok_or_else(|| {
            fail(format!("the branch has no `{here}`")).hint(
                "check the path against the branch; the step edits files, it does not make them",
            )
        })?;
        match entry.kind {
            EntryKind::Folder if ahead.is_empty() => {
                return Err(fail(format!("`{here}` is a folder")));
            }
            EntryKind::Folder => {}
            EntryKind::File | EntryKind::Executable if ahead.is_empty() => {
                return Ok((here, entry));
            }
            EntryKind::File | EntryKind::Executable => {
                return Err(fail(format!("`{here}` is a file, not a folder")));
            }
            EntryKind::Submodule => {
                return Err(fail(format!("`{here}` is a submodule"))
                    .hint("give the submodule's own repository, and the path in it"));
            }
            EntryKind::Link => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fail(format!("more than {MAX_LINKS} links follow one another")));
                }
                let target = String::from_utf8(checkout.read(&entry).await?)
                    .map_err(|_| fail(format!("the link `{here}` leads to what is no UTF-8")))?;
                if target.starts_with('/') || target.is_empty() {
                    return Err(outside(&here, &target));
                }
                done.pop();
                // The target's parts come before those that were still ahead.
                for part in target.split('/').rev().filter(|part| !matches!(*part, "" | ".")) {
                    ahead.push_front(part.to_owned());
                }
                if ahead.iter().any(|part| is_git(part)) {
                    return Err(fail(format!("the link `{here}` leads into git's own folder")));
                }
            }
        }
        // A `..` in the middle of a link's target counts from where its folders really are.
        while ahead.front().is_some_and(|part| part == "..") {
            ahead.pop_front();
            if done.pop().is_none() {
                return Err(fail("the links on the way lead out of the repository".into()));
            }
        }
    }
    Err(fail("it leads to a folder".into()))
}

async fn read(checkout: &Checkout<'_>, file: &str, entry: &Entry) -> Result<String, StepError> {
    if entry.size > MAX_FILE {
        return Err(StepError::terminal(format!("{file} is larger than {MAX_FILE} bytes")));
    }
    let bytes = checkout.read(entry).await?;
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(StepError::terminal(format!(
            "{file} is kept in Git LFS: the repository holds a pointer to it, which is not edited"
        ))
        .hint("keep files that are edited out of LFS, with `git lfs untrack`"));
    }
    String::from_utf8(bytes).map_err(|error| {
        StepError::terminal(format!("{file} is no UTF-8 text"))
            .because(error)
            .hint("it may be encrypted, or in another encoding; the step edits UTF-8")
    })
}
