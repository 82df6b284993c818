//! The run from outside: its transitions, its stored form, and its properties under chance.

mod chance;
mod stored;
mod transitions;
mod world;
