//! Paths within an image: one spelling for each place, and no way out of the root.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Why a name may not stand in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// It begins with `/`.
    #[error("the name is absolute")]
    Absolute,
    /// It has a `..` in it.
    #[error("the name leads out of the layer with `..`")]
    Parent,
    /// It is longer than any file system takes.
    #[error("the name is longer than 4096 bytes")]
    Long,
}

/// The longest path, as Linux has it (`PATH_MAX`).
const LONGEST: usize = 4096;

/// How many symbolic links one lookup follows, as Linux does, before it gives up.
const HOPS: usize = 40;

/// The one spelling of an entry's name: no leading `./`, no empty or `.` parts, no slash at the
/// end. The root is the empty text.
///
/// # Errors
/// For a name that is absolute, goes up, or is too long.
pub(crate) fn entry_path(raw: &[u8]) -> Result<String, PathProblem> {
    if raw.first() == Some(&b'/') && raw.iter().any(|b| *b != b'/') {
        return Err(PathProblem::Absolute);
    }
    relative_path(raw)
}

/// The one spelling of the target of a hard link. Some builders write it absolute and mean the
/// image's root, as every unpacker does.
///
/// # Errors
/// For a target that goes up or is too long.
pub(crate) fn relative_path(raw: &[u8]) -> Result<String, PathProblem> {
    if raw.len() > LONGEST {
        return Err(PathProblem::Long);
    }
    let text = String::from_utf8_lossy(raw);
    // Most names are clean already: then this is one scan and one copy.
    let text = text.strip_prefix("./").unwrap_or(&text);
    let text = text.strip_suffix('/').unwrap_or(text);
    if !text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Ok(text.to_owned());
    }
    let mut clean = String::with_capacity(text.len());
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(PathProblem::Parent),
            part => {
                if !clean.is_empty() {
                    clean.push('/');
                }
                clean.push_str(part);
            }
        }
    }
    Ok(clean)
}

/// A path in eight bytes, for sets of very many of them. The same in every run.
pub(crate) fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The symbolic links of an image, by the path of each.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<Box<str>, Box<str>>);

impl Links {
    pub(crate) fn insert(&mut self, path: Box<str>, target: Box<str>) {
        self.0.insert(path, target);
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    pub(crate) fn remove_below(&mut self, path: &str) {
        remove_below(&mut self.0, path);
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|path, _| keep(path));
    }

    /// Where `path` leads when every link on the way to its last part is followed.
    pub(crate) fn resolve_parent(&self, path: &str) -> String {
        match path.rsplit_once('/') {
            None => path.to_owned(),
            Some((parent, name)) => join(&self.resolve(parent), name),
        }
    }

    /// Where `path` leads when every link is followed, the last one too. A target is taken within
    /// the root: `..` at the root stays there. A loop ends where the count of hops ran out.
    pub(crate) fn resolve(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut done = String::new();
        let mut hops = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    done.truncate(done.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&done, &part);
            match self.0.get(next.as_str()) {
                Some(target) if hops < HOPS && next.len() + target.len() <= LONGEST => {
                    hops += 1;
                    if target.starts_with('/') {
                        done.clear();
                    }
                    todo.extend(target.rsplit('/').map(str::to_owned));
                }
                _ => done = next,
            }
        }
        done
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// Removes every key below the directory `path`; below the root that is everything.
pub(crate) fn remove_below<V>(map: &mut BTreeMap<Box<str>, V>, path: &str) {
    if path.is_empty() {
        map.clear();
        return;
    }
    let from = format!("{path}/");
    let below: Vec<Box<str>> = map
        .range(Box::from(from.as_str())..)
        .map(|(key, _)| key)
        .take_while(|key| key.starts_with(&from))
        .cloned()
        .collect();
    for key in below {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        for (raw, want) in [
            ("a/b", Ok("a/b")),
            ("./a//b/./c/", Ok("a/b/c")),
            ("./", Ok("")),
            (".", Ok("")),
            ("/", Ok("")),
            ("a..b/..c", Ok("a..b/..c")),
            ("/etc/passwd", Err(PathProblem::Absolute)),
            ("//etc", Err(PathProblem::Absolute)),
            ("..", Err(PathProblem::Parent)),
            ("a/../../etc/passwd", Err(PathProblem::Parent)),
            (&"x/".repeat(3000), Err(PathProblem::Long)),
        ] {
            let got = entry_path(raw.as_bytes());
            assert_eq!(got.as_deref().map_err(|e| *e), want, "{raw}");
        }
        assert_eq!(relative_path(b"/usr/bin/perl").unwrap(), "usr/bin/perl");
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let mut links = Links::default();
        for (path, target) in [
            ("lib", "usr/lib"),
            ("etc/os-release", "../usr/lib/os-release"),
            ("opt/out", "../../../../etc"),
            ("opt/abs", "/lib/apk"),
            ("loop", "loop"),
            ("ping", "pong/x"),
            ("pong", "ping/x"),
        ] {
            links.insert(path.into(), target.into());
        }
        for (path, want) in [
            ("lib/apk/db/installed", "usr/lib/apk/db/installed"),
            ("etc/os-release", "usr/lib/os-release"),
            ("opt/out/passwd", "etc/passwd"),
            ("opt/abs/db", "usr/lib/apk/db"),
            ("loop", "loop"),
            ("usr/bin/x", "usr/bin/x"),
        ] {
            assert_eq!(links.resolve(path), want, "{path}");
        }
        assert_eq!(links.resolve_parent("lib"), "lib");
        assert_eq!(links.resolve_parent("lib/x"), "usr/lib/x");
        // Two links that grow at every hop end too.
        assert!(links.resolve("ping").len() < 1000);
    }
}
