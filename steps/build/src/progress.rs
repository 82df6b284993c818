//! The engine's progress, told as lines: each instruction gets a number when it begins, and its
//! output follows under that number. What failed is remembered for the error message.

use std::collections::{BTreeMap, VecDeque};

use bollard::grpc::build::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};
use fairlead_step::{Log, Progress, Stream};

/// How many of the last lines of a failing instruction are kept for the error message.
const TAIL_LINES: usize = 12;
/// The most bytes of one line; the rest of it is dropped.
const MAX_LINE: usize = 16 << 10;
/// The most instructions that are told apart. More are told as well, all under number 0.
const MAX_VERTICES: usize = 10_000;

/// Turns what the engine reports into lines of the step's log.
pub(crate) struct Teller<'a> {
    log: &'a dyn Log,
    vertices: BTreeMap<String, Told>,
    failed: Option<Failed>,
}

/// What was told of one instruction.
#[derive(Default)]
struct Told {
    number: usize,
    name: String,
    begun: bool,
    ended: bool,
    /// What it wrote after the last end of line, per stream.
    partial: [Vec<u8>; 2],
    tail: VecDeque<String>,
}

/// The instruction that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The instruction, such as `[2/3] RUN make`.
    pub(crate) instruction: String,
    /// What the engine says of it.
    pub(crate) error: String,
    /// The last lines that it wrote.
    pub(crate) tail: Vec<String>,
}

impl<'a> Teller<'a> {
    /// A teller that writes to `log`.
    pub(crate) const fn new(log: &'a dyn Log) -> Self {
        Self { log, vertices: BTreeMap::new(), failed: None }
    }

    /// Tells one report.
    pub(crate) fn tell(&mut self, report: StatusResponse) {
        for vertex in report.vertexes {
            self.vertex(vertex);
        }
        for status in report.statuses {
            self.status(&status);
        }
        for log in report.logs {
            self.output(log);
        }
    }

    /// What failed first, with what it wrote last.
    pub(crate) fn failed(mut self) -> Option<Failed> {
        let mut failed = self.failed.take()?;
        if let Some(told) = self.vertices.values_mut().find(|t| t.name == failed.instruction) {
            // A last line without an end still counts.
            for stream in [0, 1] {
                let rest = std::mem::take(&mut told.partial[stream]);
                if !rest.is_empty() {
                    self.log.line(stream_of(stream), &line_of(told.number, &rest));
                    told.keep(&rest);
                }
            }
            failed.tail = told.tail.iter().cloned().collect();
        }
        Some(failed)
    }

    fn told(&mut self, digest: &str) -> &mut Told {
        let known = self.vertices.len();
        let number = if known < MAX_VERTICES { known + 1 } else { 0 };
        let key = if number == 0 && !self.vertices.contains_key(digest) { "" } else { digest };
        self.vertices.entry(key.to_owned()).or_insert_with(|| Told { number, ..Told::default() })
    }

    fn vertex(&mut self, vertex: Vertex) {
        let log = self.log;
        let told = self.told(&vertex.digest);
        if told.name.is_empty() {
            told.name = vertex.name.chars().take(1000).collect();
        }
        let number = told.number;
        if (vertex.started.is_some() || vertex.cached) && !told.begun {
            told.begun = true;
            log.line(Stream::Step, &format!("#{number} {}", one_line(&told.name)));
        }
        // The engine reports an instruction again when it is used again.
        if vertex.completed.is_none() || told.ended {
            return;
        }
        told.ended = true;
        let end = if !vertex.error.is_empty() {
            format!("#{number} ERROR: {}", one_line(&vertex.error))
        } else if vertex.cached {
            format!("#{number} CACHED")
        } else {
            match seconds(&vertex) {
                Some(seconds) => format!("#{number} DONE {seconds:.1}s"),
                None => format!("#{number} DONE"),
            }
        };
        log.line(Stream::Step, &end);
        // Whatever ran beside the one that failed is stopped and reports that; it is no cause.
        if !vertex.error.is_empty() && !vertex.error.contains("context canceled") {
            let instruction = told.name.clone();
            self.failed.get_or_insert(Failed {
                instruction,
                error: vertex.error,
                tail: Vec::new(),
            });
        }
    }

    fn status(&mut self, status: &VertexStatus) {
        let done = u64::try_from(status.current).unwrap_or(0);
        let total = u64::try_from(status.total).ok().filter(|total| *total > 0);
        if status.completed.is_none() && done > 0 {
            let what = if status.name.is_empty() { &status.id } else { &status.name };
            self.log.progress(Progress { what: one_line(what), done, total });
        }
    }

    fn output(&mut self, output: VertexLog) {
        let log = self.log;
        let stream = usize::from(output.stream == 2);
        let told = self.told(&output.vertex);
        let mut bytes = std::mem::take(&mut told.partial[stream]);
        bytes.extend_from_slice(&output.msg);
        let mut rest = bytes.as_slice();
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            log.line(stream_of(stream), &line_of(told.number, line));
            told.keep(line);
        }
        rest = &rest[..rest.len().min(MAX_LINE)];
        told.partial[stream] = rest.to_vec();
    }
}

