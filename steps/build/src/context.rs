//! The build context: what of a folder is sent to the engine, and the stream of bytes that sends it.
//!
//! The same files give the same bytes, whoever checked them out and when: entries stand in order of
//! their names, belong to root, and bear one fixed time. Modes and symbolic links stay as they are;
//! a link is sent as a link and never followed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::ignore::{Decision, Ignore, MAX_BYTES};

/// The most files, folders and links of one context.
const MAX_ENTRIES: usize = 500_000;
/// The most bytes of one context.
const MAX_TOTAL: u64 = 32 << 30;
/// The deepest folder.
const MAX_DEPTH: usize = 256;
/// The time of every file: 1 January 1980, 12:00 UTC. Zip files, and so Python wheels and Java
/// archives that a build makes, cannot hold anything earlier.
const FIXED_TIME: u64 = 315_576_000;
/// The folder of the archive that is the context, where the Dockerfile is sent beside it.
const SUBFOLDER: &str = "context";
/// What the Dockerfile is called there.
const APART: &str = "Dockerfile";
/// How much is read, and sent, at once.
const CHUNK: usize = 256 << 10;
/// How many chunks may wait for the engine: enough to read ahead, and 2 MiB at most.
const CHUNKS_AHEAD: usize = 8;

/// A context that was looked through and can be sent, more than once.
#[derive(Debug)]
pub(crate) struct Context {
    root: PathBuf,
    entries: Vec<Entry>,
    bytes: u64,
    /// The Dockerfile, from the root.
    dockerfile: PathBuf,
    /// Whether the rules leave the Dockerfile out, or it is a link: the engine gets it beside the
    /// context then.
    apart: bool,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    mode: u32,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    File { size: u64 },
    Link { target: PathBuf },
}

/// Why a folder cannot be a context.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    /// The path is not one within the workspace.
    #[error("`{field}: {given}` leaves the workspace")]
    Outside { field: &'static str, given: String },
    /// Nothing is there, or not the right thing.
    #[error("there is no {what} at {path}")]
    Missing { what: &'static str, path: String },
    /// The file says something that is no rule.
    #[error("{path}, {source}")]
    Ignore {
        path: String,
        #[source]
        source: crate::ignore::IgnoreError,
    },
    /// Something cannot be read.
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    /// Too much of something.
    #[error("the context {path} has more than {limit}")]
    TooMuch { path: String, limit: String },
}

impl ContextError {
    /// The way out.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Outside { .. } => {
                "write a path within the checkout, relative to its root; a context may not leave it"
            }
            Self::Missing { .. } => {
                "`context` is relative to the workspace, `dockerfile` to the context; check both"
            }
            Self::Ignore { .. } => "see the pattern rules of `.dockerignore`",
            Self::Read { .. } => "make it readable, or name it in `.dockerignore`",
            Self::TooMuch { .. } => {
                "choose a smaller context, or name what is not needed in `.dockerignore`"
            }
        }
    }
}

/// Joins a path from `with` to `base` and checks that it stays there.
fn inside(base: &Path, field: &'static str, given: &str) -> Result<PathBuf, ContextError> {
    let path = Path::new(given);
    let plain = path.components().all(|part| match part {
        Component::Normal(_) | Component::CurDir => true,
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => false,
    });
    let outside = || ContextError::Outside { field, given: given.to_owned() };
    if !plain {
        return Err(outside());
    }
    let joined = base.join(path);
    // A link on the way may still lead out. What does not exist is told by who opens it.
    if let (Ok(base), Ok(real)) = (base.canonicalize(), joined.canonicalize())
        && !real.starts_with(base)
    {
        return Err(outside());
    }
    Ok(joined)
}

impl Context {
    /// Looks through the folder `context` of the workspace. Reads no file but the ignore file.
    pub(crate) fn open(
        workspace: &Path,
        context: &str,
        dockerfile: &str,
    ) -> Result<Self, ContextError> {
        let root = inside(workspace, "context", context)?;
        if !root.is_dir() {
            return Err(ContextError::Missing { what: "folder", path: show(&root) });
        }
        let file = inside(&root, "dockerfile", dockerfile)?;
        if !file.is_file() {
            return Err(ContextError::Missing { what: "Dockerfile", path: show(&file) });
        }
        let relative: PathBuf = Path::new(dockerfile)
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        let ignore = read_ignore(&root, &file)?;
        // The engine does not follow a link out of what it was sent.
        let linked = match (root.canonicalize(), file.canonicalize()) {
            (Ok(root), Ok(file)) => file != root.join(&relative),
            (Ok(_) | Err(_), _) => false,
        };
        let apart = linked || ignore.leaves_out(&relative.to_string_lossy());
        let mut walk = Walk { root: &root, ignore: &ignore, entries: Vec::new(), bytes: 0 };
        walk.folder(Path::new(""), &Decision::default(), 0)?;
        let (entries, bytes) = (walk.entries, walk.bytes);
        Ok(Self { root, entries, bytes, dockerfile: relative, apart })
    }

