//! What a package says of its license, read as far as it can be.

/// A license.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum License {
    /// A valid expression (SPDX 2.3, annex D) over identifiers of the SPDX list.
    Expression(String),
    /// Any other text, such as `BSD` or `see LICENSE.txt`.
    Named(String),
}

impl License {
    pub(super) fn read(text: &str) -> Self {
        let text = text.trim();
        let known = in_spdx(text);
        let text = known.as_deref().unwrap_or(text);
        let mode = spdx::ParseMode { allow_deprecated: true, ..spdx::ParseMode::STRICT };
        let known = spdx::Expression::parse_mode(text, mode).is_ok_and(|expression| {
            // A reference to a text that is somewhere else says nothing in this document.
            expression.requirements().all(|r| r.req.license.id().is_some())
        });
        if known { Self::Expression(text.to_owned()) } else { Self::Named(text.to_owned()) }
    }
}

/// The names that Debian's copyright files have (DEP 5), and what SPDX calls the same.
const DEBIAN: [(&str, &str); 21] = [
    ("AGPL-3", "AGPL-3.0-only"),
    ("AGPL-3+", "AGPL-3.0-or-later"),
    ("Artistic", "Artistic-1.0-Perl"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("BSD-4-clause", "BSD-4-Clause"),
    ("Expat", "MIT"),
    ("GPL-1", "GPL-1.0-only"),
    ("GPL-1+", "GPL-1.0-or-later"),
    ("GPL-2", "GPL-2.0-only"),
    ("GPL-2+", "GPL-2.0-or-later"),
    ("GPL-3", "GPL-3.0-only"),
    ("GPL-3+", "GPL-3.0-or-later"),
    ("GFDL-1.2", "GFDL-1.2-only"),
    ("GFDL-1.3", "GFDL-1.3-only"),
    ("LGPL-2", "LGPL-2.0-only"),
    ("LGPL-2+", "LGPL-2.0-or-later"),
    ("LGPL-2.1", "LGPL-2.1-only"),
    ("LGPL-2.1+", "LGPL-2.1-or-later"),
    ("LGPL-3", "LGPL-3.0-only"),
    ("LGPL-3+", "LGPL-3.0-or-later"),
];

/// An expression over Debian's names in those of SPDX; `None` when one of them has no other name.
fn in_spdx(text: &str) -> Option<String> {
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        let name = match word {
            "AND" | "OR" => word,
            "and" => "AND",
            "or" => "OR",
            name => match DEBIAN.iter().find(|(debian, _)| *debian == name) {
                Some((_, spdx)) => spdx,
                None => spdx::license_id(name).map(|_| name)?,
            },
        };
        found.push(name);
    }
    // What is weaker than `AND` must not bind stronger than the list that it is a part of.
    let mixed = found.contains(&"AND") && found.contains(&"OR");
    (!mixed && !found.is_empty()).then(|| found.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_expressions_are_expressions() {
        for (text, expression) in [
            ("MIT", true),
            ("(MIT OR Apache-2.0)", true),
            ("GPL-2.0", true),
            ("GPL-2.0-or-later WITH Classpath-exception-2.0", true),
            ("MIT License", false),
            ("mit", false),
            ("MIT/Apache-2.0", false),
            ("LicenseRef-mine", false),
            ("SEE LICENSE IN LICENSE.txt", false),
            ("", false),
        ] {
            let got = matches!(License::read(text), License::Expression(_));
            assert_eq!(got, expression, "{text}");
        }
    }

    #[test]
    fn debians_names_are_those_of_spdx() {
        for (text, want) in [
            ("GPL-2+ AND Expat", Some("GPL-2.0-or-later AND MIT")),
            ("LGPL-2.1+ or BSD-3-clause", Some("LGPL-2.1-or-later OR BSD-3-Clause")),
            ("GPL-2+ AND Expat or ISC", None),
            ("GPL-2+ AND public-domain", None),
        ] {
            let got = match License::read(text) {
                License::Expression(text) => Some(text),
                License::Named(_) => None,
            };
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}
