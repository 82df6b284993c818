//! Which commit a local workspace says it has checked out. It is read from git's own files, and it is a
//! claim: nobody looked whether the files beside it are that commit's.

use std::path::{Path, PathBuf};

use fairlead_step::ObjectId;

/// The largest of git's small files that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The commit, where `workspace` or a folder above it is a checkout.
pub(crate) fn commit(workspace: &Path) -> Option<String> {
    let workspace = workspace.canonicalize().ok()?;
    let git = workspace.ancestors().find_map(git_folder)?;
    let head = text(&git.join("HEAD"))?;
    let Some(name) = head.trim().strip_prefix("ref: ") else { return object(&head) };
    if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return None;
    }
    // A worktree keeps its HEAD to itself, and its branches with the others.
    let common = text(&git.join("commondir")).map(|common| git.join(common.trim()));
    let common = common.unwrap_or(git);
    if let Some(loose) = text(&common.join(name)) {
        return object(&loose);
    }
    let packed = text(&common.join("packed-refs"))?;
    let line = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, of)| *of == name));
    object(line?.0)
}

fn git_folder(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let link = text(&git)?;
    let target = link.trim().strip_prefix("gitdir: ")?;
    Some(folder.join(target))
}

fn object(text: &str) -> Option<String> {
    text.trim().parse::<ObjectId>().ok().map(|id| id.to_string())
}

fn text(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    (metadata.is_file() && metadata.len() <= MAX_FILE)
        .then(|| std::fs::read_to_string(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn the_commit_is_found_loose_packed_and_detached() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(commit(root), None);
        std::fs::create_dir_all(root.join(".git/refs/heads")).unwrap();
        std::fs::create_dir_all(root.join("deep/below")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
        write(".git/HEAD", "ref: refs/heads/main\n");
        assert_eq!(commit(root), None);
        write(".git/packed-refs", &format!("# pack-refs\n{COMMIT} refs/heads/main\n"));
        assert_eq!(commit(&root.join("deep/below")).as_deref(), Some(COMMIT));
        let other = COMMIT.replace('0', "f");
        write(".git/refs/heads/main", &format!("{other}\n"));
        assert_eq!(commit(root), Some(other));
        write(".git/HEAD", &format!("{COMMIT}\n"));
        assert_eq!(commit(root).as_deref(), Some(COMMIT));
        for bad in ["ref: ../../../etc/passwd", "ref: refs//x", "nothing", ""] {
            write(".git/HEAD", bad);
            assert_eq!(commit(root), None, "{bad}");
        }
    }
}
