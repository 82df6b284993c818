//! The sbom step: a bill of materials from an image's layers as they stream.
//!
//! [`Sbom`] is the step kind. [`read_image`] reads an image from its registry into a
//! [`Description`], which writes itself in each [`Format`]. Every layer is read once, by a thread
//! that unpacks it and walks its archive while the bytes come in; only a large program or archive is
//! kept in a file without a name while it is looked into.
//!
//! # What a reader of the documents finds, and where
//!
//! The package URL carries all that matching against advisories needs. In SPDX it is
//! `packages[].externalRefs[]` with `referenceType` `purl`, its text in `referenceLocator`; in
//! `CycloneDX` it is `components[].purl`. Components without one (the image, the operating system)
//! are no packages.
//!
//! | part of the package URL | what it says |
//! |---|---|
//! | type | the [`Ecosystem`]: `deb`, `apk`, `rpm`, `pypi`, `npm`, `golang`, … |
//! | namespace | the distribution's `ID` (`debian`, `ubuntu`, `alpine`; `redhat` for `rhel`), the npm scope with its `@`, Maven's group, … |
//! | name, version | the binary package; Python names are normalized (PEP 503) |
//! | qualifier `distro` | `ID-VERSION_ID` of `os-release`, such as `debian-12`; only `ID` on rolling distributions |
//! | qualifier `upstream` | the source package, `name` or `name@version`. Without a version it is the package's own; without the qualifier so is the name |
//! | qualifier `arch` | the architecture as the distribution names it |
//!
//! The operating system itself: in SPDX the package with `primaryPackagePurpose`
//! `OPERATING-SYSTEM`, in `CycloneDX` the component of type `operating-system`. The image: the SPDX
//! package `SPDXRef-Image`, its digest in `checksums`; in `CycloneDX` `metadata.component`, its
//! digest in `bom-ref` and `hashes`.
//!
//! Where a package was found: in SPDX `sourceInfo` for people; in `CycloneDX` the properties
//! `fairlead:location:N:path` and `fairlead:location:N:layer`. A package that a system package
//! installed has `fairlead:location:N:owner` at each location, the owner's package URL; in SPDX the
//! owner `CONTAINS` it. One that was also found where nobody owns it has a location without an
//! owner, and is contained by none.
//!
//! What was seen and not read ([`Unassessed`]): in `CycloneDX` the properties `fairlead:unassessed`
//! of the metadata, and a composition over the image that is `incomplete`; in SPDX annotations of
//! the image, `fairlead:unassessed ` before each text.

mod attach;
mod catalogers;
mod chase;
mod content;
mod document;
mod evidence;
mod executable;
mod folder;
mod image_config;
mod inflate;
mod inventory;
#[cfg(test)]
mod laid_tests;
mod layer;
mod layer_cache;
mod limits;
mod local;
#[cfg(test)]
mod local_tests;
mod owners;
mod package;
mod path;
#[cfg(test)]
mod program_tests;
mod read;
mod rootfs;
mod step;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod syft_tests;
mod tar;
mod unassessed;
#[cfg(test)]
mod zip_tests;
mod zipped;

pub use catalogers::os_release::OsRelease;
pub use document::{Description, Format, Subject};
pub use inflate::UnknownPacking;
pub use inventory::Inventory;
pub use layer::LayerError;
pub use limits::Limits;
pub use package::{Certainty, Ecosystem, FileHash, Location, Package};
pub use path::PathProblem;
pub use read::{ReadError, read_image};
pub use step::{Attach, Input, Output, Sbom};
pub use tar::TarError;
pub use unassessed::{Unassessed, UnassessedKind};
