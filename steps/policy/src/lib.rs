//! Policies: who must have signed an image, which attestations must be there and what must stand in them.
//! No stable API.
//!
//! A [`Policy`] is a file, read and checked as a whole; [`judge`] is pure: it holds what was found at an
//! image ([`Facts`]) against the policy and explains each rule line by line. The same judge answers a gate in
//! a pipeline, `fairlead verify`, and the tests that stand beside a policy.

mod document;
mod expression;
mod facts;
mod judge;
mod step;

pub use document::{Case, Policy, PolicyError, RuleMode};
pub use facts::{Facts, gather};
pub use judge::{CaseFailure, Report, RuleAnswer, RuleReport, judge, run_cases};
pub use step::{PolicyInput, PolicyOutput, PolicyStep};

#[cfg(test)]
mod tests;
