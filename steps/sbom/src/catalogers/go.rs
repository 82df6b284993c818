//! Programs of Go: the modules that its linker writes into each (`debug/buildinfo`), with the
//! standard library, and what version control said of the program's own.

use std::io;

use super::{Candidate, Cataloger, Place, Unreadable, Want};
use crate::content::Content;
use crate::evidence::{Entry, Said};
use crate::executable::{Executable, Part};
use crate::package::{Certainty, Ecosystem};
use crate::unassessed::UnassessedKind;

/// Reads the build information of Go.
pub(super) struct Go;

/// No linker of Go writes a program as small as this.
const SMALLEST: u64 = 16 << 10;

impl Cataloger for Go {
    fn name(&self) -> &'static str {
        "go"
    }

    fn names(&self, _place: &Place<'_>) -> bool {
        false
    }

    fn wants(&self, file: &Candidate<'_>) -> Want {
        if file.size >= SMALLEST && file.is_executable() { Want::Spool } else { Want::No }
    }

    fn read(&self, _path: &str, content: &Content<'_>) -> Result<Option<Said>, Unreadable> {
        let Some(program) = Executable::of(content)? else { return Ok(None) };
        let Some((go, modules)) = build_info(content, &program)? else { return Ok(None) };
        let modules = modules.get(SENTINEL..modules.len().saturating_sub(SENTINEL));
        let modules = modules.filter(|text| text.last() == Some(&b'\n')).unwrap_or_default();
        let modules = String::from_utf8_lossy(modules);
        let mut said = Said::from(packages(&go, &modules));
        // Built without modules, as some distributions do: what is in it, it does not say. Go's own
        // commands have nothing in them but the standard library.
        let line = |start: &str| modules.lines().any(|line| line.starts_with(start));
        if !line("mod\t") && !line("dep\t") && !line("path\tcmd/") {
            said.marks.push(UnassessedKind::GoBinary);
        }
        Ok(Some(said))
    }

    fn mark(&self) -> UnassessedKind {
        UnassessedKind::GoBinary
    }

    fn is_by_content(&self) -> bool {
        true
    }
}

/// What stands before the build information, at an address that is a multiple of [`ALIGNMENT`],
/// with the size of a pointer and a byte of flags behind it.
pub(super) const MAGIC: &[u8] = b"\xff Go buildinf:";
pub(super) const ALIGNMENT: u64 = 16;
const HEADER: u64 = 32;

/// What the linker puts around the list of modules, so that it is found.
const SENTINEL: usize = 16;

/// The longest text of the build information.
const LONGEST: u64 = 16 << 20;

/// The version of Go and the list of modules, as bytes; `None` when it is no program of Go.
fn build_info(
    content: &Content<'_>,
    program: &Executable,
) -> io::Result<Option<(String, Vec<u8>)>> {
    let named = [".go.buildinfo", "__go_buildinfo"].into_iter().find_map(|n| program.section(n));
    let data = |part: &&Part| part.writable && part.size > 0;
    let places = named
        .into_iter()
        .chain(program.segments.iter().filter(data).chain(program.sections.iter().filter(data)));
    for part in places {
        let end = part.offset.saturating_add(part.size);
        let at = content.search((part.offset, end), HEADER, |from, window| {
            let found = memchr::memmem::find_iter(window, MAGIC).find(|at| {
                // Programs that look for the mark hold it, too, but not as the linker writes it.
                let into = from + *at as u64 - part.offset;
                let address = part.address.wrapping_add(into);
                let behind = window.get(at + MAGIC.len()..at + MAGIC.len() + 2);
                address.is_multiple_of(ALIGNMENT) && matches!(behind, Some([0 | 4 | 8, 0..=3]))
            });
            found.map(|at| from + at as u64)
        })?;
        if let Some(at) = at {
            return texts(content, program, at);
        }
    }
    Ok(None)
}

