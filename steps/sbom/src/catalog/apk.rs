//! Alpine's package database: `lib/apk/db/installed`, one letter a field.

use super::Unreadable;
use crate::evidence::Kind;
use crate::path::hash;

/// An Alpine package that is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    /// The package that it was built from.
    pub(crate) origin: Option<String>,
    pub(crate) license: Option<String>,
    /// Its files that describe packages of another ecosystem, without a leading slash.
    pub(crate) paths: Vec<Box<str>>,
    /// The hashes of the paths of all its files.
    pub(crate) all: Vec<u64>,
}

impl Installed {
    pub(crate) fn text_len(&self) -> usize {
        let paths: usize = self.paths.iter().map(|path| 16 + path.len()).sum();
        self.name.len() + self.version.len() + paths + 8 * self.all.len()
    }
}

/// The packages of a database.
///
/// # Errors
/// When a text that is not empty holds no package at all.
pub(crate) fn installed(text: &str) -> Result<Vec<Installed>, Unreadable> {
    let mut found = Vec::new();
    let mut package = Installed::default();
    let mut folder = "";
    // The last block may end with the file instead of an empty line.
    for line in text.lines().chain([""]) {
        let Some((field, value)) = line.split_once(':') else {
            let mut done = std::mem::take(&mut package);
            done.all.shrink_to_fit();
            folder = "";
            if !done.name.is_empty() && !done.version.is_empty() {
                found.push(done);
            }
            continue;
        };
        let owned = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match field {
            "P" => package.name = value.to_owned(),
            "V" => package.version = value.to_owned(),
            "A" => package.arch = value.to_owned(),
            "o" => package.origin = owned(),
            "L" => package.license = owned(),
            "F" => folder = value,
            "R" => {
                let separator = if folder.is_empty() { "" } else { "/" };
                let path = format!("{folder}{separator}{value}");
                package.all.push(hash(&path));
                if matches!(Kind::of(&path), Some(Kind::Python | Kind::Node)) {
                    package.paths.push(path.into());
                }
            }
            _ => {}
        }
    }
    if found.is_empty() && !text.trim().is_empty() {
        let problem = "it holds no block with `P:` and `V:`, so it is no database of apk";
        return Err(Unreadable::Lost(problem.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_up_to_the_end_of_the_file() {
        let text = "\
C:Q1=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\n\
P:py3-six\nV:1.16.0-r6\nA:x86_64\nL:MIT\no:six\nF:usr/lib/python3.11/site-packages/six.egg-info\n\
R:PKG-INFO\nZ:Q1=";
        let found = installed(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].name, &*found[0].version), ("musl", "1.2.4-r2"));
        assert_eq!(found[1].origin.as_deref(), Some("six"));
        assert_eq!(
            found[1].paths,
            ["usr/lib/python3.11/site-packages/six.egg-info/PKG-INFO".into()]
        );
        assert!(installed("").unwrap().is_empty());
        assert!(installed("nothing of the kind\n").is_err());
    }
}
