//! The registry client: distribution-spec transport, referrers, closures and copies.
//!
//! [`Client`] reads and writes one registry at a time; [`Client::closure`] finds an image with all
//! that is attached to it; [`Client::copy`] brings that to another repository. Every byte that
//! comes in by digest is checked, and manifests are kept as the bytes they are.

mod address;
mod auth;
mod blob;
mod body;
mod client;
mod closure;
mod copy;
mod elsewhere;
mod error;
mod host;
#[cfg(any(test, feature = "kit"))]
pub mod kit;
mod legacy;
mod lists;
mod model;
mod referrers;
mod request;
mod select;
mod tag_index;
mod tags;
mod transport;
mod upload;
mod writers;

pub use blob::BlobStream;
pub use client::{Client, Put, Resolved};
pub use closure::{CLOSURE_LIMIT, Closure, LegacyTag, MEMBERS_LIMIT, Member, Relation};
pub use copy::{CopyEvent, CopyReport, Foreseen, Observer};
pub use elsewhere::{Elsewhere, ElsewhereError};
pub use error::Error;
pub use legacy::Documents;
pub use model::{
    BLOB_LIMIT, CHILDREN_LIMIT, Content, Descriptor, MANIFEST_LIMIT, Manifest, Platform,
    PlatformError, REFERRERS_LIMIT, media_type,
};
pub use referrers::{Artifact, Attached, Layer, Referrers};
pub use select::PlatformImage;
pub use tags::{TAGS_LIMIT, TagMove};
pub use transport::{Options, Transport, is_loopback};
pub use upload::Landed;

#[cfg(test)]
mod tests;
