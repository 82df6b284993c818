//! Java archives, those that lie in archives too: coordinates that Maven wrote into them, and where
//! there are none, what the manifest and the file's name say. A group that nobody wrote down is
//! never made up: an archive without one is listed as what it is called, and marked as a guess.

use std::io::{Cursor, Read, Seek};

use sha2::{Digest as _, Sha256};

use super::{Candidate, Cataloger, Place, Unreadable, Want};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::package::{Certainty, Ecosystem, FileHash};
use crate::unassessed::UnassessedKind;
use crate::zipped::{self, Zipped, ZippedError};

/// Reads Java archives.
pub(super) struct Java;

const EXTENSIONS: [&str; 10] =
    ["jar", "war", "ear", "par", "sar", "nar", "kar", "jpi", "hpi", "lpkg"];

/// How deep archives in archives are read.
const DEPTH: usize = 4;

/// The most bytes of a manifest, or of coordinates.
const TEXT: u64 = 1 << 20;

/// The most bytes of an archive in an archive, half as many for each level below, since they are all
/// in memory at once; and of all those in one file.
const NESTED: u64 = 128 << 20;
const ALL_NESTED: u64 = 1 << 30;

/// The most packages that one file names.
const PACKAGES: usize = 20_000;

impl Cataloger for Java {
    fn name(&self) -> &'static str {
        "java"
    }

    fn names(&self, place: &Place<'_>) -> bool {
        place.has_extension(&EXTENSIONS)
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        let archive = self.names(&file.place) && zipped::may_be_one(file.head);
        if archive { Want::Spool } else { Want::No }
    }

    fn read(&self, path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let mut reader = Reader { said: Said::default(), left: ALL_NESTED };
        let hash = sha256(content.reader())?;
        let zip = Zipped::open(content.reader(), content.len()).map_err(Unreadable::lost)?;
        reader.archive(zip, Place::of(path).name, None, hash, 0).map_err(Unreadable::lost)?;
        Ok(Some(reader.said))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::JavaArchive
    }
}

fn sha256(mut reader: impl Read) -> std::io::Result<FileHash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = reader.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        hasher.update(&buffer[..got]);
    }
    Ok(FileHash { algorithm: "SHA-256", hex: hex::encode(hasher.finalize()) })
}

struct Reader {
    said: Said,
    /// How many bytes of archives in archives may still be unpacked.
    left: u64,
}

impl Reader {
    /// Reads one archive with the name `file`, which lies at `within` of the file at hand.
    fn archive<R: Read + Seek>(
        &mut self,
        mut zip: Zipped<R>,
        file: &str,
        within: Option<&str>,
        hash: FileHash,
        depth: usize,
    ) -> Result<(), ZippedError> {
        let mut coordinates = Vec::new();
        let mut manifest = Manifest::default();
        let mut nested = Vec::new();
        let mut has_code = false;
        for (number, name) in zip.names() {
            let upper = name.eq_ignore_ascii_case("META-INF/MANIFEST.MF");
            if upper {
                manifest = Manifest::read(&String::from_utf8_lossy(&zip.read_at(number, TEXT)?));
            } else if Place::of(&name).name == "pom.properties" {
                let text = zip.read_at(number, TEXT)?;
                coordinates.extend(Coordinates::read(&String::from_utf8_lossy(&text)));
            } else if Place::of(&name).has_extension(&EXTENSIONS) {
                nested.push((number, name));
            } else {
                has_code |= name.ends_with(".class");
            }
            if coordinates.len() > PACKAGES {
                return Err(ZippedError::Archive("it names more than 20000 packages".to_owned()));
            }
        }
        let before = self.said.packages.len();
        self.own(&coordinates, &manifest, file, within, hash);
        let named = self.said.packages.len() > before;
        for (number, name) in nested {
            let within = match within {
                Some(outer) => format!("{outer}!/{name}"),
                None => name.clone(),
            };
            if self.nested(&mut zip, number, &name, &within, depth).is_none() {
                self.lost();
            }
        }
        // Code of which nobody can say what it is.
        if !named && has_code {
            self.lost();
        }
        Ok(())
    }

    /// Reads an archive in an archive; `None` when it could not be read.
    fn nested<R: Read + Seek>(
        &mut self,
        zip: &mut Zipped<R>,
        number: usize,
        name: &str,
        within: &str,
        depth: usize,
    ) -> Option<()> {
        if depth + 1 >= DEPTH || self.said.packages.len() > PACKAGES {
            return None;
        }
        let bytes = zip.read_at(number, (NESTED >> depth).min(self.left)).ok()?;
        self.left = self.left.checked_sub(bytes.len() as u64)?;
        if bytes.is_empty() {
            return Some(());
        }
        let hash = sha256(&*bytes).ok()?;
        let inner = Zipped::open(Cursor::new(&bytes), bytes.len() as u64).ok()?;
        self.archive(inner, Place::of(name).name, Some(within), hash, depth + 1).ok()
    }

