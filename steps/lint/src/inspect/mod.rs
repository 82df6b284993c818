//! What is in an image, by layer: sizes, what is wasted, what is there twice.

mod analyze;
mod archive;
mod draw;
mod remote;
mod source;
mod step;

pub use analyze::{Duplicate, Inspection, LayerReport, SizedFile, Wasted};
pub use draw::draw;
pub use remote::inspect_image;
pub use source::inspect_path;
pub use step::{Budget, Inspect, InspectInput, InspectOutput};

/// Why an image cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A file cannot be read.
    #[error("cannot read {what}")]
    Read {
        /// What was read.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no image, or a damaged one.
    #[error("{what}: {problem}")]
    Malformed {
        /// What is damaged.
        what: String,
        /// How.
        problem: String,
    },
    /// The registry did not give what was asked for.
    #[error(transparent)]
    Registry(#[from] fairlead_oci::Error),
}

impl InspectError {
    fn malformed(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), problem: problem.into() }
    }
}
