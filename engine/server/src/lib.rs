//! The HTTP API, webhook endpoints, and what turns an event into a run.