    fn lost(&mut self) {
        if self.said.marks.is_empty() {
            self.said.marks.push(UnassessedKind::JavaArchive);
        }
    }

    /// Takes what an archive says of itself, and of what was put into it.
    fn own(
        &mut self,
        coordinates: &[Coordinates],
        manifest: &Manifest,
        file: &str,
        within: Option<&str>,
        hash: FileHash,
    ) {
        let by_name = name_and_version(file);
        // The archive's own coordinates are those that its name has. A distribution renames archives
        // and leaves their versions; a name without a version says nothing against the only ones.
        let only = coordinates.len() == 1;
        let own = coordinates.iter().position(|one| match by_name {
            Some((name, version)) => {
                name == one.artifact || (only && version.starts_with(&one.version))
            }
            None => only,
        });
        for (at, one) in coordinates.iter().enumerate() {
            let itself = own == Some(at);
            self.said.packages.push(Entry {
                namespace: Some(one.group.clone()),
                within: within.map(Into::into),
                license: manifest.license().filter(|_| itself),
                supplier: manifest.vendor().filter(|_| itself),
                hashes: if itself { vec![hash.clone()] } else { Vec::new() },
                ..Entry::new(Ecosystem::Maven, &one.artifact, &one.version)
            });
        }
        // What only has others in it is a package all the same, when its name says which.
        if own.is_some() || (!coordinates.is_empty() && by_name.is_none()) {
            return;
        }
        let (file_name, file_version) = match by_name {
            Some((name, version)) => (Some(name), Some(version)),
            None => (stem(file), None),
        };
        let version = file_version.map(str::to_owned).or_else(|| manifest.version());
        let (Some(name), Some(version)) = (file_name, version) else { return };
        // Maven's own plugin writes the group here when it is asked to; whoever writes something
        // else there has written no group.
        let group = manifest.get("Implementation-Vendor-Id").filter(|group| is_group(group));
        self.said.packages.push(Entry {
            namespace: group.map(str::to_owned),
            certainty: Certainty::Guessed,
            within: within.map(Into::into),
            license: manifest.license(),
            supplier: manifest.vendor(),
            hashes: vec![hash],
            ..Entry::new(
                if group.is_some() { Ecosystem::Maven } else { Ecosystem::Generic },
                name,
                version,
            )
        });
    }
}

/// The coordinates of Maven.
#[derive(Debug, PartialEq, Eq)]
struct Coordinates {
    group: String,
    artifact: String,
    version: String,
}

impl Coordinates {
    /// Those of a `pom.properties`; `None` where a part is missing or was never filled in.
    fn read(text: &str) -> Option<Self> {
        let get = |key: &str| {
            let mut lines =
                text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!']));
            let value = lines.find_map(|line| {
                let (name, value) = line.split_once(['=', ':'])?;
                (name.trim() == key).then(|| value.trim())
            })?;
            let good = !value.is_empty()
                && value.len() <= 300
                && !value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '$');
            good.then(|| value.to_owned())
        };
        Some(Self {
            group: get("groupId")?,
            artifact: get("artifactId")?,
            version: get("version")?,
        })
    }
}

/// The main section of a manifest.
#[derive(Debug, Default)]
struct Manifest(Vec<(String, String)>);

impl Manifest {
    fn read(text: &str) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                // What follows is about single files.
                if fields.is_empty() { continue } else { break }
            }
            if let Some(more) = line.strip_prefix(' ') {
                if let Some((_, value)) = fields.last_mut() {
                    value.push_str(more);
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Self(fields)
    }

    fn get(&self, key: &str) -> Option<&str> {
        let field = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        field.map(|(_, value)| value.trim()).filter(|value| !value.is_empty() && value.len() <= 300)
    }

    fn version(&self) -> Option<String> {
        let version = ["Implementation-Version", "Bundle-Version", "Specification-Version"]
            .into_iter()
            .find_map(|key| self.get(key))?;
        let word = version.split_whitespace().next()?;
        word.starts_with(|c: char| c.is_ascii_digit()).then(|| word.to_owned())
    }

    fn vendor(&self) -> Option<String> {
        ["Implementation-Vendor", "Bundle-Vendor", "Specification-Vendor"]
            .into_iter()
            .find_map(|key| self.get(key))
            .map(str::to_owned)
    }

    fn license(&self) -> Option<String> {
        let license = self.get("Bundle-License")?;
        Some(license.split([',', ';']).next()?.trim().to_owned())
    }
}

/// Whether a text has the form of a group: names of letters and digits with dots between them.
fn is_group(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    text.contains('.')
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.split('.').all(part)
}

/// The name of an archive without its extension.
fn stem(file: &str) -> Option<&str> {
    file.rsplit_once('.').map(|(stem, _)| stem).filter(|stem| !stem.is_empty())
}

