//! A folder as an archive: what a client packs and sends along with a run, and what is unpacked where
//! the run's steps are made.
//!
//! The archive is a tar within zstd. The same files make the same bytes: names are in order, times and
//! owners are left out, and of the mode only whether a file may be executed is kept. What is read back
//! is believed in nothing: sizes and counts are bounded, names stay below the folder, and links, which
//! are made last so that nothing is written through one, lead nowhere outside of it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use fairlead_step::{Algorithm, ArtifactError, Artifacts, Digest, DigestHasher, StepError};
use futures::StreamExt as _;

/// The media type of an archive.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.fairlead.workspace.v1.tar+zstd";

/// The most bytes that the files of a workspace have together.
const MOST_BYTES: u64 = 4 << 30;

/// The most files, folders and links of a workspace.
const MOST_ENTRIES: u64 = 500_000;

/// The deepest folder.
const DEEPEST: usize = 128;

/// How hard the files are pressed: the usual, which is faster than most networks.
const LEVEL: i32 = 3;

/// The largest window that an archive may ask the reader to keep, as a power of two.
const WINDOW: u32 = 27;

/// What was packed or unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// Files, folders and links.
    pub(crate) entries: u64,
    /// The bytes of the files.
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > MOST_ENTRIES {
            return Err(ArchiveError::TooMany);
        }
        if self.bytes > MOST_BYTES {
            return Err(ArchiveError::TooLarge);
        }
        Ok(())
    }
}

/// Why a folder is not packed, or an archive not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("it has more than {} MiB", MOST_BYTES >> 20)]
    TooLarge,
    #[error("it has more than {MOST_ENTRIES} files")]
    TooMany,
    #[error("`{path}`: {problem}")]
    Entry { path: String, problem: String },
    #[error("it cannot be read: it is no archive of a workspace, or damaged")]
    Damaged(#[source] io::Error),
    #[error("cannot use {path}")]
    Io {
        path: String,
        #[source]
        source: io::Error,
    },
}

fn entry(path: &Path, problem: impl Into<String>) -> ArchiveError {
    let path: String = path.to_string_lossy().chars().take(300).collect();
    ArchiveError::Entry { path, problem: problem.into() }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.display().to_string();
    move |source| ArchiveError::Io { path, source }
}

/// A packed folder.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) digest: Digest,
    /// The bytes of the archive.
    pub(crate) size: u64,
    pub(crate) amount: Amount,
}

/// Packs `folder` into `file`, the folders `.git` left out unless they are asked for.
pub(crate) fn pack(folder: &Path, file: &Path, with_git: bool) -> Result<Packed, ArchiveError> {
    let made = File::create(file).map_err(io_at(file))?;
    let written = |source| ArchiveError::Io { path: file.display().to_string(), source };
    let hasher = DigestHasher::new(Algorithm::Sha256);
    let hashed = Hashed { out: BufWriter::new(made), hasher, size: 0 };
    let mut encoder = zstd::Encoder::new(hashed, LEVEL).map_err(written)?;
    encoder.include_checksum(true).map_err(written)?;
    let mut builder = tar::Builder::new(encoder);
    builder.mode(tar::HeaderMode::Deterministic);
    let mut packing = Packing { builder, root: folder, with_git, amount: Amount::default() };
    packing.folder(Path::new(""), 0)?;
    let amount = packing.amount;
    let encoder = packing.builder.into_inner().map_err(written)?;
    let mut hashed = encoder.finish().map_err(written)?;
    hashed.flush().map_err(written)?;
    Ok(Packed { digest: hashed.hasher.finish(), size: hashed.size, amount })
}

/// What is written is hashed on the way.
struct Hashed<W> {
    out: W,
    hasher: DigestHasher,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Packing<'a, W: Write> {
    builder: tar::Builder<W>,
    root: &'a Path,
    with_git: bool,
    amount: Amount,
}

impl<W: Write> Packing<'_, W> {
    /// Packs what is in a folder, which is named from the root.
    fn folder(&mut self, name: &Path, depth: usize) -> Result<(), ArchiveError> {
        if depth > DEEPEST {
            return Err(entry(name, format!("it is more than {DEEPEST} folders deep")));
        }
        let folder = self.root.join(name);
        let found = std::fs::read_dir(&folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
        });
        let mut names = found.map_err(io_at(&folder))?;
        names.sort();
        for file in names {
            if file == ".git" && !self.with_git {
                continue;
            }
            self.entry(&name.join(file), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &Path, depth: usize) -> Result<(), ArchiveError> {
        let path = self.root.join(name);
        if name.to_str().is_none() {
            return Err(entry(name, "its name is not UTF-8"));
        }
        let found = std::fs::symlink_metadata(&path).map_err(io_at(&path))?;
        let kind = found.file_type();
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        if kind.is_dir() {
            self.amount.add(0)?;
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            let written = self.builder.append_data(&mut header, name, io::empty());
            written.map_err(io_at(&path))?;
            return self.folder(name, depth + 1);
        }
        if kind.is_symlink() {
            self.amount.add(0)?;
            let target = std::fs::read_link(&path).map_err(io_at(&path))?;
            check_link(name, &target)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            return self.builder.append_link(&mut header, name, target).map_err(io_at(&path));
        }
        if !kind.is_file() {
            return Err(entry(name, "it is neither a file, a folder nor a link"));
        }
        let file = File::open(&path).map_err(io_at(&path))?;
        // Of what was opened: the name may be another's by now.
        let found = file.metadata().map_err(io_at(&path))?;
        if !found.is_file() {
            return Err(entry(name, "it is no file any more"));
        }
        self.amount.add(found.len())?;
        header.set_size(found.len());
        header.set_mode(if found.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 });
        let mut exact = Exact { file, left: found.len() };
        self.builder.append_data(&mut header, name, &mut exact).map_err(io_at(&path))
    }
}

