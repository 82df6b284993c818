//! The run from outside: its transitions, its stored form, and its properties under chance.

mod admission;
mod chance;
mod cost;
mod explain;
mod gates;
mod history;
mod items;
mod paper;
mod rerun;
mod stored;
mod transitions;
mod world;
