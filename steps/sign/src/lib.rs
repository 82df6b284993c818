//! The sign and verify steps: cosign keys, v2 signatures and v3 bundles.