/// So many bytes of a file: one that grows is cut, and one that shrinks is an error, for the archive has
/// told the size already.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::other("it became shorter while it was packed"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// A link may lead to whatever is below the root, and nowhere else.
fn check_link(name: &Path, target: &Path) -> Result<(), ArchiveError> {
    let refuse = || {
        let target: String = target.to_string_lossy().chars().take(300).collect();
        Err(entry(name, format!("it is a link to `{target}`, which is outside of the folder")))
    };
    let mut depth = name.components().count() - 1;
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return refuse(),
        }
    }
    if target.as_os_str().is_empty() { refuse() } else { Ok(()) }
}

/// Unpacks the archive in `file` into `folder`, which is there and empty.
pub(crate) fn unpack(file: &Path, folder: &Path) -> Result<Amount, ArchiveError> {
    let opened = File::open(file).map_err(io_at(file))?;
    let mut decoder =
        zstd::Decoder::with_buffer(BufReader::new(opened)).map_err(ArchiveError::Damaged)?;
    decoder.window_log_max(WINDOW).map_err(ArchiveError::Damaged)?;
    // Headers and names take space, too; what is behind the bound is not even decompressed.
    let bounded = decoder.take(MOST_BYTES + MOST_ENTRIES * 2048);
    let mut archive = tar::Archive::new(bounded);
    let mut amount = Amount::default();
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    for found in archive.entries().map_err(ArchiveError::Damaged)? {
        let mut found = found.map_err(ArchiveError::Damaged)?;
        let name = found.path().map_err(ArchiveError::Damaged)?.into_owned();
        check_name(&name)?;
        let path = folder.join(&name);
        let kind = found.header().entry_type();
        if kind.is_dir() {
            amount.add(0)?;
            std::fs::create_dir_all(&path).map_err(io_at(&path))?;
        } else if kind.is_file() {
            amount.add(found.size())?;
            let executable = found.header().mode().map_err(ArchiveError::Damaged)? & 0o111 != 0;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(io_at(parent))?;
            }
            let mode = if executable { 0o755 } else { 0o644 };
            let made = File::options().write(true).create_new(true).mode(mode).open(&path);
            let mut made = made.map_err(io_at(&path))?;
            let size = found.size();
            let count = io::copy(&mut found, &mut made).map_err(ArchiveError::Damaged)?;
            if count != size {
                let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(ArchiveError::Damaged(cut));
            }
        } else if kind.is_symlink() {
            amount.add(0)?;
            let target = found.link_name().map_err(ArchiveError::Damaged)?;
            let target = target.unwrap_or_default().into_owned();
            check_link(&name, &target)?;
            links.push((path, target));
        } else {
            return Err(entry(&name, "it is neither a file, a folder nor a link"));
        }
    }
    // Its checksum stands behind the last entry.
    let mut rest = archive.into_inner();
    let count = io::copy(&mut rest, &mut io::sink()).map_err(ArchiveError::Damaged)?;
    if amount.entries == 0 && count == 0 {
        return Err(ArchiveError::Damaged(io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
    for (path, target) in links {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io_at(parent))?;
        }
        std::os::unix::fs::symlink(&target, &path).map_err(io_at(&path))?;
    }
    Ok(amount)
}

fn check_name(name: &Path) -> Result<(), ArchiveError> {
    let mut depth = 0;
    for part in name.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(entry(name, "its name leads out of the folder"));
            }
        }
    }
    if depth == 0 || depth > DEEPEST + 1 {
        return Err(entry(name, "its name is none"));
    }
    Ok(())
}

/// Writes an artifact to a file, piece by piece, and checks it on the way.
pub(super) async fn download(
    artifacts: &dyn Artifacts,
    digest: &Digest,
    file: &Path,
) -> Result<(), StepError> {
    let failed = |error: ArtifactError| {
        let retryable = matches!(error, ArtifactError::Unavailable { .. });
        let text = format!("the archive {digest} cannot be read");
        let step = if retryable { StepError::retryable(text) } else { StepError::terminal(text) };
        step.because(error)
    };
    let io_failed = |error: io::Error| {
        StepError::retryable(format!("cannot write {}", file.display())).because(error)
    };
    let mut pieces = artifacts.read(digest).await.map_err(failed)?;
    let mut out = tokio::fs::File::create(file).await.map_err(io_failed)?;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(failed)?;
        tokio::io::AsyncWriteExt::write_all(&mut out, &piece).await.map_err(io_failed)?;
    }
    tokio::io::AsyncWriteExt::flush(&mut out).await.map_err(io_failed)
}

#[cfg(test)]
mod tests;
