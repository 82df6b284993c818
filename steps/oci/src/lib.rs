//! The registry client: distribution-spec transport, referrers, closures, copies.
