//! Attempts on runners: the server's side, which keeps who makes what, and the runner's, which makes it.
//!
//! ```text
//!   server                                  runner
//!   Started is durable
//!   offer ──────────── queue ─────────────► take, when there is room
//!   grant, once ◄───── claim ──────────────
//!   lease goes on ◄─── renew ────────────── as long as the work goes on
//!   stored, counted ◄─ lines of the log ─── spooled on its disk until then
//!   the journal decides ◄ the end ───────── kept until that is over
//! ```
//!
//! A runner that cannot renew ends its attempts at two thirds of the lease; the server calls them lost
//! when all of it is over. A server that takes a run up asks who has its attempts, by their tokens.
//! `docs/design/0010-attempts.md` has the reasons.

mod owner;
mod runner;
mod runners;
mod session;
mod wire;

use std::time::Duration;

pub use self::owner::{RemoteAttempts, RemoteOptions};
pub use self::runner::{
    Confine, Floors, MakeLayout, Runner, RunnerEnd, RunnerError, RunnerOptions,
};
pub use self::runners::RunnerView;

/// How long a runner is believed to go on with an attempt since it was last heard of.
pub const LEASE: Duration = Duration::from_secs(30);

/// The part of a lease after which a runner that cannot renew it ends its work.
const FENCED_AT: (u32, u32) = (2, 3);

/// How often a lease is renewed while it lasts.
const RENEWALS: u32 = 6;

/// How often a runner that has nothing to do says that it is there. One that makes something says so more
/// often, and whatever changes at once.
const PRESENCE: Duration = Duration::from_secs(30);

/// How long one question between a server and a runner may take.
const ANSWER: Duration = Duration::from_secs(3);

/// Where every server listens.
const SERVERS: &str = "servers";

/// Where every runner listens.
const RUNNERS: &str = "runners";
