//! What is followed live: a run as it happens.

mod all;
mod follow;

pub(crate) use follow::{Followed, Streams};
