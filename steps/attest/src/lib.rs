//! The `attest` step: signed statements about an image, made of what other steps left behind or of what the
//! run's own journal says. No stable API.

mod attest;
mod checkout;
mod predicate;

pub use attest::{Attest, AttestInput, AttestOutput};

#[cfg(test)]
mod tests;
