//! A root file system, or a project, that lies in a folder: walked as if it were the archive of a
//! layer. Only what somebody wants to see of a file is read.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::tar::{Entries, Entry, EntryKind, TarError};

/// How many files that could not be opened are named.
const UNREADABLE: usize = 1000;

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// A walk over a folder.
pub(crate) struct Folder {
    root: PathBuf,
    /// File systems that are mounted below, such as `/proc`, are not entered.
    device: u64,
    /// What is to be seen still, the next one last, by its path below the root.
    todo: Vec<PathBuf>,
    path: Vec<u8>,
    link: Vec<u8>,
    at: PathBuf,
    file: Option<File>,
    /// What was read of the file and not taken yet.
    head: Vec<u8>,
    left: u64,
    /// Files that could not be opened, by their paths.
    unreadable: Vec<String>,
}

impl Folder {
    /// A walk over `root`.
    ///
    /// # Errors
    /// When it is no folder that can be read.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let device = fs::metadata(root)?.dev();
        let mut folder = Self {
            root: root.to_owned(),
            device,
            todo: Vec::new(),
            path: Vec::new(),
            link: Vec::new(),
            at: PathBuf::new(),
            file: None,
            head: Vec::new(),
            left: 0,
            unreadable: Vec::new(),
        };
        folder.enter(Path::new(""))?;
        Ok(folder)
    }

    /// Files and folders that could not be opened.
    pub(crate) fn into_unreadable(self) -> Vec<String> {
        self.unreadable
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            names.push(folder.join(entry?.file_name()));
        }
        // The same order on every machine.
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.todo.append(&mut names);
        Ok(())
    }

    fn cannot_read(&mut self, path: &Path) {
        if self.unreadable.len() < UNREADABLE {
            self.unreadable.push(path.to_string_lossy().into_owned());
        }
    }

    /// Opens the file at hand, once. One that cannot be opened has no bytes.
    fn open_file(&mut self) {
        if self.file.is_some() || self.left == 0 {
            return;
        }
        match File::open(self.root.join(&self.at)) {
            Ok(file) => self.file = Some(file),
            Err(_) => {
                self.left = 0;
                let at = self.at.clone();
                self.cannot_read(&at);
            }
        }
    }

    fn kind(found: &Metadata) -> EntryKind {
        let kind = found.file_type();
        if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_symlink() {
            EntryKind::SymLink
        } else if kind.is_file() {
            EntryKind::File
        } else {
            EntryKind::Special
        }
    }
}

impl Entries for Folder {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        (self.file, self.left) = (None, 0);
        self.head.clear();
        self.link.clear();
        loop {
            let Some(next) = self.todo.pop() else { return Ok(None) };
            let found = match fs::symlink_metadata(self.root.join(&next)) {
                Ok(found) => found,
                // It is gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let kind = Self::kind(&found);
            if kind == EntryKind::Directory
                && found.dev() == self.device
                && self.enter(&next).is_err()
            {
                self.cannot_read(&next);
            }
            if kind == EntryKind::SymLink {
                let target = fs::read_link(self.root.join(&next))?;
                self.link.extend_from_slice(target.as_os_str().as_bytes());
            }
            self.path.clear();
            self.path.extend_from_slice(next.as_os_str().as_bytes());
            self.left = if kind == EntryKind::File { found.len() } else { 0 };
            self.at = next;
            return Ok(Some(Entry { kind, size: self.left, mode: found.mode() & 0o7777 }));
        }
    }

    fn path(&self) -> &[u8] {
        &self.path
    }

    fn link(&self) -> &[u8] {
        &self.link
    }

    fn headers(&self) -> u64 {
        0
    }

    fn peek(&mut self, count: usize) -> Result<&[u8], TarError> {
        self.open_file();
        if let Some(file) = &mut self.file {
            let missing = count.saturating_sub(self.head.len());
            let missing = self.left.min(missing as u64);
            self.left -= file.take(missing).read_to_end(&mut self.head)? as u64;
        }
        Ok(&self.head[..count.min(self.head.len())])
    }

    fn each_piece(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), TarError> {
        self.open_file();
        take(&self.head);
        self.head.clear();
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let mut piece = vec![0; PIECE];
        // A file that grows meanwhile is read as far as it was.
        while self.left > 0 {
            let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
            let got = file.read(&mut piece[..most])?;
            if got == 0 {
                break;
            }
            take(&piece[..got]);
            self.left -= got as u64;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), TarError> {
        Ok(())
    }
}