/// The name and the version in `NAME-VERSION.jar`: the version begins with a digit behind a dash.
fn name_and_version(file: &str) -> Option<(&str, &str)> {
    let stem = stem(file)?;
    let at = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| stem[at + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
    Some((&stem[..at], &stem[at + 1..])).filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zip_tests::jar;

    fn pom(group: &str, artifact: &str, version: &str) -> Vec<u8> {
        let text =
            format!("#Generated\r\ngroupId={group}\nartifactId={artifact}\nversion={version}\n");
        text.into_bytes()
    }

    fn listed(file: &str, bytes: &[u8]) -> String {
        let said = Java.read(file, &Content::of(bytes)).unwrap().unwrap();
        let line = |entry: Entry| {
            let guessed = if entry.certainty == Certainty::Guessed { " ?" } else { "" };
            let within = entry.within.as_ref().map(|at| format!(" in {at}")).unwrap_or_default();
            let hash = if entry.hashes.is_empty() { " (no hash)" } else { "" };
            format!("{}{guessed}{within}{hash}", entry.purl(None).unwrap())
        };
        let marks = said.marks.iter().map(|mark| format!("seen: {}", mark.as_str()));
        said.packages.into_iter().map(line).chain(marks).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn coordinates_of_nested_and_shaded_archives_are_read() {
        let inner = jar(&[
            ("META-INF/maven/org.y/inner/pom.properties", &pom("org.y", "inner", "1.0")),
            (
                "lib/deep-2.0.jar",
                &jar(&[("META-INF/MANIFEST.MF", b"Implementation-Vendor-Id: org.z\n")]),
            ),
        ]);
        let boot = jar(&[
            ("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\nImplementation-Vendor: Me\n"),
            ("META-INF/maven/org.x/app/pom.properties", &pom("org.x", "app", "3.1")),
            (
                "META-INF/maven/com.google.guava/guava/pom.properties",
                &pom("com.google.guava", "guava", "32.1.2-jre"),
            ),
            ("META-INF/maven/a/b/pom.properties", b"groupId=a\nartifactId=b\nversion=${v}\n"),
            ("BOOT-INF/lib/inner-1.0.jar", &inner),
            ("BOOT-INF/lib/broken.jar", b"PK, but not really"),
        ]);
        insta::assert_snapshot!(listed("app-3.1.jar", &boot), @r"
        pkg:maven/org.x/app@3.1
        pkg:maven/com.google.guava/guava@32.1.2-jre (no hash)
        pkg:maven/org.y/inner@1.0 in BOOT-INF/lib/inner-1.0.jar
        pkg:maven/org.z/deep@2.0 ? in BOOT-INF/lib/inner-1.0.jar!/lib/deep-2.0.jar
        seen: java-archive
        ");
    }

    #[test]
    fn a_group_is_never_made_up() {
        let manifest =
            |text: &str| jar(&[("META-INF/MANIFEST.MF", text.as_bytes()), ("a.class", b"x")]);
        for (file, text, want) in [
            ("mylib-1.2.3.jar", "Bundle-SymbolicName: org.x.mylib\n", "pkg:generic/mylib@1.2.3 ?"),
            ("mylib.jar", "Implementation-Version: 4.0\n", "pkg:generic/mylib@4.0 ?"),
            ("mylib-1.jar", "Implementation-Vendor-Id: The Makers\n", "pkg:generic/mylib@1 ?"),
            (
                "mylib-1.jar",
                "Implementation-Vendor-Id: org.ma\n kers\n",
                "pkg:maven/org.makers/mylib@1 ?",
            ),
            ("a-b-2.0-rc1.jar", "", "pkg:generic/a-b@2.0-rc1 ?"),
            ("mylib.jar", "Main-Class: x.Y\n", "seen: java-archive"),
        ] {
            assert_eq!(listed(file, &manifest(text)), want, "{file} {text}");
        }
        // Another package's coordinates in it are not its own; a distribution's name for it is.
        let shaded =
            jar(&[("META-INF/maven/cglib/cglib/pom.properties", &pom("cglib", "cglib", "3.2"))]);
        assert_eq!(
            listed("guice-4.2.jar", &shaded),
            "pkg:maven/cglib/cglib@3.2 (no hash)\npkg:generic/guice@4.2 ?"
        );
        for renamed in ["libcglib-3.2.jar", "cglib-api-3.2-spec-3.2.jar", "other.jar"] {
            assert_eq!(listed(renamed, &shaded), "pkg:maven/cglib/cglib@3.2");
        }
        // A script may stand before an archive.
        let mut script = b"#!/bin/sh\nexec java -jar $0\n".to_vec();
        script.extend(manifest("Implementation-Version: 1.0\n"));
        assert_eq!(listed("run.jar", &script), "pkg:generic/run@1.0 ?");
        assert!(Java.read("x.jar", &Content::of(b"PK\x03\x04")).is_err());
    }
}
