//! The Docker engine that the tests build and run on. It is shared, and stays when they end.

use std::path::PathBuf;

use crate::setup;

/// The base image that builds start from; [`docker_host`] makes sure that the engine has it.
pub const BASE_IMAGE: &str = "fairlead.local/base/debian:12";

/// The address of an engine that answers and has [`BASE_IMAGE`], as in `DOCKER_HOST`.
///
/// # Panics
/// When there is none and none can be started.
#[must_use]
pub fn docker_host() -> String {
    let host = setup("docker");
    assert_eq!(setup("base-images"), BASE_IMAGE);
    host
}

/// The socket of [`docker_host`].
///
/// # Panics
/// When the engine does not listen on a socket of this machine.
#[must_use]
pub fn docker_socket() -> PathBuf {
    let host = docker_host();
    host.strip_prefix("unix://").map(PathBuf::from).expect("an engine on a unix socket")
}
