//! What may be replaced while the server runs. Whoever needs it takes what there is, and works with that to
//! the end: nobody sees half of one and half of another.

use std::sync::Arc;

use tokio::sync::watch;

/// A value that is replaced as a whole. Cheap to clone.
pub(crate) struct Current<T>(Arc<dyn Fn() -> Arc<T> + Send + Sync>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Current<T> {
    /// The `part` of what `whole` holds.
    pub(crate) fn of<W: Send + Sync + 'static>(
        whole: watch::Receiver<Arc<W>>,
        part: impl Fn(&W) -> Arc<T> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move || part(&whole.borrow())))
    }

    /// All of it.
    pub(crate) fn whole(whole: watch::Receiver<Arc<T>>) -> Self
    where
        T: Send + Sync + 'static,
    {
        Self(Arc::new(move || Arc::clone(&whole.borrow())))
    }

    /// What there is now.
    pub(crate) fn get(&self) -> Arc<T> {
        (self.0)()
    }
}
