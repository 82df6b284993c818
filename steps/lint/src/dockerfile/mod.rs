//! Dockerfiles as BuildKit reads them, with the place of everything.

mod instruction;
mod read;
mod text;
mod words;

pub(crate) use instruction::{Heredoc, Instruction, Keyword, Pair};
pub(crate) use read::{Comment, Dockerfile, read};
pub(crate) use text::Logical;
pub(crate) use words::{Word, unquote, variables};

#[cfg(test)]
mod peers;