    /// The Dockerfile's path within the archive.
    pub(crate) fn dockerfile(&self) -> String {
        if self.apart { APART.to_owned() } else { self.dockerfile.to_string_lossy().into_owned() }
    }

    /// The folder of the archive that is the context, where not all of it is.
    pub(crate) fn subfolder(&self) -> Option<&'static str> {
        self.apart.then_some(SUBFOLDER)
    }

    /// How many files, folders and links there are, and the bytes of the files together.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.entries.len(), self.bytes)
    }

    /// The context as a tar archive, chunk by chunk. Reading goes on while the receiver takes.
    pub(crate) fn stream(self: &Arc<Self>) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let context = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut out = ChunkWriter { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK) };
            if let Err(error) = context.write(&mut out).and_then(|()| out.flush()) {
                // Nobody listens any more when this fails: the build was stopped.
                let _ = sender.blocking_send(Err(error));
            }
        });
        receiver
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        // The engine looks at the first kilobyte to see that this is an archive, so a short plain
        // entry comes first, whatever the names behind it.
        tar.append_data(&mut header(&Kind::Folder, 0o755), "./", io::empty())?;
        let below = Path::new(self.subfolder().unwrap_or_default());
        if self.apart {
            let path = self.root.join(&self.dockerfile);
            let size = fs::metadata(&path).map_err(|e| told(e, &path))?.len();
            append_file(&mut tar, Path::new(APART), &path, 0o644, size)?;
            tar.append_data(&mut header(&Kind::Folder, 0o755), below.join(""), io::empty())?;
        }
        for entry in &self.entries {
            let name = below.join(&entry.path);
            let mut header = header(&entry.kind, entry.mode);
            match &entry.kind {
                Kind::Folder => tar.append_data(&mut header, name.join(""), io::empty())?,
                Kind::Link { target } => tar.append_link(&mut header, &name, target)?,
                Kind::File { size } => {
                    let path = self.root.join(&entry.path);
                    append_file(&mut tar, &name, &path, entry.mode, *size)?;
                }
            }
        }
        tar.finish()
    }
}

fn append_file(
    tar: &mut tar::Builder<&mut dyn Write>,
    name: &Path,
    path: &Path,
    mode: u32,
    size: u64,
) -> io::Result<()> {
    let file = File::open(path).map_err(|e| told(e, path))?;
    let mut exact = Exact { inner: file, left: size };
    let mut header = header(&Kind::File { size }, mode);
    tar.append_data(&mut header, name, &mut exact).map_err(|e| told(e, path))
}

fn told(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", show(path)))
}

fn header(kind: &Kind, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    let (entry_type, size) = match kind {
        Kind::Folder => (tar::EntryType::Directory, 0),
        Kind::File { size } => (tar::EntryType::Regular, *size),
        Kind::Link { .. } => (tar::EntryType::Symlink, 0),
    };
    header.set_entry_type(entry_type);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(FIXED_TIME);
    header
}

/// The Dockerfile's own ignore file where there is one, else the context's.
fn read_ignore(root: &Path, dockerfile: &Path) -> Result<Ignore, ContextError> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), root.join(".dockerignore")] {
        let at = |source| ContextError::Read { path: show(&path), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(at(error)),
        };
        let mut text = String::new();
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(at)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ContextError::TooMuch { path: show(&path), limit: "1 MiB".into() });
        }
        return Ignore::parse(&text)
            .map_err(|source| ContextError::Ignore { path: show(&path), source });
    }
    Ok(Ignore::default())
}

