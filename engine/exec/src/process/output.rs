//! Where the output of a process goes: to the log, line by line, or into memory.

use bytes::Bytes;
use fairlead_run::MAX_LINE_BYTES as LINE_LIMIT;
use fairlead_step::{LineSplitter, Log, Output, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::tail::Tail;
use crate::mask::Mask;

/// How much is read from a pipe at once.
const CHUNK: usize = 16 * 1024;

/// How much of standard error is kept for [`fairlead_step::ProcessExit::stderr_tail`].
const STDERR_TAIL: usize = 4 * 1024;

/// Where the output of one process goes.
pub(super) struct Sink<'a> {
    log: &'a dyn Log,
    mask: &'a Mask,
    limit: Option<usize>,
    captured: Vec<u8>,
    stdout: LineSplitter,
    stderr: LineSplitter,
    tail: Tail,
}

impl<'a> Sink<'a> {
    pub(super) fn new(log: &'a dyn Log, mask: &'a Mask, stdout: Output) -> Self {
        // The log masks a line and then cuts it: a secret across the cut must arrive there whole.
        let keep = LINE_LIMIT + mask.longest() + 1;
        let limit = match stdout {
            Output::Log => None,
            Output::Capture { limit } => Some(limit),
        };
        Self {
            log,
            mask,
            limit,
            captured: Vec::new(),
            stdout: LineSplitter::new(keep),
            stderr: LineSplitter::new(keep),
            tail: Tail::new(STDERR_TAIL),
        }
    }

    /// Takes bytes of standard output; fails with the limit when they are more than it.
    pub(super) fn stdout(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let Some(limit) = self.limit else {
            self.stdout.push(bytes, |line| self.log.line(Stream::Stdout, line));
            return Ok(());
        };
        let room = limit - self.captured.len();
        self.captured.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room { Err(limit) } else { Ok(()) }
    }

    pub(super) fn stderr(&mut self, bytes: &[u8]) {
        let (log, mask, tail) = (self.log, self.mask, &mut self.tail);
        self.stderr.push(bytes, |line| stderr_line(log, mask, tail, line));
    }

    /// What was captured, and the tail of standard error.
    pub(super) fn finish(mut self) -> (Bytes, String) {
        self.stdout.finish(|line| self.log.line(Stream::Stdout, line));
        let (log, mask, tail) = (self.log, self.mask, &mut self.tail);
        self.stderr.finish(|line| stderr_line(log, mask, tail, line));
        (self.captured.into(), self.tail.into_text())
    }
}

fn stderr_line(log: &dyn Log, mask: &Mask, tail: &mut Tail, line: &str) {
    log.line(Stream::Stderr, line);
    tail.push(mask.apply(line));
}

/// The reading end of a pipe, until it closes.
pub(super) struct Pipe<R> {
    end: Option<R>,
    chunk: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    pub(super) const fn new(end: Option<R>) -> Self {
        Self { end, chunk: Vec::new() }
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.end.is_none()
    }

    /// The next bytes; none when the pipe has closed. Safe to drop and call again.
    pub(super) async fn read(&mut self) -> &[u8] {
        self.chunk.clear();
        if let Some(end) = &mut self.end {
            self.chunk.reserve(CHUNK);
            // A pipe that cannot be read has nothing more to say.
            if end.read_buf(&mut self.chunk).await.unwrap_or(0) == 0 {
                self.end = None;
            }
        }
        &self.chunk
    }
}
