//! What an image holds that the bill does not list: seen while the layers streamed, and not read.
//!
//! A scan that knows only what was listed would call an image clean that nobody has looked into.
//! So whatever is known to hold packages and is not read is named in both documents.

use std::collections::BTreeMap;
use std::fmt;

/// The most entries that a document names. The rest is a number.
const MOST: usize = 400;

/// How many of each kind a document names before any kind gets more: whoever allows a kind must
/// not miss another one for the sake of a thousand of the first.
const OF_EACH_KIND: usize = 15;

/// How many paths of each kind the log names.
const TOLD: usize = 3;

/// What kind of thing was not read. The order is that of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum UnassessedKind {
    /// A package of conda.
    Conda,
    /// A package database, or a package's description, that could not be understood.
    Damaged,
    /// A distribution of whose package database nothing was found.
    Distribution,
    /// The list of packages that a .NET application is made of.
    DotnetDeps,
    /// A layer that lives elsewhere and did not come.
    ForeignLayer,
    /// A program with the build information of Go.
    GoBinary,
    /// A Java archive.
    JavaArchive,
    /// The database of Nix.
    Nix,
    /// The database of opkg.
    Opkg,
    /// A program that unpacks itself, so that what it is made of cannot be seen.
    PackedBinary,
    /// The database of pacman.
    Pacman,
    /// What PHP's Composer installed.
    PhpComposer,
    /// A Python distribution in one file.
    PythonEgg,
    /// The database of RPM.
    Rpm,
    /// A Ruby gem.
    RubyGem,
    /// A Rust program with its list of crates inside.
    RustBinary,
    /// A package database, or a package's description, that is stored with holes.
    Sparse,
    /// A package database, or a package's description, that is too large.
    TooLarge,
    /// Packages whose names make no package URL.
    Unnamed,
    /// The packages that Yarn keeps in archives.
    YarnPnp,
}

impl UnassessedKind {
    /// The text before the colon in the documents, such as `go-binary`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conda => "conda",
            Self::Damaged => "damaged",
            Self::Distribution => "distribution",
            Self::DotnetDeps => "dotnet-deps",
            Self::ForeignLayer => "foreign-layer",
            Self::GoBinary => "go-binary",
            Self::JavaArchive => "java-archive",
            Self::Nix => "nix",
            Self::Opkg => "opkg",
            Self::PackedBinary => "packed-binary",
            Self::Pacman => "pacman",
            Self::PhpComposer => "php-composer",
            Self::PythonEgg => "python-egg",
            Self::Rpm => "rpm",
            Self::RubyGem => "ruby-gem",
            Self::RustBinary => "rust-binary",
            Self::Sparse => "sparse",
            Self::TooLarge => "too-large",
            Self::Unnamed => "unnamed",
            Self::YarnPnp => "yarn-pnp",
        }
    }

    /// One of it, and several, in the words of a person.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Conda => ("conda package", "conda packages"),
            Self::Damaged => ("file that could not be understood", "files not understood"),
            Self::Distribution => {
                ("distribution without a package database that is read", "distributions")
            }
            Self::DotnetDeps => ("list of .NET packages", "lists of .NET packages"),
            Self::ForeignLayer => ("layer that lives elsewhere", "layers that live elsewhere"),
            Self::GoBinary => ("Go program", "Go programs"),
            Self::JavaArchive => ("Java archive", "Java archives"),
            Self::Nix => ("Nix database", "Nix databases"),
            Self::Opkg => ("opkg database", "opkg databases"),
            Self::PackedBinary => {
                ("program that unpacks itself", "programs that unpack themselves")
            }
            Self::Pacman => ("pacman database", "pacman databases"),
            Self::PhpComposer => ("list of PHP packages", "lists of PHP packages"),
            Self::PythonEgg => ("Python egg", "Python eggs"),
            Self::Rpm => ("RPM database", "RPM databases"),
            Self::RubyGem => ("Ruby gem", "Ruby gems"),
            Self::RustBinary => ("Rust program", "Rust programs"),
            Self::Sparse => ("file stored with holes", "files stored with holes"),
            Self::TooLarge => ("file that is too large", "files that are too large"),
            Self::Unnamed => ("file with a package without a name", "files with unnamed packages"),
            Self::YarnPnp => ("Yarn archive of packages", "Yarn archives of packages"),
        }
    }

    /// Whether the bytes of a file say so, whatever its name is.
    pub(crate) const fn is_by_content(self) -> bool {
        match self {
            Self::GoBinary | Self::PackedBinary | Self::RustBinary => true,
            Self::Conda
            | Self::Damaged
            | Self::Distribution
            | Self::DotnetDeps
            | Self::ForeignLayer
            | Self::JavaArchive
            | Self::Nix
            | Self::Opkg
            | Self::Pacman
            | Self::PhpComposer
            | Self::PythonEgg
            | Self::Rpm
            | Self::RubyGem
            | Self::Sparse
            | Self::TooLarge
            | Self::Unnamed
            | Self::YarnPnp => false,
        }
    }

    /// Whether the advisories of a distribution cover it when one of its packages brought it.
    pub(crate) const fn is_covered_by_owner(self) -> bool {
        match self {
            Self::DotnetDeps
            | Self::GoBinary
            | Self::JavaArchive
            | Self::PackedBinary
            | Self::PhpComposer
            | Self::PythonEgg
            | Self::RubyGem
            | Self::RustBinary
            | Self::YarnPnp => true,
            Self::Conda
            | Self::Damaged
            | Self::Distribution
            | Self::ForeignLayer
            | Self::Nix
            | Self::Opkg
            | Self::Pacman
            | Self::Rpm
            | Self::Sparse
            | Self::TooLarge
            | Self::Unnamed => false,
        }
    }
}

