//! A run at a server, followed as it happens: its stream of events, begun again where it was cut.

use std::time::Duration;

use fairlead_exec::Update;
use fairlead_run::{LogKey, LogLine, Record};
use fairlead_step::{Progress, RunId};
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use serde_json::Value;

use super::ports::stream;
use super::{Client, Failed, LONGEST_PAUSE, PAUSE, json};

/// How long a server may be away before a follower gives up.
const PATIENCE: Duration = Duration::from_secs(600);
/// The most bytes of one event of the stream: a record has at most 4 MiB.
const MOST_EVENT: usize = 16 << 20;
/// Without a sign of life for so long the stream is begun again: the server sends one every 15 s.
const SILENCE: Duration = Duration::from_secs(50);

/// What a follower is told.
pub(crate) enum Followed {
    /// Something happened.
    Update(Update),
    /// The connection was cut, and stands again. Lines of logs may have been missed.
    Cut,
}

/// One event of a stream.
#[derive(Default)]
struct Event {
    id: Option<u64>,
    kind: String,
    data: String,
}

/// Takes the lines of a stream, and gives its events.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    event: Event,
}

impl Reader {
    /// Takes the next bytes; none when they make too large an event.
    fn take(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Option<()> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.event.data.len() > MOST_EVENT {
                    return None;
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    events.push(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.event.id = value.parse().ok(),
                "event" => value.clone_into(&mut self.event.kind),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                // A comment is a sign of life.
                _ => {}
            }
        }
        Some(())
    }
}

impl Client {
    /// Follows a run until it has ended, or `tell` wants no more.
    pub(crate) async fn follow(
        &self,
        run: &RunId,
        mut tell: impl FnMut(Followed) -> bool,
    ) -> Result<(), Failed> {
        let mut last: Option<u64> = None;
        let mut pause = PAUSE;
        let mut away = Duration::ZERO;
        let mut first = true;
        loop {
            let began = last;
            match self.stream(run, &mut last, &mut first, &mut tell).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error @ Failed::LoggedOut(_)) => return Err(error),
                Err(error @ Failed::Refused { status, .. })
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    return Err(error);
                }
                Err(error) if away >= PATIENCE => return Err(error),
                Err(_) => {}
            }
            if last != began {
                (pause, away) = (PAUSE, Duration::ZERO);
            }
            tokio::time::sleep(pause).await;
            away += pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection: true when there is nothing more to come.
    async fn stream(
        &self,
        run: &RunId,
        last: &mut Option<u64>,
        first: &mut bool,
        tell: &mut impl FnMut(Followed) -> bool,
    ) -> Result<bool, Failed> {
        let url = format!("{}/api/v1/runs/{run}/events", self.base);
        let request = self.as_us(self.http.get(url)).await?;
        let mut request = request.header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let mut answer = request.send().await.map_err(|error| self.away(&error))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let problem = json(answer).await.unwrap_or(Value::Null);
            return Err(Failed::Refused { status, problem });
        }
        if !std::mem::take(first) && !tell(Followed::Cut) {
            return Ok(true);
        }
        let mut reader = Reader::default();
        let mut events = Vec::new();
        loop {
            let piece = match tokio::time::timeout(SILENCE, answer.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                // It may be the end of the run, of the server, or of the connection.
                Ok(Ok(None) | Err(_)) | Err(_) => return Ok(false),
            };
            if reader.take(&piece, &mut events).is_none() {
                return Err(Failed::Away("an event of the server is too large".to_owned()));
            }
            for event in events.drain(..) {
                let Some(update) = update(run, &event) else { continue };
                let ended = match &update {
                    Update::Record { record, .. } => {
                        *last = event.id.or(Some(record.seq().0));
                        record.event().ends_as().is_some()
                    }
                    Update::Line { .. }
                    | Update::Progress { .. }
                    | Update::Notice { .. }
                    | Update::Missed { .. } => false,
                };
                if !tell(Followed::Update(update)) || ended {
                    return Ok(true);
                }
            }
        }
    }
}

/// What an event of the stream says; none where a newer server says something new.
fn update(run: &RunId, event: &Event) -> Option<Update> {
    if event.kind == "record" {
        let record = Record::read(&event.data).ok()?;
        return Some(Update::Record { run: run.clone(), record });
    }
    let data: Value = serde_json::from_str(&event.data).ok()?;
    let text = |key: &str| data.get(key).and_then(Value::as_str);
    let log = || {
        Some(LogKey {
            run: run.clone(),
            step: text("step")?.parse().ok()?,
            attempt: u32::try_from(data.get("attempt")?.as_u64()?).ok()?,
        })
    };
    match event.kind.as_str() {
        "line" => {
            let line = LogLine {
                at: text("at")?.parse().ok()?,
                stream: stream(text("stream")?),
                text: text("text")?.to_owned(),
            };
            Some(Update::Line { log: log()?, line })
        }
        "progress" => {
            let progress = Progress {
                what: text("what")?.to_owned(),
                done: data.get("done")?.as_u64()?,
                total: data.get("total").and_then(Value::as_u64),
            };
            Some(Update::Progress { log: log()?, progress })
        }
        "notice" => Some(Update::Notice { run: run.clone(), message: text("message")?.to_owned() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_however_it_is_cut_into_pieces() {
        let text = ": sign of life\n\nevent: line\nid: 7\ndata: {\"a\":\ndata: 1}\n\n\
                    event: notice\r\ndata:x\r\n\r\ndata: half";
        for size in 1..text.len() {
            let (mut reader, mut events) = (Reader::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                reader.take(piece, &mut events).unwrap();
            }
            let seen: Vec<_> =
                events.iter().map(|e| (e.id, e.kind.as_str(), e.data.as_str())).collect();
            let want = [(Some(7), "line", "{\"a\":\n1}"), (None, "notice", "x")];
            assert_eq!(seen, want, "in pieces of {size}");
        }
    }
}
