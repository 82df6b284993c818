//! The Run state machine, its records, and the Journal port.
