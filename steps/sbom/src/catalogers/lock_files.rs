//! Lock files: what a project asks for, by exact versions. They are read of folders of sources; in
//! an image they would list what was never installed.

use serde::Deserialize;
use serde_json::Value;

use super::php::ComposerPackage;
use super::{Cataloger, Place, Unreadable};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::{Ecosystem, FileHash};

/// Reads lock files.
pub(super) struct LockFiles;

const NAMES: [&str; 10] = [
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "Cargo.lock",
    "poetry.lock",
    "uv.lock",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "packages.lock.json",
];

impl Cataloger for LockFiles {
    fn name(&self) -> &'static str {
        "lock-files"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        NAMES.contains(&place.name) || is_requirements(place.name)
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let text = content.text()?;
        let name = Place::of(path).name;
        let entries = match name {
            "package-lock.json" | "npm-shrinkwrap.json" => npm(&text)?,
            "yarn.lock" => yarn(&text),
            "Cargo.lock" => toml_packages(&text, Ecosystem::Cargo),
            "poetry.lock" | "uv.lock" => toml_packages(&text, Ecosystem::Pypi),
            "go.sum" => go_sum(&text),
            "Gemfile.lock" => gemfile(&text),
            "composer.lock" => composer(&text)?,
            "packages.lock.json" => nuget(&text)?,
            _ => requirements(&text),
        };
        Ok(Some(entries.into()))
    }

    fn describes(&self) -> bool {
        false
    }

    fn is_of_sources(&self) -> bool {
        true
    }
}

fn is_requirements(name: &str) -> bool {
    name.strip_suffix(".txt").is_some_and(|stem| stem.starts_with("requirements"))
}

fn no_lock(error: &serde_json::Error) -> Unreadable {
    Unreadable::Lost(format!("it is no lock file: {error}"))
}

/// `package-lock.json`, of version 1 (nested) and of versions 2 and 3 (by path).
fn npm(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let lock: Value = serde_json::from_str(text).map_err(|error| no_lock(&error))?;
    let entry = |name: &str, one: &Value| {
        let version = one.get("version")?.as_str()?;
        // Links lead to folders of the project itself, and other versions are addresses.
        let own = one.get("link").and_then(Value::as_bool).unwrap_or_default();
        let plain = version.starts_with(|c: char| c.is_ascii_digit());
        (!own && plain).then(|| Entry {
            license: one.get("license").and_then(Value::as_str).map(str::to_owned),
            ..Entry::split(Ecosystem::Npm, name, version)
        })
    };
    let mut found = Vec::new();
    if let Some(packages) = lock.get("packages").and_then(Value::as_object) {
        for (path, one) in packages {
            let Some((_, name)) = path.rsplit_once("node_modules/") else { continue };
            // An alias says the true name inside.
            let name = one.get("name").and_then(Value::as_str).unwrap_or(name);
            found.extend(entry(name, one));
        }
        return Ok(found);
    }
    let mut todo: Vec<&Value> = lock.get("dependencies").into_iter().collect();
    while let Some(all) = todo.pop() {
        for (name, one) in all.as_object().into_iter().flatten() {
            found.extend(entry(name, one));
            todo.extend(one.get("dependencies"));
        }
    }
    Ok(found)
}

/// `yarn.lock`, of Yarn 1 and of later ones: `"name@range", …:` and the version below it.
fn yarn(text: &str) -> Vec<Entry> {
    let mut name: Option<&str> = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if !line.starts_with(' ') {
            let first = line.trim_end_matches(':').split(',').next().unwrap_or_default();
            let first = first.trim().trim_matches('"');
            let at = first.get(1..).and_then(|rest| rest.find('@')).map(|at| at + 1);
            let registry = !first.contains("@workspace:") && !first.contains("@link:");
            name = at.map(|at| &first[..at]).filter(|_| registry);
            continue;
        }
        let Some(rest) = line.trim().strip_prefix("version") else { continue };
        let version = rest.trim_start_matches(':').trim().trim_matches('"');
        let plain = version.starts_with(|c: char| c.is_ascii_digit());
        if let Some(name) = name.take().filter(|_| plain) {
            found.push(Entry::split(Ecosystem::Npm, name, version));
        }
    }
    found
}

/// The tables `[[package]]` of `Cargo.lock`, `poetry.lock` and `uv.lock`.
fn toml_packages(text: &str, ecosystem: Ecosystem) -> Vec<Entry> {
    let mut found = Vec::new();
    for table in text.split("[[package]]").skip(1) {
        // Tables within a package come behind its own values.
        let own = table.split("\n[").next().unwrap_or_default();
        let get = |key: &str| {
            let value = own
                .lines()
                .find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix('='));
            value?.trim().strip_prefix('"')?.split('"').next()
        };
        let (Some(name), Some(version)) = (get("name"), get("version")) else { continue };
        let checksum = get("checksum")
            .filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        found.push(Entry {
            hashes: checksum
                .map(|hex| FileHash { algorithm: "SHA-256", hex: hex.to_ascii_lowercase() })
                .into_iter()
                .collect(),
            ..Entry::new(ecosystem, name, version)
        });
    }
    found
}

/// `go.sum`: the lines of the modules themselves, without those of their `go.mod` alone.
fn go_sum(text: &str) -> Vec<Entry> {
    let modules = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (path, version) = (words.next()?, words.next()?);
        let module = !version.ends_with("/go.mod") && words.next()?.starts_with("h1:");
        module.then(|| Entry::split(Ecosystem::Golang, path, version))
    });
    modules.collect()
}

