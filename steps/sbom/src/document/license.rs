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
        let mode = spdx::ParseMode { allow_deprecated: true, ..spdx::ParseMode::STRICT };
        let known = spdx::Expression::parse_mode(text, mode).is_ok_and(|expression| {
            // A reference to a text that is somewhere else says nothing in this document.
            expression.requirements().all(|r| r.req.license.id().is_some())
        });
        if known { Self::Expression(text.to_owned()) } else { Self::Named(text.to_owned()) }
    }
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
}
