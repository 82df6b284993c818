//! Hints between the processes that share a database: whoever has one writes to a file in the folder
//! `wakes/`, and whoever listens watches that folder. A file is named after what it hints at, and is
//! removed as soon as it was written.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fairlead_run::Wake;
use futures::stream::BoxStream;
use notify::event::{Event, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::notifier::Notifier;

/// The file that hints at admission. No run has this id.
const ADMISSION: &str = "turns";

pub(super) struct Wakes {
    folder: PathBuf,
    notifier: Arc<Notifier>,
    /// Begun by the first who listens, because it is a thread, and most commands do not listen.
    watcher: Mutex<Option<RecommendedWatcher>>,
}

impl Wakes {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder, notifier: Arc::default(), watcher: Mutex::default() }
    }

    /// Rings here and in the other processes.
    pub(super) fn notify(&self, wake: Wake) {
        let name = match &wake {
            Wake::Run(run) => Some(run.as_str()),
            Wake::Admission => Some(ADMISSION),
            Wake::All => None,
        };
        if let Some(name) = name
            && let Err(error) = touch(&self.folder.join(name))
        {
            // Only a hint is lost; the others find the rest when they sweep.
            tracing::debug!(%error, "other processes were not woken");
        }
        self.notifier.notify(wake);
    }

    pub(super) fn listen(&self) -> BoxStream<'static, Wake> {
        let stream = self.notifier.listen();
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_none() {
            match watch(&self.folder, Arc::clone(&self.notifier)) {
                Ok(begun) => *watcher = Some(begun),
                Err(error) => tracing::warn!(
                    folder = %self.folder.display(), %error,
                    "cannot watch for what other processes do; it is found by sweeps alone"
                ),
            }
        }
        stream
    }

    pub(super) fn end(&self) {
        self.notifier.silence();
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn touch(file: &Path) -> io::Result<()> {
    let written = match std::fs::File::options().create(true).append(true).open(file) {
        // Nobody has listened yet, or the folder would be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?.write_all(b"\n"),
    };
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
        Ok(()) | Err(_) => written,
    }
}

fn watch(folder: &Path, notifier: Arc<Notifier>) -> notify::Result<RecommendedWatcher> {
    std::fs::create_dir_all(folder)?;
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            Ok(event) => wakes_of(&event).for_each(|wake| notifier.notify(wake)),
            Err(_) => notifier.notify(Wake::All),
        })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// What a change in the folder hints at. Of what happens to one file only the writing counts.
fn wakes_of(event: &Event) -> impl Iterator<Item = Wake> {
    let written = matches!(event.kind, EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any));
    let lost = event.need_rescan().then_some(Wake::All);
    let names = event.paths.iter().filter(move |_| written).filter_map(|path| path.file_name());
    let wakes = names.filter_map(|name| match name.to_str()? {
        ADMISSION => Some(Wake::Admission),
        run => run.parse().ok().map(Wake::Run),
    });
    lost.into_iter().chain(wakes)
}