struct Walk<'a> {
    root: &'a Path,
    ignore: &'a Ignore,
    entries: Vec<Entry>,
    bytes: u64,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, above: &Decision, depth: usize) -> Result<(), ContextError> {
        let full = self.root.join(path);
        if depth > MAX_DEPTH {
            return Err(self.too_much(format!("{MAX_DEPTH} folders within each other")));
        }
        let at = |source| ContextError::Read { path: show(&full), source };
        let mut names = Vec::new();
        for item in fs::read_dir(&full).map_err(at)? {
            names.push(item.map_err(at)?.file_name());
            if names.len() > MAX_ENTRIES {
                return Err(self.too_much(format!("{MAX_ENTRIES} files")));
            }
        }
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self.item(path.join(name), above, depth)?;
        }
        Ok(())
    }

    fn item(&mut self, path: PathBuf, above: &Decision, depth: usize) -> Result<(), ContextError> {
        let full = self.root.join(&path);
        let decision = self.ignore.decide(&path.to_string_lossy(), above);
        let meta = match fs::symlink_metadata(&full) {
            Ok(meta) => meta,
            Err(_) if decision.left_out => return Ok(()),
            Err(source) => return Err(ContextError::Read { path: show(&full), source }),
        };
        let mode = meta.permissions().mode() & 0o7777;
        let kind = meta.file_type();
        let at = self.entries.len();
        if kind.is_dir() {
            if decision.left_out && !self.ignore.may_keep_below(&path.to_string_lossy()) {
                return Ok(());
            }
            self.push(Entry { path: path.clone(), mode, kind: Kind::Folder })?;
            self.folder(&path, &decision, depth + 1)?;
            // A folder that is left out is sent only for the sake of what is in it.
            if decision.left_out && self.entries.len() == at + 1 {
                self.entries.truncate(at);
            }
            return Ok(());
        }
        if decision.left_out {
            return Ok(());
        }
        if kind.is_file() {
            let size = meta.len();
            self.bytes = self.bytes.saturating_add(size);
            if self.bytes > MAX_TOTAL {
                return Err(self.too_much(format!("{} GiB", MAX_TOTAL >> 30)));
            }
            self.push(Entry { path, mode, kind: Kind::File { size } })
        } else if kind.is_symlink() {
            let target = fs::read_link(&full)
                .map_err(|source| ContextError::Read { path: show(&full), source })?;
            self.push(Entry { path, mode: 0o777, kind: Kind::Link { target } })
        } else {
            // Sockets, pipes and devices have no content to send.
            Ok(())
        }
    }

    fn push(&mut self, entry: Entry) -> Result<(), ContextError> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(self.too_much(format!("{MAX_ENTRIES} files")));
        }
        self.entries.push(entry);
        Ok(())
    }

    fn too_much(&self, limit: String) -> ContextError {
        ContextError::TooMuch { path: show(self.root), limit }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Reads exactly as much as was announced, so that a file that changes under the walk is an error
/// and never a broken archive.
struct Exact<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it became shorter while it was sent",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(Bytes::from(chunk)))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the engine took no more"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What is sent, one line per entry: mode, name, what is in it.
    fn listing(context: &Context) -> String {
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        let mut out = String::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), FIXED_TIME);
            let path = entry.path().unwrap().display().to_string();
            let link = entry.link_name().unwrap().map(|l| format!(" -> {}", l.display()));
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let mode = header.mode().unwrap();
            out += &format!("{mode:o} {path}{} {content}\n", link.unwrap_or_default());
        }
        out
    }

    #[test]
    fn it_sends_what_the_rules_leave_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "app/b.txt", "b");
        write(root, "app/a.txt", "a");
        write(root, "app/run.sh", "#!");
        write(root, "docs/x.md", "x");
        write(root, "vendor/keep/k", "k");
        write(root, "vendor/drop/d", "d");
        write(root, "ci/Dockerfile", "FROM scratch");
        write(root, ".dockerignore", "docs\nci\nvendor\n!vendor/keep\n");
        for (path, mode) in [("app/run.sh", 0o755), ("app/a.txt", 0o600), ("app/b.txt", 0o644)] {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("../../etc/passwd", root.join("app/link")).unwrap();
        let context = Context::open(root, ".", "ci/Dockerfile").unwrap();
        insta::assert_snapshot!(listing(&context), @r"
        755 ./ 
        644 Dockerfile FROM scratch
        755 context/ 
        644 context/.dockerignore docs
        ci
        vendor
        !vendor/keep

        755 context/app/ 
        600 context/app/a.txt a
        644 context/app/b.txt b
        777 context/app/link -> ../../etc/passwd 
        755 context/app/run.sh #!
        755 context/vendor/ 
        755 context/vendor/keep/ 
        644 context/vendor/keep/k k
        ");
        assert_eq!(
            (context.dockerfile().as_str(), context.subfolder()),
            ("Dockerfile", Some("context"))
        );
    }

    #[test]
    fn a_dockerfile_that_the_rules_leave_out_is_sent_beside_the_context() {
        for (rules, dockerfile, apart) in [
            ("df-*\nDockerfile\n", "Dockerfile", true),
            ("df-*\nDockerfile\n", "df-prod", true),
            ("*\n!kept\n", "Dockerfile", true),
            ("*\n!Dockerfile\n", "Dockerfile", false),
            ("ci\n!ci/Dockerfile\n", "ci/Dockerfile", false),
            ("**/ci\n", "ci/Dockerfile", true),
            ("", "Dockerfile", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), dockerfile, "FROM scratch");
            write(dir.path(), "kept", "");
            write(dir.path(), ".dockerignore", rules);
            let context = Context::open(dir.path(), ".", dockerfile).unwrap();
            let listing = listing(&context);
            assert_eq!(context.subfolder().is_some(), apart, "{rules:?}: {listing}");
            let sent = listing.lines().filter(|line| line.ends_with("FROM scratch")).count();
            assert_eq!(sent, 1, "{rules:?}: {listing}");
            let within = format!("context/{dockerfile} FROM");
            assert!(!listing.contains(&within), "{rules:?}: {listing}");
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "ci/shop.Dockerfile", "FROM scratch");
        write(dir.path(), ".dockerignore", "ci\n");
        symlink("ci/shop.Dockerfile", dir.path().join("Dockerfile")).unwrap();
        let listing = listing(&Context::open(dir.path(), ".", "Dockerfile").unwrap());
        assert!(listing.contains("644 Dockerfile FROM scratch"), "{listing}");
        assert!(listing.contains("777 context/Dockerfile -> ci/shop.Dockerfile"), "{listing}");
    }

    #[test]
    fn a_dockerfile_may_bring_its_own_rules() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "Dockerfile", "");
        write(dir.path(), "Dockerfile.dockerignore", "*.secret");
        write(dir.path(), ".dockerignore", "kept.txt");
        write(dir.path(), "kept.txt", "");
        write(dir.path(), "a.secret", "");
        let listing = listing(&Context::open(dir.path(), "", "./Dockerfile").unwrap());
        assert!(listing.contains("kept.txt") && !listing.contains("a.secret"), "{listing}");
    }

    #[test]
    fn long_names_and_other_times_change_nothing_of_the_form() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
        write(dir.path(), &long, "long");
        write(dir.path(), "Dockerfile", "");
        let context = Context::open(dir.path(), ".", "Dockerfile").unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        context.write(&mut first).unwrap();
        let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        File::options()
            .write(true)
            .open(dir.path().join("Dockerfile"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        Context::open(dir.path(), ".", "Dockerfile").unwrap().write(&mut second).unwrap();
        assert_eq!(first, second);
        assert!(listing(&context).contains(&long));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("work");
        write(&root, "app/Dockerfile", "");
        write(&root, "bad/Dockerfile", "");
        write(&root, "bad/.dockerignore", "ok\n!\n");
        write(dir.path(), "Dockerfile", "");
        symlink("..", root.join("out")).unwrap();
        let cases = [
            ("..", "Dockerfile", "`context: ..` leaves the workspace"),
            ("/etc", "Dockerfile", "`context: /etc` leaves the workspace"),
            ("out", "Dockerfile", "`context: out` leaves the workspace"),
            ("app", "../../Dockerfile", "`dockerfile: ../../Dockerfile` leaves the workspace"),
            ("nowhere", "Dockerfile", "there is no folder at ROOT/nowhere"),
            ("app", "Containerfile", "there is no Dockerfile at ROOT/app/Containerfile"),
            (
                "bad",
                "Dockerfile",
                "ROOT/bad/.dockerignore, line 2: `!` stands alone; write the path to keep behind it",
            ),
        ];
        for (context, dockerfile, expected) in cases {
            let error = Context::open(&root, context, dockerfile).unwrap_err();
            let text = error.to_string().replace(&show(&root), "ROOT");
            assert_eq!(text, expected);
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "Dockerfile", "0123456789");
        let context = Context::open(dir.path(), ".", "Dockerfile").unwrap();
        write(dir.path(), "Dockerfile", "01");
        let error = context.write(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.ends_with("Dockerfile: it became shorter while it was sent"), "{error}");
    }

    #[tokio::test]
    async fn the_stream_is_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "Dockerfile", &"x".repeat(3 * CHUNK));
        let context = Arc::new(Context::open(dir.path(), ".", "Dockerfile").unwrap());
        let mut whole = Vec::new();
        context.write(&mut whole).unwrap();
        let (mut stream, mut got) = (context.stream(), Vec::new());
        while let Some(chunk) = stream.recv().await {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(got, whole);
    }
}
