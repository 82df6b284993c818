//! Patterns: globs for names and paths, and what a tag may be asked to look like.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest pattern that is taken, in bytes.
const MAX_PATTERN: usize = 512;
/// The most patterns in one list.
const MAX_PATTERNS: usize = 256;

/// A glob: `*` stands for anything but `/`, `**` for anything, `?` for one character, `[ab]` for one
/// of these, `{a,b}` for either. A leading `!` takes away what the patterns before it let in.
#[derive(Clone)]
pub struct Glob {
    text: String,
    negated: bool,
    matcher: GlobMatcher,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pattern: {problem}")]
pub struct GlobError {
    text: String,
    problem: String,
}

fn error(text: &str, problem: impl Into<String>) -> GlobError {
    GlobError { text: text.chars().take(120).collect(), problem: problem.into() }
}

impl Glob {
    /// Whether the pattern, its `!` left aside, fits `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let (negated, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if pattern.is_empty() {
            return Err(error(text, "it is empty"));
        }
        if text.len() > MAX_PATTERN {
            return Err(error(text, "it is longer than 512 bytes"));
        }
        // `*` must not cross a `/`, else `apps/*` would let in `apps/a/b`.
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|e| error(text, e.kind().to_string()))?;
        Ok(Self { text: text.to_owned(), negated, matcher: glob.compile_matcher() })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a tag may be asked to look like.
#[derive(Clone)]
pub enum TagPattern {
    /// A glob over the tag's text.
    Glob(Glob),
    /// `semver(">=1")`: the tag is a full version (semver 2.0, a leading `v` allowed) within the
    /// range. A pre-release is within a range only when the range names one.
    Semver {
        /// As it was written.
        text: String,
        /// The range.
        range: semver::VersionReq,
    },
}

impl TagPattern {
    fn is_match(&self, tag: &str) -> bool {
        match self {
            Self::Glob(glob) => glob.is_match(tag),
            Self::Semver { range, .. } => {
                version_of(tag).is_some_and(|version| range.matches(&version))
            }
        }
    }

    const fn negated(&self) -> bool {
        match self {
            Self::Glob(glob) => glob.negated,
            Self::Semver { .. } => false,
        }
    }
}

impl FromStr for TagPattern {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let Some(inner) = text.strip_prefix("semver(") else {
            return text.parse().map(Self::Glob);
        };
        let range = inner
            .strip_suffix(')')
            .map(str::trim)
            .and_then(|quoted| {
                let of = |quote| quoted.strip_prefix(quote)?.strip_suffix(quote);
                of('"').or_else(|| of('\''))
            })
            .ok_or_else(|| error(text, "write the range in quotes: `semver(\">=1\")`"))?;
        if text.len() > MAX_PATTERN {
            return Err(error(text, "it is longer than 512 bytes"));
        }
        let range = range_of(range).map_err(|problem| error(text, problem))?;
        Ok(Self::Semver { text: text.to_owned(), range })
    }
}

/// Reads a range of versions. Its parts stand behind a comma or a blank: `>=1, <2` and `>=1 <2`.
fn range_of(text: &str) -> Result<semver::VersionReq, String> {
    semver::VersionReq::parse(text).or_else(|error| {
        let mut joined = String::with_capacity(text.len() + 8);
        for part in text.split_whitespace() {
            let begins = part.starts_with(|c: char| "<>=~^".contains(c) || c.is_ascii_digit());
            let open = joined.is_empty() || joined.ends_with([',', '<', '>', '=', '~', '^']);
            if begins && !open {
                joined.push_str(", ");
            }
            joined.push_str(part);
        }
        // What was written is what is told to be wrong.
        semver::VersionReq::parse(&joined).map_err(|_| error.to_string())
    })
}

/// The version that a tag is: all of `major.minor.patch`, a leading `v` allowed.
fn version_of(tag: &str) -> Option<semver::Version> {
    semver::Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// The newest of those tags that are versions (semver 2.0, a leading `v` allowed). Of two that are the
/// same version the one without the `v` is taken.
#[must_use]
pub fn newest_version<'t>(tags: impl IntoIterator<Item = &'t str>) -> Option<&'t str> {
    let versions = tags.into_iter().filter_map(|tag| Some((version_of(tag)?, tag)));
    let newest = versions.max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.cmp(one)));
    newest.map(|(_, tag)| tag)
}

