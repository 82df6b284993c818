//! Who calls: what a request shows as proof, and who that is.

mod access;

pub use access::ApiAccess;
pub(crate) use access::Refusal;
