//! How patient the server is.

use std::time::Duration;

use crate::identity::Limits;

/// How patient the server is. The defaults suit production; tests are less patient.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many runs are driven at a time. Others wait to be admitted, safely journaled.
    pub max_runs: usize,
    /// How long runs may take to end when the server is told to stop. What is not over then is left
    /// for the next start.
    pub drain: Duration,
    /// The pause before an event that could not be handled is tried again. It doubles with each
    /// attempt, up to 60 times itself; after twelve attempts it is 300 times itself.
    pub retry: Duration,
    /// How long after an event came its last attempt is: when that fails, too, it is a dead letter.
    /// It has twelve attempts all the same.
    pub give_up: Duration,
    /// How long the outbox has to put an event on the bus. Then the store hands it out itself.
    pub direct: Duration,
    /// How often the store is searched for runs that nobody drives.
    pub sweep: Duration,
    /// How long one question to a registry may take.
    pub registry: Duration,
    /// How long the questions to a forge about one push may take.
    pub forge: Duration,
    /// How long after a push was reported its registry or forge may take to show it. The CNCF registry
    /// reports a push before it moves the tag: who asks at once sees the tag as it was.
    pub settle: Duration,
    /// How much one address may ask of the API.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_runs: 32,
            drain: Duration::from_secs(10),
            retry: Duration::from_secs(1),
            give_up: Duration::from_secs(24 * 3600),
            direct: Duration::from_secs(2),
            sweep: Duration::from_secs(300),
            registry: Duration::from_secs(20),
            forge: Duration::from_secs(150),
            settle: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }
}
