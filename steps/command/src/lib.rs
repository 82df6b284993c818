//! The command step: a program, or a container through the Docker API.
