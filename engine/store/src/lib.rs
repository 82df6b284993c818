//! The Journal in memory and in SQLite; events, logs and artifacts.
