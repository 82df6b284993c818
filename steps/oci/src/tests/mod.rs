//! Tests of the client against the fake registry: what it does when registries misbehave.

mod attachments;
mod copies;
mod faults;
mod logins;
mod uploads;

use std::time::Duration;

use fairlead_step::{ImageRef, RegistryAuth, Repository};

use crate::kit::FakeRegistry;
use crate::{Client, Options, Transport};

/// A client that is quick to try again.
fn client() -> Client {
    client_as(RegistryAuth::Anonymous)
}

fn client_as(auth: RegistryAuth) -> Client {
    let options = Options {
        attempts: 4,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(50),
        chunk: 1000,
        ..Options::default()
    };
    Client::with(FakeRegistry::registries(auth), Transport::new(), options)
}

fn tagged(repository: &Repository, tag: &str) -> ImageRef {
    ImageRef { repository: repository.clone(), tag: Some(tag.into()), digest: None }
}
