//! A small process that outlives its runner, and ends what that started when it cannot any more.
//!
//! A runner that is killed, or stopped for longer than its leases, cannot end its processes; they would go
//! on beside the attempt that takes their place. The runner tells its guardian again and again that it
//! lives, and how long it may be silent; the guardian ends whatever carries the runner's mark when that
//! time is over, or when the runner is gone.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::strays;

/// How often a guardian looks again whether all of it is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often it looks at most: what a signal does not end, nothing does.
const LOOKS: usize = 50;

/// A guardian, as its runner sees it. Dropped, it has nothing more to guard, and ends what is left.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    pipe: Mutex<ChildStdin>,
    gone: AtomicBool,
}

impl Guardian {
    /// Starts `program` with `args`, which is to call [`guard`] with the same mark.
    ///
    /// # Errors
    /// When it cannot be started, or does not say that it stands.
    pub fn start(program: &Path, args: &[&str]) -> io::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "this is where processes are started")]
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .current_dir("/")
            // What ends its runner must not end it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (pipe, mut stands) = pipes.ok_or_else(|| io::Error::other("it has no pipes"))?;
        // One that ended at once would be missed when it is needed, and not before.
        stands.read_exact(&mut [0])?;
        Ok(Self { child, pipe: Mutex::new(pipe), gone: AtomicBool::new(false) })
    }

    /// Says that the runner lives, and how long it may be silent; for ever when that is not given.
    pub(crate) fn pat(&self, silence: Option<Duration>) {
        let millis = silence.map_or(0, |silence| u32::try_from(silence.as_millis()).unwrap_or(0));
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = pipe.write_all(&millis.to_be_bytes())
            && !self.gone.swap(true, Ordering::Relaxed)
        {
            tracing::error!("the guardian of this runner is gone: {error}");
        }
    }

    /// Whether it was found to be gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // It is not waited for: it ends once its pipe is closed, and whatever it guards with it.
        let _ = self.child.try_wait();
    }
}

/// A mark that no other process carries.
#[must_use]
pub fn new_mark() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Guards what carries `mark` until `pipe` is closed, and ends it then. Says to `stands` that it does.
pub fn guard(mark: &str, mut pipe: impl io::Read + Send + 'static, mut stands: impl io::Write) {
    if stands.write_all(b"\n").and_then(|()| stands.flush()).is_err() {
        return;
    }
    let (heard, hears) = channel();
    std::thread::spawn(move || {
        let mut word = [0; 4];
        while pipe.read_exact(&mut word).is_ok() && heard.send(word).is_ok() {}
    });
    let mut silence = None;
    loop {
        let word = match silence {
            Some(silence) => hears.recv_timeout(silence),
            None => hears.recv().map_err(RecvTimeoutError::from),
        };
        match word {
            Ok(word) => {
                let millis = u32::from_be_bytes(word);
                silence = (millis > 0).then(|| Duration::from_millis(millis.into()));
            }
            Err(RecvTimeoutError::Timeout) => {
                end(mark);
                silence = None;
            }
            Err(RecvTimeoutError::Disconnected) => return end(mark),
        }
    }
}

fn end(mark: &str) {
    for _ in 0..LOOKS {
        let left = strays::marked(mark);
        if left.is_empty() {
            return;
        }
        left.iter().for_each(|stray| stray.signal(Signal::KILL));
        std::thread::sleep(LOOK_AGAIN);
    }
}
