//! How a step ends: with a verdict, or with an error. A policy's "no" is a verdict.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A step's outputs, erased: a JSON object that fits the kind's output schema.
pub type Outputs = serde_json::Value;

/// What a step that ran to its end has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict<O = Outputs> {
    /// It did what it is for.
    Passed {
        /// What it produced.
        outputs: O,
    },
    /// It ran well and its answer is no: findings above the threshold, a foreign signature.
    Rejected {
        /// One line for people, such as `2 critical findings with a fix`.
        reason: String,
        /// What it produced all the same, such as the report of findings.
        outputs: O,
    },
    /// There was nothing for it to do.
    Skipped {
        /// One line for people.
        reason: String,
    },
}

impl<O> Verdict<O> {
    /// The verdict of success.
    pub const fn passed(outputs: O) -> Self {
        Self::Passed { outputs }
    }

    /// The same verdict with other outputs.
    ///
    /// # Errors
    /// What `f` fails with.
    pub fn try_map<P, E>(self, f: impl FnOnce(O) -> Result<P, E>) -> Result<Verdict<P>, E> {
        Ok(match self {
            Self::Passed { outputs } => Verdict::Passed { outputs: f(outputs)? },
            Self::Rejected { reason, outputs } => {
                Verdict::Rejected { reason, outputs: f(outputs)? }
            }
            Self::Skipped { reason } => Verdict::Skipped { reason },
        })
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The infrastructure failed: a network, a disk, a busy server. The same again may pass.
    Retryable,
    /// The same again will fail again: a bad input, a refused login, a failing build.
    Terminal,
    /// It stopped because it was told to.
    Cancelled,
}

/// Why a step has no verdict.
///
/// The message is one lower-case sentence fragment that names the place and the cause; the hint
/// is the way out; the source is the chain beneath. None of them ever holds a secret.
#[derive(Debug)]
pub struct StepError {
    class: ErrorClass,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StepError {
    /// An error that another attempt may not meet.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Retryable, message)
    }

    /// An error that every attempt will meet.
    pub fn terminal(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Terminal, message)
    }

    /// The end of a step that was told to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorClass::Cancelled, "the step was cancelled")
    }

    /// An error of `class`.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, source: None }
    }

    /// Adds the way out, one sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error beneath.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether trying again can help.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.class
    }

    /// The way out, where one is known.
    #[must_use]
    pub fn way_out(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message with every source behind it, on one line, each cause once.
    #[must_use]
    pub fn chain(&self) -> String {
        error_chain(self)
    }
}

/// An error and every source behind it, on one line, each cause once.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_each_cause_once() {
        let error = StepError::retryable("cannot read the manifest")
            .because(std::io::Error::other("connection reset"))
            .hint("is the registry up?");
        assert_eq!(error.chain(), "cannot read the manifest: connection reset");
        assert_eq!(error.way_out(), Some("is the registry up?"));
    }

    #[test]
    fn a_verdict_is_tagged_by_name() {
        let verdict: Verdict = Verdict::Skipped { reason: "no difference".into() };
        assert_eq!(
            serde_json::to_string(&verdict).unwrap(),
            r#"{"verdict":"skipped","reason":"no difference"}"#
        );
    }
}
