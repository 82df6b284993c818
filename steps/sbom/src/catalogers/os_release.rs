//! The name of the operating system: `os-release(5)`.

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::Said;

/// Reads the name of the operating system.
pub(super) struct Os;

impl Cataloger for Os {
    fn name(&self) -> &'static str {
        "os-release"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        // The links `/etc/os-release` and `/usr/lib/os-release` may both lead elsewhere.
        place.name.starts_with("os-release")
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        Ok(read(&content.text()?).map(|os| Said { os: Some(os), ..Said::default() }))
    }

    fn describes(&self) -> bool {
        false
    }
}

/// Which distribution an image is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// The distribution's short name, such as `debian`.
    pub id: String,
    /// The version, such as `12`. Rolling distributions have none.
    pub version: Option<String>,
    /// The name for people, such as `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: Option<String>,
}

impl OsRelease {
    /// The value of the purl qualifier `distro`, such as `debian-12`.
    #[must_use]
    pub fn distro(&self) -> String {
        match &self.version {
            Some(version) => format!("{}-{version}", self.id),
            None => self.id.clone(),
        }
    }
}

/// What the file says; `None` without an `ID`.
pub(crate) fn read(text: &str) -> Option<OsRelease> {
    let mut found = OsRelease::default();
    let mut build = None;
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = unquoted(value.trim());
        let kept = Some(value.clone()).filter(|value| !value.is_empty());
        match key {
            "ID" => found.id = value,
            "VERSION_ID" => found.version = kept,
            "BUILD_ID" => build = kept,
            "PRETTY_NAME" => found.pretty_name = kept,
            _ => {}
        }
    }
    found.version = found.version.or(build);
    (!found.id.is_empty()).then_some(found)
}

/// The value without the quotes and backslashes of the shell.
fn unquoted(value: &str) -> String {
    let inner =
        ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut out = String::new();
    let mut escaped = false;
    for c in inner.unwrap_or(value).chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_their_quotes() {
        let found =
            read("NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n# x\nPRETTY_NAME='A \\\" B'\n");
        let found = found.unwrap();
        assert_eq!(found.distro(), "debian-12");
        assert_eq!(found.pretty_name.as_deref(), Some("A \" B"));
    }

    #[test]
    fn a_rolling_distribution_has_no_version() {
        assert_eq!(read("ID=wolfi\n").unwrap().distro(), "wolfi");
        assert_eq!(read("ID=arch\nBUILD_ID=rolling\n").unwrap().distro(), "arch-rolling");
        assert_eq!(read("NAME=x\n"), None);
    }
}
