//! The dispatcher, one writer per run, and the host of one attempt of one step.
