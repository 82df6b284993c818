//! The lint step: what is wrong with a Dockerfile and its build context, and the fix. No stable API.
//!
//! A file is read as BuildKit reads it, with the place of everything ([`dockerfile`]); what is in `RUN`
//! is split into commands ([`shell`]); each rule of one list ([`rule::RULES`]) looks at both. A finding
//! says where, what, why and the way out, and where that is certain it has the edit.
//!
//! [`Inspect`] looks at what such a file became: the layers of an image, and what is wasted in them.

mod analysis;
mod config;
mod context;
mod dockerfile;
mod finding;
mod fix;
mod inspect;
mod lint;
mod pragma;
mod report;
mod rule;
mod rules;
mod shell;
mod step;

pub use config::{Config, ConfigError, MAX_CONFIG};
pub use context::Context;
pub use finding::{Edit, Finding, Fix, Ignored, Place};
pub use inspect::{
    Budget, Duplicate, Inspect, InspectError, InspectInput, InspectOutput, Inspection, LayerReport,
    SizedFile, Wasted, draw, inspect_image, inspect_path,
};
pub use lint::{Linted, MAX_DOCKERFILE, fixed, lint};
pub use report::{Counts, is_dockerfile, sarif_run};
pub use rule::{RULES, Rule, Severity, rule};
pub use step::{Lint, LintInput, LintOutput};
