//! What every module of the server may be given: the ports to registries and forges, and the pipelines.

mod images;
mod pipelines;
mod workspaces;

pub use images::{FoundImage, ImageResolver, UnresolvedImage, resolve_images};
pub use pipelines::{Pipeline, Pipelines, PipelinesError};
pub use workspaces::{FoundRef, Workspaces};
