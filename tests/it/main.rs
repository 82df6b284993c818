//! The integration tests: one binary, against real services, one module per subject.
#![expect(clippy::disallowed_methods, reason = "tests are hosts: they start processes")]
#![expect(clippy::unwrap_used, reason = "in tests, also outside of the test functions")]

mod access;
mod attempts;
mod attestations;
mod bad_input;
mod build;
mod bus;
mod cli;
mod cluster;
mod containers;
mod crash;
mod door;
mod durable;
mod events;
mod forges;
mod fuzz;
mod harness;
mod login;
mod main_job;
mod policy;
mod registry;
mod registry_view;
mod registry_write;
mod release;
mod remote;
mod runners;
mod sbom;
mod secrets;
mod signatures;
mod tidy;
