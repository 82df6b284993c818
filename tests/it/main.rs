//! The integration tests: one binary, against real services, one module per subject.

mod build;
mod harness;