impl Told {
    fn keep(&mut self, line: &[u8]) {
        let text = text_of(line);
        if !text.trim().is_empty() {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(text);
        }
    }
}

const fn stream_of(stream: usize) -> Stream {
    if stream == 1 { Stream::Stderr } else { Stream::Stdout }
}

fn text_of(line: &[u8]) -> String {
    let line = &line[..line.len().min(MAX_LINE)];
    // A progress bar overwrites its line; the last state of it is what a person would see.
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let shown = line.rsplit(|b| *b == b'\r').next().unwrap_or(line);
    String::from_utf8_lossy(shown).into_owned()
}

fn line_of(number: usize, line: &[u8]) -> String {
    format!("#{number} {}", text_of(line))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn seconds(vertex: &Vertex) -> Option<f64> {
    let (start, end) = (vertex.started.as_ref()?, vertex.completed.as_ref()?);
    #[expect(clippy::cast_precision_loss, reason = "a duration for people, in tenths of a second")]
    let whole = (end.seconds - start.seconds) as f64;
    Some((whole + f64::from(end.nanos - start.nanos) / 1e9).max(0.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl Log for Lines {
        fn line(&self, stream: Stream, text: &str) {
            self.0.lock().unwrap().push(format!("{stream:?}: {text}"));
        }

        fn progress(&self, progress: Progress) {
            self.0.lock().unwrap().push(format!("{progress:?}"));
        }
    }

    fn vertex(digest: &str, name: &str) -> Vertex {
        Vertex { digest: digest.into(), name: name.into(), ..Vertex::default() }
    }

    fn output(digest: &str, stream: i64, msg: &str) -> StatusResponse {
        let log = VertexLog {
            vertex: digest.into(),
            stream,
            msg: msg.as_bytes().to_vec(),
            ..VertexLog::default()
        };
        StatusResponse { logs: vec![log], ..StatusResponse::default() }
    }

    fn vertices(vertexes: Vec<Vertex>) -> StatusResponse {
        StatusResponse { vertexes, ..StatusResponse::default() }
    }

    /// The same vertex, begun at 5 s and ended, where `end` says, at that time.
    fn at(mut vertex: Vertex, end: Option<(i64, i32)>) -> Vertex {
        let start = vertex.started.get_or_insert_default();
        start.seconds = 5;
        if let Some((seconds, nanos)) = end {
            let completed = vertex.completed.get_or_insert_default();
            (completed.seconds, completed.nanos) = (seconds, nanos);
        }
        vertex
    }

    #[test]
    fn a_build_is_told_line_by_line_and_its_failure_is_kept() {
        let lines = Lines::default();
        let mut teller = Teller::new(&lines);
        let (from, copy) = (vertex("a", "[1/3] FROM base"), vertex("d", "[2/3] COPY . ."));
        let run = vertex("b", "[3/3] RUN make\n  test");
        teller.tell(vertices(vec![from.clone(), copy.clone(), run.clone()]));
        teller.tell(vertices(vec![
            at(Vertex { cached: true, ..from }, Some((5, 0))),
            at(copy, Some((6, 500_000_000))),
            at(run.clone(), None),
        ]));
        teller.tell(output("b", 1, "compi"));
        teller.tell(output("b", 1, "ling\n10%\r20%\n"));
        teller.tell(output("b", 2, "no rule to make target"));
        let stopped = Vertex { error: "context canceled".into(), ..vertex("c", "x") };
        teller.tell(vertices(vec![
            at(stopped, Some((6, 0))),
            at(Vertex { error: "exit code: 2".into(), ..run }, Some((7, 0))),
        ]));
        let failed = teller.failed().unwrap();
        assert_eq!(
            failed,
            Failed {
                instruction: "[3/3] RUN make\n  test".into(),
                error: "exit code: 2".into(),
                tail: vec!["compiling".into(), "20%".into(), "no rule to make target".into()],
            }
        );
        insta::assert_snapshot!(lines.0.into_inner().unwrap().join("\n"), @r"
        Step: #1 [1/3] FROM base
        Step: #1 CACHED
        Step: #2 [2/3] COPY . .
        Step: #2 DONE 1.5s
        Step: #3 [3/3] RUN make test
        Stdout: #3 compiling
        Stdout: #3 20%
        Step: #4 x
        Step: #4 ERROR: context canceled
        Step: #3 ERROR: exit code: 2
        Stderr: #3 no rule to make target
        ");
    }

    #[test]
    fn hostile_output_stays_bounded() {
        let lines = Lines::default();
        let mut teller = Teller::new(&lines);
        for _ in 0..100 {
            teller.tell(output("a", 1, &"x".repeat(MAX_LINE)));
        }
        assert!(teller.vertices["a"].partial[0].len() <= MAX_LINE);
        teller.tell(output("a", 1, "\n"));
        assert_eq!(lines.0.lock().unwrap()[0].len(), "Stdout: #1 ".len() + MAX_LINE);
        let many = (0..MAX_VERTICES + 10).map(|n| vertex(&n.to_string(), "v")).collect();
        teller.tell(vertices(many));
        assert!(teller.vertices.len() <= MAX_VERTICES + 1);
    }
}
