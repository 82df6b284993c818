//! What is followed live: a run as it happens.

mod follow;

pub(crate) use follow::{Followed, Streams};
