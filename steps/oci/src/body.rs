//! A request body that comes piece by piece, with its length known before.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{Stream, TryStreamExt as _};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::Error;

/// How many pieces wait between who reads them and who sends them.
const WAITING: usize = 4;

/// The body's end came before all of it: the request must not look complete.
#[derive(Debug, thiserror::Error)]
#[error("what is sent broke off")]
pub(crate) struct BrokenOff;

/// The body.
pub(crate) struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    left: u64,
}

/// What feeds a [`Pieces`].
pub(crate) struct Feed {
    pieces: mpsc::Sender<Bytes>,
}

/// Why a body was not fed to its end.
pub(crate) enum Unfed {
    /// The bytes could not be had.
    Source(Error),
    /// Nobody took any for so long.
    Stuck(Duration),
}

/// A body of `size` bytes and what feeds it.
pub(crate) fn pieces(size: u64) -> (Pieces, Feed) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Pieces { pieces: receiver, left: size }, Feed { pieces: sender })
}

impl Feed {
    /// Feeds all of `source`. A body that nobody wants any more is no failure: whoever sends it
    /// knows why.
    pub(crate) async fn all(
        self,
        source: impl Stream<Item = Result<Bytes, Error>>,
        idle: Duration,
    ) -> Result<(), Unfed> {
        let mut source = std::pin::pin!(source);
        while let Some(piece) = source.try_next().await.map_err(Unfed::Source)? {
            match tokio::time::timeout(idle, self.pieces.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Unfed::Stuck(idle)),
            }
        }
        Ok(())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match ready!(self.pieces.poll_recv(cx)) {
            Some(piece) => match self.left.checked_sub(piece.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Ok(Frame::data(piece))
                }
                None => Err(BrokenOff),
            },
            None => Err(BrokenOff),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
