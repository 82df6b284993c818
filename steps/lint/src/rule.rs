//! The one list of rules: their codes never change, and none is ever used for something else.

mod commands;
mod list;

pub use list::RULES;
pub(crate) use list::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a finding weighs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The rule is off.
    Off,
    /// A matter of form.
    Style,
    /// Worth knowing.
    Info,
    /// Likely to be regretted.
    Warning,
    /// It does not build, does not do what it says, or gives something away.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Style => "style",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The stable code, such as `FLD0101`.
    pub code: &'static str,
    /// What hadolint calls the same rule, such as `DL3006`.
    pub alias: Option<&'static str>,
    /// How much it weighs unless the configuration says otherwise.
    pub severity: Severity,
    /// What it is about, a few words.
    pub title: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// The way out.
    pub fix: &'static str,
    /// Whether `--fix` can apply that way out, where it is certain.
    pub mends: bool,
}

impl Rule {
    const fn new(
        code: &'static str,
        alias: &'static str,
        severity: Severity,
        title: &'static str,
        why: &'static str,
        fix: &'static str,
    ) -> Self {
        let alias = if alias.is_empty() { None } else { Some(alias) };
        Self { code, alias, severity, title, why, fix, mends: false }
    }

    const fn mending(mut self) -> Self {
        self.mends = true;
        self
    }

    /// Whether `name` is its code or its alias.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.code.eq_ignore_ascii_case(name)
            || self.alias.is_some_and(|alias| alias.eq_ignore_ascii_case(name))
    }
}

/// The rules with this code or alias: hadolint has one rule for some things that are several here.
pub(crate) fn rules(name: &str) -> impl Iterator<Item = &'static Rule> {
    RULES.iter().copied().filter(move |rule| rule.is_called(name))
}

/// The first rule with this code or alias.
#[must_use]
pub fn rule(name: &str) -> Option<&'static Rule> {
    rules(name).next()
}
