//! The step and its database, from dumps to verdict. The dumps are written here; the server is a
//! few lines on a socket.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

mod dumps;
mod gate;
mod server;
mod step;
mod update;