/// `Gemfile.lock`: what stands four spaces deep below `specs:`.
fn gemfile(text: &str) -> Vec<Entry> {
    let gems = text.lines().filter_map(|line| {
        let spec = line.strip_prefix("    ").filter(|rest| !rest.starts_with(' '))?;
        let (name, version) = spec.split_once(" (")?;
        let version = version.strip_suffix(')')?;
        let plain = version.starts_with(|c: char| c.is_ascii_digit());
        plain.then(|| Entry::new(Ecosystem::Gem, name, version))
    });
    gems.collect()
}

fn composer(text: &str) -> Result<Vec<Entry>, Unreadable> {
    #[derive(Deserialize)]
    struct Lock {
        packages: Vec<ComposerPackage>,
        #[serde(default, rename = "packages-dev")]
        dev: Vec<ComposerPackage>,
    }
    let lock: Lock = serde_json::from_str(text).map_err(|error| no_lock(&error))?;
    Ok(lock.packages.into_iter().chain(lock.dev).map(ComposerPackage::entry).collect())
}

fn nuget(text: &str) -> Result<Vec<Entry>, Unreadable> {
    let lock: Value = serde_json::from_str(text).map_err(|error| no_lock(&error))?;
    let frameworks = lock.get("dependencies").and_then(Value::as_object).into_iter().flatten();
    let packages = frameworks.filter_map(|(_, all)| all.as_object()).flatten();
    let entry = |(name, one): (&String, &Value)| {
        Some(Entry::new(Ecosystem::Nuget, name, one.get("resolved")?.as_str()?))
    };
    Ok(packages.filter_map(entry).collect())
}

/// `requirements.txt`: what is pinned to one version.
fn requirements(text: &str) -> Vec<Entry> {
    let pinned = text.lines().filter_map(|line| {
        let line = line.split(['#', ';', '\\']).next()?.trim();
        let (name, version) = line.split_once("==")?;
        let name = name.split('[').next()?.trim();
        let version = version.trim_start_matches(['=', ' ']).split([',', ' ']).next()?;
        let plain = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && version.starts_with(|c: char| c.is_ascii_digit())
            && !version.contains('*');
        plain.then(|| Entry::new(Ecosystem::Pypi, name, version))
    });
    pinned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> String {
        let said = LockFiles.read(path, &Content::of(text.as_bytes())).unwrap().unwrap();
        let purls: Vec<_> = said.packages.iter().map(|entry| entry.purl(None).unwrap()).collect();
        purls.join(" ")
    }

    #[test]
    fn every_lock_file_is_read() {
        for (path, text, want) in [
            (
                "package-lock.json",
                r#"{"lockfileVersion": 3, "packages": {"": {"name": "me", "version": "1.0.0"},
                  "node_modules/@s/a": {"version": "1.2.3"}, "lib": {"version": "0.0.1"},
                  "node_modules/b/node_modules/c": {"version": "2.0.0", "name": "d"},
                  "node_modules/lib": {"link": true, "version": "1.0.0"}}}"#,
                "pkg:npm/%40s/a@1.2.3 pkg:npm/d@2.0.0",
            ),
            (
                "npm-shrinkwrap.json",
                r#"{"dependencies": {"a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0"}}},
                  "c": {"version": "file:../c"}}}"#,
                "pkg:npm/a@1.0.0 pkg:npm/b@2.0.0",
            ),
            (
                "yarn.lock",
                "# yarn lockfile v1\n\n\"@s/a@^1.0.0\", \"@s/a@^1.1.0\":\n  version \"1.2.0\"\n  dependencies:\n    version \"9\"\n\nb@~2:\n  version: 2.0.1\n\n\"me@workspace:.\":\n  version: 0.0.0-use.local\n",
                "pkg:npm/%40s/a@1.2.0 pkg:npm/b@2.0.1",
            ),
            (
                "Cargo.lock",
                "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\ndependencies = [\n \"x\",\n]\n",
                "pkg:cargo/serde@1.0.1",
            ),
            (
                "poetry.lock",
                "[[package]]\nname = \"Flask\"\nversion = \"3.0.0\"\n\n[package.dependencies]\nversion = \"9\"\n",
                "pkg:pypi/flask@3.0.0",
            ),
            (
                "go.sum",
                "golang.org/x/net v0.1.0 h1:a=\ngolang.org/x/net v0.1.0/go.mod h1:b=\n",
                "pkg:golang/golang.org/x/net@v0.1.0",
            ),
            (
                "Gemfile.lock",
                "GEM\n  remote: https://x/\n  specs:\n    rack (3.0.8)\n    rails (7.0.0)\n      rack (>= 2)\n\nPLATFORMS\n  ruby\n",
                "pkg:gem/rack@3.0.8 pkg:gem/rails@7.0.0",
            ),
            (
                "composer.lock",
                r#"{"packages": [{"name": "a/b", "version": "v1.0"}], "packages-dev": [{"name": "a/c", "version": "2"}]}"#,
                "pkg:composer/a/b@v1.0 pkg:composer/a/c@2",
            ),
            (
                "packages.lock.json",
                r#"{"version": 1, "dependencies": {"net8.0": {"Serilog": {"type": "Direct", "resolved": "3.1.1"},
                  "me": {"type": "Project"}}}}"#,
                "pkg:nuget/Serilog@3.1.1",
            ),
            (
                "requirements-dev.txt",
                "-r x.txt\nFlask[async]==3.0.0 ; python_version > '3'\nsix==1.* \nx>=1\nb == 2.0 \\\n  --hash=sha256:00\n",
                "pkg:pypi/flask@3.0.0 pkg:pypi/b@2.0",
            ),
        ] {
            assert_eq!(check(path, text), want, "{path}");
        }
        assert!(LockFiles.read("composer.lock", &Content::of(b"{")).is_err());
    }
}
