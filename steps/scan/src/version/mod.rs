//! The order of versions, one file for each scheme.

mod alpine;
mod debian;
mod gem;
mod go;
mod maven;
mod order;
mod python;
mod semantic;

pub(crate) use alpine::Alpine;
pub(crate) use debian::Debian;
pub(crate) use gem::Gem;
pub(crate) use go::Go;
pub(crate) use maven::Maven;
pub(crate) use order::VersionOrder;
pub(crate) use python::Python;
pub(crate) use semantic::Semantic;