impl TagPatterns {
    /// The versions within `range`, such as `>=1 <2`.
    ///
    /// # Errors
    /// When it is no range.
    pub fn versions(range: &str) -> Result<Self, GlobError> {
        format!("semver({range:?})").parse().map(|pattern| Self(vec![pattern]))
    }

    /// Whether only versions fit: no pattern lets anything else in.
    #[must_use]
    pub fn are_versions(&self) -> bool {
        let version = |pattern: &TagPattern| matches!(pattern, TagPattern::Semver { .. });
        !self.0.is_empty() && self.0.iter().all(|pattern| pattern.negated() || version(pattern))
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glob(glob) => glob.fmt(f),
            Self::Semver { text, .. } => f.write_str(text),
        }
    }
}

macro_rules! text_pattern {
    ($pattern:ident, $list:ident, $format:literal, $one:literal, $many:literal) => {
        impl fmt::Debug for $pattern {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.to_string())
            }
        }

        impl PartialEq for $pattern {
            fn eq(&self, other: &Self) -> bool {
                self.to_string() == other.to_string()
            }
        }

        impl Eq for $pattern {}

        impl Serialize for $pattern {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $pattern {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $pattern {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($pattern).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $one })
            }
        }

        #[doc = $many]
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $list(Vec<$pattern>);

        impl $list {
            /// Whether nothing was asked for, which every text fits.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Whether `text` fits: the last pattern that fits it decides, and a pattern with `!`
            /// decides no. An empty list fits everything.
            #[must_use]
            pub fn is_match(&self, text: &str) -> bool {
                self.0.is_empty()
                    || self
                        .0
                        .iter()
                        .rev()
                        .find(|pattern| pattern.is_match(text))
                        .is_some_and(|pattern| !pattern.negated())
            }

            fn checked(patterns: Vec<$pattern>) -> Result<Self, GlobError> {
                if patterns.len() > MAX_PATTERNS {
                    let first = patterns[0].to_string();
                    return Err(error(&first, "there are more than 256 patterns in its list"));
                }
                match patterns.first() {
                    Some(first) if first.negated() => Err(error(
                        &first.to_string(),
                        "a `!` takes away from what stands before it, and nothing does; \
                         write `**` first",
                    )),
                    _ => Ok(Self(patterns)),
                }
            }
        }

        impl Serialize for $list {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0.as_slice() {
                    [one] => one.serialize(serializer),
                    many => many.serialize(serializer),
                }
            }
        }

        impl<'de> Deserialize<'de> for $list {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;

                impl<'de> de::Visitor<'de> for Visit {
                    type Value = $list;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a pattern or a list of patterns")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$list, E> {
                        let one = text.parse().map_err(E::custom)?;
                        $list::checked(vec![one]).map_err(E::custom)
                    }

                    fn visit_seq<A: de::SeqAccess<'de>>(
                        self,
                        mut seq: A,
                    ) -> Result<$list, A::Error> {
                        let mut patterns = Vec::new();
                        while let Some(pattern) = seq.next_element()? {
                            patterns.push(pattern);
                        }
                        if patterns.is_empty() {
                            return Err(de::Error::custom(
                                "an empty list of patterns; leave the key away to ask for nothing",
                            ));
                        }
                        $list::checked(patterns).map_err(de::Error::custom)
                    }
                }
                deserializer.deserialize_any(Visit)
            }
        }

        impl JsonSchema for $list {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($list).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let one = generator.subschema_for::<$pattern>();
                json_schema!({
                    "description": $many,
                    "anyOf": [one.clone(), { "type": "array", "items": one, "minItems": 1 }],
                })
            }
        }
    };
}

impl Glob {
    const fn negated(&self) -> bool {
        self.negated
    }
}

