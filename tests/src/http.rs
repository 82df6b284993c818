//! Plain HTTP to servers on this machine: one request, one connection, the bytes as they are.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, as they came.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one request to `url`, such as `http://127.0.0.1:5000/v2/`. `None` when nobody answers.
///
/// # Panics
/// When the URL is not plain HTTP, or what answers does not speak it.
#[must_use]
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    send_within(LIMIT, method, url, headers, body)
}

/// The same to a server that may be stopped or cut off: `None`, too, when its answer does not come in time.
///
/// # Panics
/// As [`send`].
#[must_use]
pub fn send_within(
    limit: Duration,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let rest = url.strip_prefix("http://").expect("a plain HTTP address");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).expect("a timeout");
    stream.set_write_timeout(Some(limit)).expect("a timeout");
    // Of a client of HTTP/1.0 the end of the connection is the end of the body.
    let mut request = format!("{method} /{path} HTTP/1.0\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let (first, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Some(Answer { status, headers: headers.to_owned(), body: answer[end + 4..].to_vec() })
}
