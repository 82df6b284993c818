//! What every module of the server may be given: the ports to registries and forges, and the pipelines.

mod forges;
mod images;
mod pipelines;
mod retention;

pub use forges::{FilesAt, Forges, FoundRef, PipelineFiles};
pub use images::{FoundImage, ImageResolver, UnresolvedImage, resolve_images};
pub use pipelines::{Pipeline, PipelineOrigin, Pipelines, PipelinesError, PlanRules};
pub use retention::{PruneRequest, Retention};
