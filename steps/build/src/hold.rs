//! Names of their own for images that were built, until they are pushed.
//!
//! The engine forgets an image with its last name. Two builds of the same content are one image, and
//! the one that has pushed it first takes the names of the push away; the other's name holds it.

use std::sync::{Mutex, PoisonError};

use bollard::Docker;
use bollard::query_parameters::RemoveImageOptionsBuilder;

/// Where the names are. Nothing is pushed there or pulled from there.
const REPOSITORY: &str = "fairlead.local/build";

/// The names that one step gave. They are taken away when the step ends, however it ends.
#[derive(Default)]
pub(crate) struct Holds(Mutex<Vec<(Docker, String)>>);

impl Holds {
    /// A name that ends in `unique`, which no other build has.
    pub(crate) fn name(&self, docker: &Docker, unique: &str) -> String {
        let name = format!("{REPOSITORY}:{unique}");
        self.names().push((docker.clone(), name.clone()));
        name
    }

    fn names(&self) -> std::sync::MutexGuard<'_, Vec<(Docker, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the names away.
    pub(crate) async fn release(&self) {
        let names = std::mem::take(&mut *self.names());
        for (docker, name) in names {
            untag(&docker, &name).await;
        }
    }
}

impl Drop for Holds {
    /// Where the step was dropped before it could do so itself.
    fn drop(&mut self) {
        let names = std::mem::take(&mut *self.names());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for (docker, name) in names {
            runtime.spawn(async move { untag(&docker, &name).await });
        }
    }
}

/// Takes a name from an image. What it was built from stays in the engine's cache of builds.
pub(crate) async fn untag(docker: &Docker, name: &str) {
    let options = RemoveImageOptionsBuilder::default().noprune(true).build();
    // It may never have been given, or be gone already.
    if let Err(error) = docker.remove_image(name, Some(options), None).await {
        tracing::debug!(%error, name, "the engine did not take the name away");
    }
}
