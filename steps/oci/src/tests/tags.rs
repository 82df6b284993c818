//! Tags that were for the moment.

use super::{client, tagged};
use crate::kit::{FakeRegistry, Login};

#[tokio::test]
async fn a_tag_is_deleted_and_its_manifest_stays_whatever_the_registry_does() {
    for (deletes, gone) in [(None, false), (Some(false), true), (Some(true), true)] {
        let registry = FakeRegistry::start().await;
        registry.behave(|behavior| behavior.deletes_tags = deletes);
        let (client, repository) = (client(), registry.repository("apps/shop"));
        let image = registry.seed_image("apps/shop", Some("for-a-moment"), "content");
        let manifest = client.manifest(&image).await.unwrap();
        let untagged = client.untag(&repository, "for-a-moment", &manifest).await.unwrap();
        assert_eq!(untagged, gone, "{deletes:?}");
        let found = client.resolve(&tagged(&repository, "for-a-moment")).await;
        assert_eq!(found.is_err(), gone, "{deletes:?}");
        assert_eq!(client.manifest(&image).await.unwrap().bytes, manifest.bytes, "{deletes:?}");
        // Again, there is nothing to do, or nothing that can be done.
        assert_eq!(client.untag(&repository, "for-a-moment", &manifest).await.unwrap(), gone);
    }
}

#[tokio::test]
async fn who_may_not_delete_leaves_the_tag() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("apps/shop", Some("v1"), "content");
    let manifest = client().manifest(&image).await.unwrap();
    registry.behave(|behavior| {
        behavior.deletes_tags = Some(false);
        behavior.login = Login::Basic("robot".into(), "pw".into());
    });
    let untagged = client().untag(&image.repository, "v1", &manifest).await.unwrap();
    assert!(!untagged);
}
