//! What proves things about images: keys, signatures and attestations, as cosign 2 and cosign 3 write and
//! read them, and where they hang at a registry. No stable API.
//!
//! A **signature** says that a key's holder saw this digest; an **attestation** is a signed statement
//! about it: what is in it, how it came to be, where it was promoted to. Both come in two formats. In
//! v3, cosign 3's, each is a Sigstore bundle with a DSSE envelope, attached as a referrer, and what
//! tells the two apart is the type of the statement's predicate. In v2, cosign 2's, they are layers under
//! the tags `sha256-….sig` and `sha256-….att`.
//!
//! What others wrote is judged and never trusted to be well-formed: each thing that cannot be read is a
//! finding, and only a registry that cannot be asked is an error.

mod attestation;
mod bundle;
mod dsse;
mod error;
mod gather;
mod key;
mod legacy;
#[cfg(test)]
mod mutations;
mod opening;
mod payload;
mod predicate;
mod provenance;
mod statement;
mod trace;
mod verdict;

pub use attestation::{
    Attestation, Attested, Judged, MAX_STATEMENT, Proven, attach_statement, attest, attestations,
};
pub use bundle::{attach as attach_bundle, find as find_bundles};
pub use dsse::Envelope;
pub use error::EvidenceError;
#[cfg(any(test, feature = "kit"))]
pub use key::kit;
pub use key::{Algorithm, KeyError, PublicKey, SignError, Signer, SigningKey};
pub use legacy::{attach as attach_legacy, find as find_legacy};
pub use opening::{missing_key, open_key};
pub use predicate::PredicateType;
pub use provenance::provenance;
pub use statement::{Statement, Subject};
pub use trace::{Entry, NamedKey, Stage, Standing, Trace, trace};
pub use verdict::{Answer, Demand, Finding, Format, Seen, overall};
