//! One reader for each kind of package database: text in, facts out, no I/O.

pub(crate) mod apk;
mod control;
pub(crate) mod dpkg;
pub(crate) mod node;
pub(crate) mod os_release;
pub(crate) mod python;
