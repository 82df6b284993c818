//! The harness and the integration tests, against real services.
//!
//! Each test starts what it needs and nothing is shared but the engine and downloaded programs:
//! a [`Registry`] and a [`Nats`] on ports and in folders of their own, a [`BareRepository`] with a
//! [`GitServer`] before it, [`Fairlead`] in a folder of its own. Dropping a value ends what it
//! started, by process id, also when the test panics. Programs come from `tests/setup`, on first
//! use; several tests that want one at once wait for each other.
//!
//! Everything here panics with a sentence when the machine does not give what a test needs: a test
//! that cannot run has failed.
#![expect(clippy::disallowed_methods, reason = "the harness is a host: it starts processes")]

mod engine;
mod fairlead;
pub mod fuzz;
mod git;
pub mod http;
mod nats;
mod network;
mod postgres;
mod process;
mod programs;
mod registry;

pub use engine::{BASE_IMAGE, docker_host, docker_socket};
pub use fairlead::{Fairlead, Finished};
pub use git::{BareRepository, GitServer, git};
pub use nats::Nats;
pub use network::{Machine, Network};
pub use postgres::{Postgres, postgres_schema};
pub use process::{Running, eventually, free_port, stdout_of};
pub use programs::{Oracle, bench_folder, oracle, repository_root, setup, syft, validators_folder};
pub use registry::{Registry, RegistryLogin};