/// The two texts of the build information at `at`.
fn texts(
    content: &Content<'_>,
    program: &Executable,
    at: u64,
) -> io::Result<Option<(String, Vec<u8>)>> {
    let header = content.slice(at, HEADER)?;
    let (pointer, flags) = (header[14], header[15]);
    if flags & 2 != 0 {
        // Since Go 1.18 the texts follow, each with its length before it.
        let mut at = at + HEADER;
        let mut next = || -> io::Result<Vec<u8>> {
            let head = content.up_to(at, 10)?;
            let (length, used) = varint(&head).ok_or(io::ErrorKind::InvalidData)?;
            if length > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let text = content.slice(at + used, length)?.into_owned();
            at += used + length;
            Ok(text)
        };
        let go = next()?;
        return Ok(Some((String::from_utf8_lossy(&go).into_owned(), next()?)));
    }
    // Before that, addresses of the program's own strings.
    let wide = pointer == 8;
    let big = flags & 1 != 0;
    let number = |bytes: &[u8]| {
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
    };
    let size = if wide { 8 } else { 4 };
    let text = |at: usize| -> io::Result<Option<Vec<u8>>> {
        let string = header.get(at..at + size).map(number).unwrap_or_default();
        let Some((string, _)) = program.at_address(string) else { return Ok(None) };
        let string = content.slice(string, 2 * size as u64)?;
        let (address, length) = (number(&string[..size]), number(&string[size..]));
        match program.at_address(address) {
            Some((at, left)) if length <= left.min(LONGEST) => {
                content.slice(at, length).map(|text| Some(text.into_owned()))
            }
            _ => Ok(None),
        }
    };
    let go = text(16)?.map(|go| String::from_utf8_lossy(&go).into_owned());
    Ok(go.zip(Some(text(16 + size)?.unwrap_or_default())))
}

/// A number as `encoding/binary` writes it, and how many bytes it took.
fn varint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at as u64 + 1));
        }
    }
    None
}

/// One line of the list that names a module.
struct Module<'a> {
    path: &'a str,
    version: &'a str,
    replaced_by: Option<(&'a str, &'a str)>,
}

/// The packages that `go`, the version of Go, and the list of modules name.
fn packages(go: &str, modules: &str) -> Vec<Entry> {
    let mut main: Option<Module<'_>> = None;
    let mut all: Vec<Module<'_>> = Vec::new();
    let mut last_is_main = false;
    let (mut revision, mut time, mut flags) = ("", "", "");
    for line in modules.lines() {
        let mut parts = line.split('\t');
        let (what, first, second) =
            (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match what {
            Some("mod") => {
                main = Some(Module { path: first, version: second, replaced_by: None });
                last_is_main = true;
            }
            Some("dep") => {
                all.push(Module { path: first, version: second, replaced_by: None });
                last_is_main = false;
            }
            Some("=>") => {
                let module = if last_is_main { main.as_mut() } else { all.last_mut() };
                if let Some(module) = module {
                    module.replaced_by = Some((first, second));
                }
            }
            Some("build") => match first.split_once('=') {
                Some(("vcs.revision", value)) => revision = value,
                Some(("vcs.time", value)) => time = value,
                Some(("-ldflags", value)) => flags = value,
                _ => {}
            },
            _ => {}
        }
    }
    let mut found = Vec::with_capacity(all.len() + 2);
    let release = go.split_whitespace().next().unwrap_or_default();
    let release = release.strip_prefix("go").unwrap_or(release);
    if release.starts_with(|c: char| c.is_ascii_digit()) {
        found.push(Entry::new(Ecosystem::Golang, "stdlib", release));
    } else if !release.is_empty() {
        // A compiler of no release, such as `devel +abc`: what is in it, nobody can say.
        found.push(Entry::new(Ecosystem::Golang, "stdlib", ""));
    }
    if let Some(main) = main.filter(|main| !main.path.is_empty()) {
        found.push(match known(main.version) {
            Some(version) => Entry::split(Ecosystem::Golang, main.path, version),
            None => {
                let version = linked_version(flags)
                    .or_else(|| pseudo_version(revision, time))
                    .unwrap_or_default();
                let entry = Entry::split(Ecosystem::Golang, main.path, version);
                Entry { certainty: Certainty::Guessed, ..entry }
            }
        });
    }
    found.extend(all.into_iter().filter(|module| !module.path.is_empty()).map(Module::entry));
    found
}

/// The version, where it is one.
fn known(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty() && *version != "(devel)")
}