/// One thing that was seen and not read. Its text, `kind:what`, is what the documents carry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unassessed {
    /// What kind of thing it is.
    pub kind: UnassessedKind,
    /// Which one: a path from the root of the image, a layer's digest, a distribution.
    pub what: String,
}

impl Unassessed {
    pub(crate) fn file(kind: UnassessedKind, path: &str) -> Self {
        Self { kind, what: format!("/{path}") }
    }
}

impl fmt::Display for Unassessed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), one_line(&self.what))
    }
}

/// `text` with control characters escaped: a path may hold a line break, and neither a log nor a
/// list of lines may be led astray by it.
pub(crate) fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// The texts that a document names, sorted, and how many it leaves out. Some of each kind that
/// there is are among them.
pub(crate) fn named(all: &[Unassessed]) -> (Vec<String>, usize) {
    let mut of_kind: BTreeMap<UnassessedKind, usize> = BTreeMap::new();
    let mut sorted: Vec<&Unassessed> = all.iter().collect();
    sorted.sort_unstable();
    let (mut texts, mut rest) = (Vec::new(), Vec::new());
    for one in sorted {
        let count = of_kind.entry(one.kind).or_default();
        *count += 1;
        if *count <= OF_EACH_KIND { texts.push(one.to_string()) } else { rest.push(one) }
    }
    let more = MOST.saturating_sub(texts.len()).min(rest.len());
    texts.extend(rest[..more].iter().map(ToString::to_string));
    texts.sort_unstable();
    (texts, rest.len() - more)
}

/// What the log says of it, one line for each kind.
pub(crate) fn told(all: &[Unassessed]) -> Vec<String> {
    let mut of_kind: BTreeMap<UnassessedKind, Vec<String>> = BTreeMap::new();
    for one in all {
        of_kind.entry(one.kind).or_default().push(one_line(&one.what));
    }
    let line = |(kind, mut what): (UnassessedKind, Vec<String>)| {
        what.sort_unstable();
        let (one, many) = kind.words();
        let words = if what.len() == 1 { one } else { many };
        let shown = what[..what.len().min(TOLD)].join(", ");
        let more = match what.len().saturating_sub(TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("seen and not read: {} {words} ({shown}{more})", what.len())
    };
    of_kind.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sorted_bounded_and_name_each_kind() {
        let mut all: Vec<Unassessed> = (0..900)
            .map(|at| Unassessed::file(UnassessedKind::JavaArchive, &format!("app/{at:03}.jar")))
            .collect();
        all.push(Unassessed::file(UnassessedKind::Rpm, "var/lib/rpm/rpmdb.sqlite"));
        all.push(Unassessed { kind: UnassessedKind::Distribution, what: "rhel 9".into() });
        all.reverse();
        let (texts, omitted) = named(&all);
        assert_eq!((texts.len(), omitted), (MOST, 902 - MOST));
        assert_eq!(texts[0], "distribution:rhel 9");
        assert_eq!(texts[1], "java-archive:/app/000.jar");
        assert_eq!(texts[MOST - 1], "rpm:/var/lib/rpm/rpmdb.sqlite");
        assert!(texts.is_sorted());
        assert_eq!(
            told(&all),
            [
                "seen and not read: 1 distribution without a package database that is read \
                 (rhel 9)",
                "seen and not read: 900 Java archives (/app/000.jar, /app/001.jar, /app/002.jar \
                 and 897 more)",
                "seen and not read: 1 RPM database (/var/lib/rpm/rpmdb.sqlite)",
            ]
        );
    }

    #[test]
    fn a_path_stays_on_its_line() {
        let odd = Unassessed::file(UnassessedKind::GoBinary, "bin/a\nfairlead:unassessed x\u{7f}");
        assert_eq!(odd.to_string(), r"go-binary:/bin/a\nfairlead:unassessed x\u{7f}");
        assert_eq!(named(&[]), (Vec::new(), 0));
    }
}
