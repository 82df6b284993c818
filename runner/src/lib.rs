//! Fairlead: an event-driven pipeline engine for container images.