impl Module<'_> {
    fn entry(self) -> Entry {
        match self.replaced_by {
            // Another module in its place: that one's code is in the program.
            Some((path, version)) if known(version).is_some() => {
                Entry::split(Ecosystem::Golang, path, version)
            }
            // A folder in its place: whatever is in there, this is the nearest that is known.
            Some(_) => Entry {
                certainty: Certainty::Guessed,
                ..Entry::split(
                    Ecosystem::Golang,
                    self.path,
                    known(self.version).unwrap_or_default(),
                )
            },
            None => {
                Entry::split(Ecosystem::Golang, self.path, known(self.version).unwrap_or_default())
            }
        }
    }
}

/// The version that a build wrote into a variable of the program: `-X main.version=v1.2.3`.
fn linked_version(flags: &str) -> Option<String> {
    let words = flags.split(|c: char| c.is_whitespace() || c == '"' || c == '\'');
    let set = words.filter_map(|word| word.split_once('='));
    let version = set.filter(|(name, _)| {
        let name = name.rsplit('.').next().unwrap_or_default();
        ["version", "buildversion", "gitversion"].iter().any(|one| name.eq_ignore_ascii_case(one))
    });
    let version = version.map(|(_, value)| value).find(|value| {
        let digits = value.strip_prefix('v').unwrap_or(value);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.contains('.')
            && value.len() <= 100
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-_~".contains(&b))
    })?;
    let v = if version.starts_with('v') { "" } else { "v" };
    Some(format!("{v}{version}"))
}

/// The version that Go gives a commit without one: `v0.0.0-20060102150405-abcdefabcdef`.
fn pseudo_version(revision: &str, time: &str) -> Option<String> {
    let short = revision.get(..12)?;
    let time: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
    let good = time.len() == 14 && short.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| format!("v0.0.0-{time}-{short}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(go: &str, modules: &str) -> Vec<String> {
        let purl = |entry: Entry| {
            let guessed = if entry.certainty == Certainty::Guessed { " ?" } else { "" };
            format!("{}{guessed}", entry.purl(None).unwrap())
        };
        packages(go, modules).into_iter().map(purl).collect()
    }

    #[test]
    fn modules_are_listed_with_what_replaces_them() {
        let text = "path\texample.com/App/cmd/x\nmod\texample.com/App\t(devel)\t\n\
                    dep\tgolang.org/x/net\tv0.17.0\th1:abc=\n\
                    dep\tgithub.com/Foo/bar\tv1.0.0\n=>\tgithub.com/me/bar\tv1.0.1\th1:x\n\
                    dep\texample.com/local\tv0.1.0\n=>\t./local\t\n\
                    build\tvcs.revision=0123456789abcdef0123\nbuild\tvcs.time=2024-02-03T04:05:06Z\n";
        assert_eq!(
            listed("go1.21.3 X:boringcrypto", text),
            [
                "pkg:golang/stdlib@1.21.3",
                "pkg:golang/example.com/app@v0.0.0-20240203040506-0123456789ab ?",
                "pkg:golang/golang.org/x/net@v0.17.0",
                "pkg:golang/github.com/me/bar@v1.0.1",
                "pkg:golang/example.com/local@v0.1.0 ?",
            ]
        );
    }

    #[test]
    fn the_version_of_a_program_is_the_best_that_is_said() {
        for (line, build, want) in [
            ("v1.2.3", "", "@v1.2.3"),
            ("v1.2.3+dirty", "", "@v1.2.3%2Bdirty"),
            ("(devel)", "-ldflags=\"-s -w -X main.version=1.4.0 -X main.commit=00\"", "@v1.4.0 ?"),
            ("(devel)", "-ldflags=-X 'k8s.io/version.gitVersion=v1.29.1'", "@v1.29.1 ?"),
            ("(devel)", "-ldflags=-X main.version=dev", " ?"),
            ("(devel)", "vcs.revision=zz", " ?"),
        ] {
            let text = format!("mod\tx.org/a\t{line}\t\nbuild\t{build}\n");
            assert_eq!(listed("", &text), [format!("pkg:golang/x.org/a{want}")], "{build}");
        }
        assert_eq!(listed("devel go1.23-abc", ""), ["pkg:golang/stdlib"]);
    }
}
