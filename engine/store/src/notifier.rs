//! The notifier: hints to whoever listens in this process.

use std::sync::{Mutex, PoisonError};

use fairlead_run::Wake;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::broadcast::{self, error::RecvError};

/// Hints that a listener may leave unheard before it is told to look at all runs instead: more than
/// a burst of votes, and small enough to cost nothing.
const UNHEARD: usize = 1024;

/// Rings until it is silenced.
pub(crate) struct Notifier(Mutex<Option<broadcast::Sender<Wake>>>);

impl Default for Notifier {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::Sender::new(UNHEARD))))
    }
}

impl Notifier {
    pub(crate) fn notify(&self, wake: Wake) {
        if let Some(sender) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // That nobody listens is no fault.
            let _ = sender.send(wake);
        }
    }

    /// What is rung from now on.
    pub(crate) fn listen(&self) -> BoxStream<'static, Wake> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sender) => heard(sender.subscribe()),
            None => futures::stream::empty().boxed(),
        }
    }

    /// Ends every stream.
    pub(crate) fn silence(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn heard(receiver: broadcast::Receiver<Wake>) -> BoxStream<'static, Wake> {
    let next = async |mut receiver: broadcast::Receiver<Wake>| {
        let wake = match receiver.recv().await {
            Ok(wake) => wake,
            Err(RecvError::Lagged(_)) => Wake::All,
            Err(RecvError::Closed) => return None,
        };
        Some((wake, receiver))
    };
    futures::stream::unfold(receiver, next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_too_slow_is_told_to_look_at_all_and_the_end_is_told() {
        let notifier = Notifier::default();
        notifier.notify(Wake::Admission);
        let mut slow = notifier.listen();
        for _ in 0..=UNHEARD {
            notifier.notify(Wake::Admission);
        }
        assert_eq!(slow.next().await, Some(Wake::All));
        assert_eq!(slow.next().await, Some(Wake::Admission));
        notifier.silence();
        assert_eq!(slow.count().await, UNHEARD - 1);
        notifier.notify(Wake::Admission);
        assert_eq!(notifier.listen().next().await, None);
    }
}
