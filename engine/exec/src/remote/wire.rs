//! What servers and runners say to each other, and the form of it: a header in JSON with its length
//! before it, and bytes behind it.
//!
//! A field that one side does not know is passed over, so that servers and runners of neighboring
//! versions understand each other; what neither side can do without has a new name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use fairlead_run::{AttemptToken, CachedResult, LogLine};
use fairlead_step::{Artifact, Digest, RunId, StepId, Stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attempts::AttemptResult;

/// A runner, in one of its lives: a claim is bound to both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RunnerRef {
    /// Its name.
    pub(crate) name: String,
    /// Which life.
    pub(crate) incarnation: String,
}

/// What a runner says of itself, often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    pub(crate) runner: RunnerRef,
    pub(crate) pool: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// How many attempts it makes at a time, those slots left out whose last processes may live.
    pub(crate) slots: usize,
    /// Those that it makes.
    #[serde(default)]
    pub(crate) tokens: BTreeSet<AttemptToken>,
    /// The kinds that it has, and their versions.
    #[serde(default)]
    pub(crate) kinds: BTreeMap<String, String>,
    /// Why it takes nothing, where it does not.
    #[serde(default)]
    pub(crate) closed: Option<String>,
    #[serde(default)]
    pub(crate) version: String,
}

/// What a runner says to a server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum ToServer {
    Presence(Presence),
    Claim {
        token: AttemptToken,
        runner: RunnerRef,
    },
    Renew {
        runner: RunnerRef,
        tokens: Vec<AttemptToken>,
    },
    /// Behind it, lines from number `from` on.
    Log {
        token: AttemptToken,
        runner: RunnerRef,
        from: u64,
    },
    /// It ended, and its log has so many lines.
    Ended {
        token: AttemptToken,
        runner: RunnerRef,
        end: AttemptResult,
        lines: u64,
    },
    Recall {
        token: AttemptToken,
        runner: RunnerRef,
        key: Digest,
    },
    Remember {
        token: AttemptToken,
        runner: RunnerRef,
        key: Digest,
        result: Remembered,
    },
    Fetch {
        token: AttemptToken,
        runner: RunnerRef,
        digest: Digest,
        at: u64,
    },
    /// Behind it, the bytes.
    Store {
        token: AttemptToken,
        runner: RunnerRef,
        name: String,
        media_type: String,
    },
    /// A part of a message that is too large for one. Behind it, bytes.
    Part {
        token: AttemptToken,
        runner: RunnerRef,
        upload: u64,
        part: u32,
        of: u32,
    },
}

/// What a server says to a runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum ToRunner {
    /// Stop this attempt.
    Stop { token: AttemptToken },
    /// The run has ended: its folder may go.
    RunEnded { run: RunId },
    /// Say that you are there.
    Report {},
    /// The attempts with these tokens are this server's now.
    Who { server: String, tokens: Vec<AttemptToken> },
}

/// What a server answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Granted {
        lease_ms: u64,
    },
    Refused {
        why: String,
    },
    Renewed {
        stop: Vec<AttemptToken>,
        unknown: Vec<AttemptToken>,
    },
    /// The next line that is wanted.
    Next {
        line: u64,
    },
    /// Heard, and done.
    Done,
    /// The attempt is not this server's.
    Unknown,
    Recalled {
        result: Option<Remembered>,
    },
    /// Behind it, the bytes; there are so many of all.
    Bytes {
        size: u64,
    },
    Stored {
        artifact: Artifact,
    },
    /// It cannot be done now, or ever.
    Failed {
        message: String,
        passing: bool,
    },
}

/// The result of a step that passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Remembered {
    run: RunId,
    step: StepId,
    at: Timestamp,
    outputs: Value,
}

impl From<CachedResult> for Remembered {
    fn from(CachedResult { run, step, at, outputs }: CachedResult) -> Self {
        Self { run, step, at, outputs }
    }
}

impl From<Remembered> for CachedResult {
    fn from(Remembered { run, step, at, outputs }: Remembered) -> Self {
        Self { run, step, at, outputs }
    }
}

/// A job in the queue says which server has offered it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfferHeader {
    pub(crate) server: String,
}

/// A header with bytes behind it.
pub(crate) fn frame(header: &impl Serialize, body: &[u8]) -> Bytes {
    let header = serde_json::to_vec(header).unwrap_or_default();
    let mut frame = BytesMut::with_capacity(4 + header.len() + body.len());
    frame.put_u32(u32::try_from(header.len()).unwrap_or(0));
    frame.put_slice(&header);
    frame.put_slice(body);
    frame.freeze()
}

/// The header and the bytes of a frame; none when it is no such frame.
pub(crate) fn open<H: DeserializeOwned>(frame: &Bytes) -> Option<(H, Bytes)> {
    let length = usize::try_from(u32::from_be_bytes(*frame.first_chunk::<4>()?)).ok()?;
    let header = frame.get(4..4 + length)?;
    let header = serde_json::from_slice(header).ok()?;
    Some((header, frame.slice(4 + length..)))
}

/// Adds a line in the form in which it is spooled and sent: nanoseconds, stream, text.
pub(crate) fn write_line(into: &mut String, line: &LogLine) {
    let _ = write!(into, "{} {} ", line.at.as_nanosecond(), line.stream.letter());
    if line.text.contains(['\n', '\r']) {
        into.extend(line.text.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
    } else {
        into.push_str(&line.text);
    }
    into.push('\n');
}

/// The lines that were written so. One that is damaged is kept as far as it can be read: what counts
/// lines must not be confused by it.
pub(crate) fn read_lines(bytes: &[u8]) -> Vec<LogLine> {
    let text = String::from_utf8_lossy(bytes);
    let read = |line: &str| {
        let (at, rest) = line.split_once(' ')?;
        let (stream, text) = rest.split_once(' ')?;
        let stream = Stream::of_letter(stream)?;
        let at = Timestamp::from_nanosecond(at.parse().ok()?).ok()?;
        Some(LogLine { at, stream, text: text.to_owned() })
    };
    let damaged = |line: &str| LogLine {
        at: Timestamp::UNIX_EPOCH,
        stream: Stream::Step,
        text: line.to_owned(),
    };
    text.lines().map(|line| read(line).unwrap_or_else(|| damaged(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_opens_as_it_was_closed_and_nothing_else_does() {
        let header = Answer::Next { line: 7 };
        let closed = frame(&header, b"body\n\0");
        let (opened, body) = open::<Answer>(&closed).unwrap();
        assert!(matches!(opened, Answer::Next { line: 7 }) && body == b"body\n\0"[..]);
        for bad in [&b""[..], b"\0\0", b"\xff\xff\xff\xff{}", b"\0\0\0\x02{}", b"\0\0\0\0"] {
            assert!(open::<Answer>(&Bytes::copy_from_slice(bad)).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let line = |stream, text: &str| LogLine {
            at: Timestamp::from_nanosecond(1_790_000_000_123_456_789).unwrap(),
            stream,
            text: text.to_owned(),
        };
        let lines = [
            line(Stream::Stdout, "plain"),
            line(Stream::Stderr, ""),
            line(Stream::Step, "a  b ä \u{fffd}"),
        ];
        let mut text = String::new();
        lines.iter().for_each(|line| write_line(&mut text, line));
        assert_eq!(read_lines(text.as_bytes()), lines);
        let mut text = String::new();
        write_line(&mut text, &line(Stream::Stdout, "one\ntwo\r"));
        assert_eq!(read_lines(text.as_bytes())[0].text, "one two ");
        assert_eq!(read_lines(b"damaged\nx y\n").len(), 2);
    }
}
