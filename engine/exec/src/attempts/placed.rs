//! Attempts of one run, in this process and in pools of runners.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use fairlead_run::AttemptToken;
use fairlead_step::RunId;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;

use super::{
    AttemptEvent, AttemptSession, Attempts, JobSpec, LocalAttempts, LocalSession, UnderWay,
    Unreachable,
};
use crate::slots::Slot;

/// Makes the attempts of a pool there, and the others here.
#[derive(Clone)]
pub(crate) struct PlacedAttempts {
    pub(crate) here: LocalAttempts,
    pub(crate) elsewhere: Option<Arc<dyn Attempts>>,
}

/// Those of one run.
pub(crate) struct PlacedSession {
    run: RunId,
    here: LocalSession,
    attempts: Option<Arc<dyn Attempts>>,
    /// Opened with the first that it is needed for.
    elsewhere: Option<Box<dyn AttemptSession>>,
}

impl PlacedAttempts {
    pub(crate) fn open(&self, run: &RunId) -> PlacedSession {
        PlacedSession {
            run: run.clone(),
            here: self.here.session(),
            attempts: self.elsewhere.clone(),
            elsewhere: None,
        }
    }

    pub(crate) fn run_ended(&self, run: &RunId) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.run_ended(run);
        }
    }
}

impl PlacedSession {
    fn elsewhere(&mut self) -> Option<&mut Box<dyn AttemptSession>> {
        if self.elsewhere.is_none() {
            self.elsewhere = self.attempts.as_ref().map(|attempts| attempts.open(&self.run));
        }
        self.elsewhere.as_mut()
    }

    pub(crate) fn start(&mut self, job: JobSpec, slot: Slot, begin: oneshot::Receiver<()>) {
        // Without a way to a pool nobody has a slot in it.
        match job.pool.is_some().then(|| self.elsewhere()).flatten() {
            Some(elsewhere) => elsewhere.start(job, slot, begin),
            None => self.here.start(job, slot, begin),
        }
    }

    pub(crate) fn stop(&mut self, token: &AttemptToken) {
        self.here.stop(token);
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.stop(token);
        }
    }

    /// As [`AttemptSession::living`].
    pub(crate) async fn living(
        &mut self,
        under_way: &[UnderWay],
    ) -> Result<BTreeSet<AttemptToken>, Unreachable> {
        let pooled = under_way.iter().any(|attempt| attempt.demand.pool.is_some());
        match pooled.then(|| self.elsewhere()).flatten() {
            Some(elsewhere) => {
                let pooled = under_way.iter().filter(|attempt| attempt.demand.pool.is_some());
                let pooled: Vec<UnderWay> = pooled.cloned().collect();
                elsewhere.living(&pooled).await
            }
            None => self.here.living(under_way).await,
        }
    }

    pub(crate) fn tidy(&self) {
        self.here.tidy();
    }

    pub(crate) async fn close(self) {
        let elsewhere = async {
            if let Some(elsewhere) = self.elsewhere {
                elsewhere.close().await;
            }
        };
        tokio::join!(Box::new(self.here).close(), elsewhere);
    }

    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<AttemptEvent> {
        if let Poll::Ready(Some(event)) = self.here.poll_next_unpin(context) {
            return Poll::Ready(event);
        }
        match &mut self.elsewhere {
            Some(elsewhere) => match elsewhere.poll_next_unpin(context) {
                Poll::Ready(Some(event)) => Poll::Ready(event),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
            None => Poll::Pending,
        }
    }
}

impl Stream for PlacedSession {
    type Item = AttemptEvent;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<AttemptEvent>> {
        self.poll(context).map(Some)
    }
}
