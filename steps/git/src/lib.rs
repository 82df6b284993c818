//! The git program, behind typed operations.
