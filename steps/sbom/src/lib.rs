//! The sbom step: a bill of materials from an image's layers as they stream.
