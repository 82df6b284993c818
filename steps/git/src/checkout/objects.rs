//! Files as git keeps them: read from the commit we stand on, and staged for the next one.
//!
//! The working copy does not come into it, so neither do line endings and encodings that
//! attributes ask for, filters, links, ignored files and flags of the index: what is staged is
//! what is committed, byte for byte.

use crate::error::from_stderr;
use crate::{Checkout, GitError};

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link; its bytes are where it leads.
    Link,
    /// A folder.
    Folder,
    /// A commit of another repository.
    Submodule,
}

/// An entry of the tree of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The name of its object.
    object: String,
    /// How many bytes it has; 0 for what is no file and no link.
    pub size: u64,
}

impl Checkout<'_> {
    /// What the commit we stand on has at `path`, below its root; `None` where it has nothing.
    ///
    /// # Errors
    /// When git fails, or answers what it never does.
    pub async fn entry(&self, path: &str) -> Result<Option<Entry>, GitError> {
        let args = ["ls-tree", "-z", "--long", "--full-tree", "HEAD", "--", path];
        let exit = self.git.run(&self.folder, &args, None).await?;
        if !exit.success() {
            return Err(from_stderr("ls-tree", self.remote.as_str(), &exit.stderr_tail));
        }
        let listed = String::from_utf8_lossy(&exit.stdout).into_owned();
        let Some((entry, _)) = listed.split_once('\t') else { return Ok(None) };
        let odd = || GitError::Failed { operation: "ls-tree", said: entry.to_owned() };
        let mut fields = entry.split_ascii_whitespace();
        let kind = match fields.next() {
            Some("100644" | "100664") => EntryKind::File,
            Some("100755") => EntryKind::Executable,
            Some("120000") => EntryKind::Link,
            Some("040000") => EntryKind::Folder,
            Some("160000") => EntryKind::Submodule,
            Some(_) | None => return Err(odd()),
        };
        let object = fields.nth(1).ok_or_else(odd)?.to_owned();
        let size = fields.next().and_then(|size| size.parse().ok()).unwrap_or(0);
        Ok(Some(Entry { kind, object, size }))
    }

    /// The bytes of a file or a link.
    ///
    /// # Errors
    /// When git fails.
    pub async fn read(&self, entry: &Entry) -> Result<Vec<u8>, GitError> {
        let args = ["cat-file", "blob", &entry.object];
        let exit = self.git.run(&self.folder, &args, None).await?;
        if !exit.success() {
            return Err(from_stderr("cat-file", self.remote.as_str(), &exit.stderr_tail));
        }
        Ok(exit.stdout.to_vec())
    }

    /// Stages `text` as the file at `path`, which was `entry` until now.
    ///
    /// # Errors
    /// When git fails.
    pub async fn stage(&self, path: &str, entry: &Entry, text: String) -> Result<(), GitError> {
        let args = ["hash-object", "-w", "--stdin"];
        let exit = self.git.run(&self.folder, &args, Some(text)).await?;
        if !exit.success() {
            return Err(from_stderr("hash-object", self.remote.as_str(), &exit.stderr_tail));
        }
        let object = String::from_utf8_lossy(&exit.stdout).trim().to_owned();
        let mode = if entry.kind == EntryKind::Executable { "100755" } else { "100644" };
        let line = format!("{mode} {object}\t{path}\0");
        let args = ["update-index", "-z", "--index-info"];
        let exit = self.git.run(&self.folder, &args, Some(line)).await?;
        if !exit.success() {
            return Err(from_stderr("update-index", self.remote.as_str(), &exit.stderr_tail));
        }
        Ok(())
    }

    /// How what is staged differs from the commit we stand on, as a unified diff; empty when it
    /// does not.
    ///
    /// # Errors
    /// When git fails.
    pub async fn diff(&self) -> Result<String, GitError> {
        let args = ["diff", "--cached", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD"];
        let exit = self.git.run(&self.folder, &args, None).await?;
        if !exit.success() {
            return Err(from_stderr("diff", self.remote.as_str(), &exit.stderr_tail));
        }
        Ok(String::from_utf8_lossy(&exit.stdout).into_owned())
    }
}
