//! Tests of the client against the fake registry: what it does when registries misbehave.

mod attachments;
mod copies;
mod faults;
mod logins;
mod tags;
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
        idle_timeout: Duration::from_millis(500),
        chunk: Some(1000),
        ..Options::default()
    };
    Client::with(FakeRegistry::registries(auth), Transport::new(), options)
}

/// A client as steps have it, but for its patience.
fn default_client() -> Client {
    let options = Options {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(50),
        ..Options::default()
    };
    Client::with(FakeRegistry::registries(RegistryAuth::Anonymous), Transport::new(), options)
}

fn tagged(repository: &Repository, tag: &str) -> ImageRef {
    ImageRef { repository: repository.clone(), tag: Some(tag.into()), digest: None }
}

/// The futures that steps await must be `Send`; the compiler says so here and not in their crates.
#[test]
fn what_steps_await_can_be_sent() {
    fn send<T: Send>(_: &T) {}
    let client = client();
    let image =
        "localhost/shop@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
            .parse::<fairlead_step::Image>()
            .unwrap();
    let (repository, descriptor) = (&image.repository, crate::Descriptor::of("", b""));
    send(&client.resolve(&tagged(repository, "v1")));
    send(&client.manifest(&image));
    send(&client.platforms(&image));
    send(&client.blob(repository, &descriptor));
    send(&client.referrers(&image));
    send(&client.attach(repository, &descriptor, &crate::Artifact::default()));
    send(&client.move_tag(&image, "v1", None));
    send(&client.closure(&image));
    send(&client.copy(&image, repository, &|_| {}));
}
