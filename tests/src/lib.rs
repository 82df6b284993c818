//! The harness and the integration tests, against real services.