text_pattern!(
    Glob,
    Globs,
    "glob",
    "A glob: `*` is anything but `/`, `**` is anything, a leading `!` takes away.",
    "One glob or a list of them; the last that fits decides."
);
text_pattern!(
    TagPattern,
    TagPatterns,
    "tag-pattern",
    "A glob over the tag, or a range of versions: `semver(\">=1\")`.",
    "One tag pattern or a list of them; the last that fits decides."
);

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(json: &str) -> Globs {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_star_stays_within_its_folder() {
        for (pattern, fits, fails) in [
            ("apps/*", "apps/shop", "apps/shop/web"),
            ("apps/**", "apps/shop/web", "base/x"),
            ("*/shop", "acme/shop", "acme/team/shop"),
            ("src/**", "src/a/b.rs", "srcs/a"),
            ("**/*.md", "README.md", "README.rst"),
            ("release-?", "release-1", "release-10"),
            ("{main,next}", "next", "other"),
        ] {
            let globs = globs(&format!("{pattern:?}"));
            assert!(globs.is_match(fits), "{pattern} {fits}");
            assert!(!globs.is_match(fails), "{pattern} {fails}");
        }
    }

    #[test]
    fn the_last_that_fits_decides() {
        let globs = globs(r#"["**", "!docs/**", "docs/api/**"]"#);
        assert!(globs.is_match("src/a"));
        assert!(!globs.is_match("docs/b"));
        assert!(globs.is_match("docs/api/c"));
    }

    #[test]
    fn versions_are_compared_as_versions() {
        let tags: TagPatterns = serde_json::from_str(r#""semver(\">=1.2, <2\")""#).unwrap();
        for tag in ["1.2.0", "v1.10.3", "1.99.0+build.1"] {
            assert!(tags.is_match(tag), "{tag}");
        }
        for tag in ["1.1.9", "2.0.0", "1.3.0-rc.1", "1.3", "latest", "", "v"] {
            assert!(!tags.is_match(tag), "{tag}");
        }
    }

    #[test]
    fn ranges_are_written_with_commas_or_blanks() {
        for range in [">=1, <2", ">=1 <2", ">= 1 < 2", "  >=1   <2 ", ">=1,<2"] {
            let tags = TagPatterns::versions(range).unwrap();
            assert!(tags.is_match("1.5.0") && !tags.is_match("2.0.0"), "{range}");
            assert!(tags.are_versions());
        }
        assert!(TagPatterns::versions(">=1 || <0.5").is_err());
        let mixed: TagPatterns = serde_json::from_str(r#"["semver(\"^1\")", "!1.2.*"]"#).unwrap();
        assert!(mixed.are_versions() && mixed.is_match("1.3.0") && !mixed.is_match("1.2.3"));
        let glob: TagPatterns = serde_json::from_str(r#""v*""#).unwrap();
        assert!(!glob.are_versions());
    }

    #[test]
    fn the_newest_is_that_of_versions() {
        let tags = ["v1.9.0", "1.10.0", "latest", "v1.10.0", "1.10.0-rc.1", "1.2", "0.99.0"];
        assert_eq!(newest_version(tags), Some("1.10.0"));
        assert_eq!(newest_version(["latest", "1.2"]), None);
        assert_eq!(newest_version(["1.0.0-rc.2", "1.0.0-rc.10"]), Some("1.0.0-rc.10"));
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        for (json, want) in [
            (r#""a[""#, "not a pattern"),
            (r#""""#, "it is empty"),
            (r#""semver(>=1)""#, "in quotes"),
            (r#""semver(\"one\")""#, "not a pattern"),
            (r#""semver(\">=1 || <0.5\")""#, "not a pattern"),
            (r#"["!docs/**"]"#, "nothing does"),
            ("[]", "empty list"),
            ("7", "a pattern or a list of patterns"),
        ] {
            let error = serde_json::from_str::<TagPatterns>(json).unwrap_err().to_string();
            assert!(error.contains(want), "{json}: {error}");
        }
    }

    #[test]
    fn a_list_is_written_as_it_was_read() {
        for json in [r#""apps/*""#, r#"["a","!b"]"#] {
            assert_eq!(serde_json::to_string(&globs(json)).unwrap(), json);
        }
    }
}
