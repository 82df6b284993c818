//! Ruby's gems: the specifications that RubyGems generates when it installs one. They are programs,
//! and are never run: the line that RubyGems itself reads first, and plain assignments.

use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::Ecosystem;
use crate::unassessed::UnassessedKind;

/// Reads installed specifications.
pub(super) struct Ruby;

impl Cataloger for Ruby {
    fn name(&self) -> &'static str {
        "ruby"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.has_extension(&["gemspec"])
            && (place.folder_is("specifications") || place.folder_is("specifications/default"))
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        if content.len() == 0 {
            return Ok(None);
        }
        match specification(Place::of(path).name, &content.text()?) {
            Some(entry) => Ok(Some(entry.into())),
            None => Err(Unreadable::lost("it names no gem and no version")),
        }
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::RubyGem
    }
}

/// What a specification says; the file's name says what it leaves out.
fn specification(file: &str, text: &str) -> Option<Entry> {
    // `# stub: NAME VERSION PLATFORM REQUIRE_PATHS`
    let stub = text.lines().take(10).find_map(|line| line.trim().strip_prefix("# stub: "));
    let mut stub = stub.map(str::split_whitespace).into_iter().flatten();
    let stub = (stub.next(), stub.next(), stub.next());
    let by_name = file.strip_suffix(".gemspec").and_then(|stem| {
        let at = stem
            .match_indices('-')
            .map(|(at, _)| at)
            .rev()
            .find(|at| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
        Some((&stem[..at], &stem[at + 1..]))
    });
    let name = stub.0.map(str::to_owned).or_else(|| assigned(text, "name"));
    let version = stub.1.map(str::to_owned).or_else(|| assigned(text, "version"));
    let name = name.or_else(|| Some(by_name?.0.to_owned()))?;
    let version = version.or_else(|| Some(by_name?.1.to_owned()))?;
    let good = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !good(&name) || !good(&version) {
        return None;
    }
    let platform = stub.2.map(str::to_owned).or_else(|| assigned(text, "platform"));
    let platform = platform.filter(|platform| platform != "ruby" && good(platform));
    let licenses = assigned_list(text, "licenses");
    let license = licenses.or_else(|| assigned(text, "license"));
    Some(Entry {
        qualifiers: platform.into_iter().map(|platform| ("platform", platform)).collect(),
        license,
        supplier: assigned_list(text, "authors").or_else(|| assigned(text, "author")),
        ..Entry::new(Ecosystem::Gem, name, version)
    })
}

/// The value behind `.KEY =`, in the first line that has it.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (variable, rest) = line.trim().split_once('.')?;
        let rest = rest.strip_prefix(key)?.trim_start().strip_prefix('=')?;
        let variable = variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (variable && !rest.starts_with('=')).then(|| rest.trim())
    })
}

/// The first text in quotes, and what stands behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (at, quote) = text.char_indices().find(|(_, c)| matches!(c, '"' | '\''))?;
    text[at + 1..].split_once(quote)
}

/// The text that is assigned to `.KEY`: `"x"`, `"x".freeze`, `Gem::Version.new("x")`.
fn assigned(text: &str, key: &str) -> Option<String> {
    let value = value(text, key)?;
    let plain = value.starts_with(['"', '\'']) || value.starts_with("Gem::Version.new");
    let (inner, _) = quoted(value).filter(|_| plain)?;
    Some(inner.to_owned()).filter(|inner| !inner.is_empty() && inner.len() <= 200)
}

/// The texts of the list that is assigned to `.KEY`, on one line.
fn assigned_list(text: &str, key: &str) -> Option<String> {
    let mut rest = value(text, key)?.strip_prefix('[')?;
    let mut all = Vec::new();
    while let Some((one, behind)) = quoted(rest).filter(|_| all.len() < 20) {
        all.push(one);
        rest = behind;
    }
    let separator = if key == "licenses" { " OR " } else { ", " };
    let all = all.join(separator);
    Some(all).filter(|all| !all.is_empty() && all.len() <= 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(file: &str, text: &str) -> Option<(String, Option<String>)> {
        specification(file, text).map(|entry| (entry.purl(None).unwrap(), entry.license))
    }

    #[test]
    fn specifications_are_read_and_never_run() {
        let generated = "# -*- encoding: utf-8 -*-\n# stub: nokogiri 1.15.4 x86_64-linux lib\n\n\
                         Gem::Specification.new do |s|\n  s.name = \"other\".freeze\n\
                         \x20 s.licenses = [\"MIT\".freeze, \"Ruby\".freeze]\nend\n";
        let purl = "pkg:gem/nokogiri@1.15.4?platform=x86_64-linux";
        assert_eq!(brief("x", generated), Some((purl.into(), Some("MIT OR Ruby".into()))));
        let plain = "Gem::Specification.new do |s|\n  s.name = 'rake'\n\
                     \x20 s.version = Gem::Version.new(\"13.0.6\")\n  s.license = \"MIT\"\nend\n";
        assert_eq!(brief("x", plain), Some(("pkg:gem/rake@13.0.6".into(), Some("MIT".into()))));
        let computed =
            "Gem::Specification.new do |s|\n  s.name = NAME\n  s.version = X::VERSION\nend";
        let by_name = Some(("pkg:gem/net-http@0.3.0.1".into(), None));
        assert_eq!(brief("net-http-0.3.0.1.gemspec", computed), by_name);
        assert_eq!(brief("net-http.gemspec", computed), None);
        assert_eq!(brief("x.gemspec", "s.name = \"a b\"\ns.version = \"1\"\n"), None);
    }
}
