//! Who calls: what a request shows as proof, who that is, what they may do, and what they have done.

mod access;
mod audit;
mod caller;
mod issuers;
mod jws;
mod keys;
mod proxies;
mod rates;
mod subject;
#[cfg(test)]
mod tests;

pub use access::ApiAccess;
pub(crate) use access::{Identity, Refusal};
pub(crate) use audit::Audit;
pub(crate) use caller::{Caller, Guard};
pub use issuers::{ClaimRole, IssuerError, IssuerSettings, Issuers, LoginSettings, LoginToken};
pub use keys::IssuerDocuments;
pub use proxies::TrustedProxies;
pub use rates::Limits;
pub(crate) use rates::{Rates, TooMany};
pub(crate) use subject::InNameOf;
