//! The gitops step: format-preserving edits, committed and pushed.
