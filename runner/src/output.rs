//! The one place that writes to the terminal: data on standard output, the rest on standard error.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::Stop;

/// When to use color.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The terminal, as far as the program uses it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    color: bool,
    live: bool,
}

/// A style of text. Everything must make sense without it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Good,
    Bad,
    Warn,
    Dim,
    Bold,
}

impl Output {
    pub(crate) fn new(color: Color) -> Self {
        let terminal = std::io::stderr().is_terminal();
        #[expect(clippy::disallowed_methods, reason = "the convention of no-color is a variable")]
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let color = match color {
            Color::Auto => terminal && wanted,
            Color::Always => true,
            Color::Never => false,
        };
        Self { color, live: terminal }
    }

    /// Whether a person watches standard error.
    pub(crate) const fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) const fn color(&self) -> bool {
        self.color
    }

    pub(crate) fn paint(&self, style: Style, text: impl std::fmt::Display) -> String {
        let code = match style {
            Style::Good => "32",
            Style::Bad => "31",
            Style::Warn => "33",
            Style::Dim => "2",
            Style::Bold => "1",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Writes data. A reader that left, such as `head`, has had enough: that is no error.
    pub(crate) fn data(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes());
        if !text.ends_with('\n') {
            let _ = out.write_all(b"\n");
        }
        let _ = out.flush();
    }

    /// Writes data as JSON, indented.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Stop::internal("cannot write JSON").because(&e))?;
        self.data(text);
        Ok(())
    }

    /// Writes a line for people.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        // Standard error has no buffer: a line is one write.
        let _ = std::io::stderr().lock().write_all(format!("{}\n", text.as_ref()).as_bytes());
    }

    /// Tells why a command ended early.
    pub(crate) fn stop(&self, stop: &Stop) {
        if !stop.message.is_empty() {
            self.say(format!("{} {}", self.paint(Style::Bad, "error:"), stop.message));
        }
        for hint in &stop.hints {
            self.say(format!("{} {hint}", self.paint(Style::Warn, "hint:")));
        }
    }
}

/// Text that programs wrote, without what would steer the terminal: colors stay, anything else that
/// is not text shows as a mark.
pub(crate) fn tame(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut tamed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = color_sequence(rest) {
            tamed.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        tamed.push(if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
        rest = &rest[c.len_utf8()..];
    }
    tamed.push_str("\x1b[0m");
    Cow::Owned(tamed)
}

/// The length of the sequence that sets colors (ECMA-48, SGR) at the start of `text`.
fn color_sequence(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    (body.as_bytes()[end] == b'm').then_some(end + 3)
}

/// Sends the program's own log to standard error: warnings, or more where `-v` or `FAIRLEAD_LOG`
/// ask for it.
pub(crate) fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = match verbose {
        0 => "warn,fairlead_server=info",
        1 => "info",
        _ => "debug,hyper=info,h2=info,rustls=info,sqlx=info",
    };
    let filter =
        EnvFilter::try_from_env("FAIRLEAD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colors_reach_the_terminal() {
        assert_eq!(tame("plain\ttext"), "plain\ttext");
        assert_eq!(tame("\x1b[1;31mred\x1b[0m"), "\x1b[1;31mred\x1b[0m\x1b[0m");
        assert_eq!(tame("\x1b[2Jgone\x07"), "\u{fffd}[2Jgone\u{fffd}\x1b[0m");
        assert_eq!(tame("\x1b["), "\u{fffd}[\x1b[0m");
    }
}
