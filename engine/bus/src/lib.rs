//! The Bus in process and on NATS JetStream.
