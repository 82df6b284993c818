//! The `sign` and `verify` steps: cosign's keys, its v2 signatures and its v3 bundles, and attestations by
//! their type. No stable API.
//!
//! Both formats are written for one digest with one key: cosign 2 and skopeo read the first,
//! cosign 3 reads the second, and a cosign 3 that finds any bundle looks at no v2 signature. What
//! was written is read back from the registry and verified before the step passes. A signature
//! that is there already stays; others' signatures are never touched.

mod sign;
mod verify;

pub use fairlead_evidence::{Answer, Finding, Format};
pub use sign::{Sign, SignInput, SignOutput};
pub use verify::{AttestationOutput, Mode, Verify, VerifyInput, VerifyOutput};

#[cfg(test)]
mod tests;
