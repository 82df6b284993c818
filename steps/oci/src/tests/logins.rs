//! Logins: passwords, tokens for one and for two repositories, identity tokens, refusals.

use fairlead_step::{ErrorClass, RegistryAuth, Secret};

use super::client_as;
use crate::kit::{FakeRegistry, Fault, Login};
use crate::{Error, Landed};

fn robot(password: &str) -> RegistryAuth {
    RegistryAuth::Basic { user: "robot".into(), password: Secret::new(password.into()) }
}

fn token_login() -> Login {
    Login::Token("robot".into(), "pw".into())
}

#[tokio::test]
async fn one_token_serves_every_request_with_its_scope() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    registry.behave(|b| b.login = token_login());
    let client = client_as(robot("pw"));
    for _ in 0..3 {
        client.manifest(&image).await.unwrap();
    }
    let many = (0..8).map(|_| client.referrers(&image));
    futures::future::try_join_all(many).await.unwrap();
    assert_eq!((registry.asked("/token"), registry.asked(" 401")), (1, 1));
}

#[tokio::test]
async fn a_mount_asks_for_one_token_with_both_scopes() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("apps/shop", None, "x");
    registry.behave(|b| b.login = token_login());
    let client = client_as(robot("pw"));
    let to = registry.repository("prod/shop");
    let manifest = client.manifest(&image).await.unwrap();
    for blob in manifest.blobs() {
        let landed = client.copy_blob(&image.repository, &to, blob).await.unwrap();
        assert_eq!(landed, Landed::Mounted);
    }
    // One to pull there, one to look here, one to mount.
    assert_eq!(registry.asked("/token"), 3);
}

#[tokio::test]
async fn a_refused_login_says_how_to_log_in() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    let host = image.repository.registry().to_owned();
    let basic = Login::Basic("robot".into(), "pw".into());
    let identity = Login::Identity("refresh".into());
    for (login, auth, logged_in) in [
        (token_login(), RegistryAuth::Anonymous, false),
        (token_login(), robot("wrong"), true),
        (basic.clone(), RegistryAuth::Anonymous, false),
        (basic.clone(), robot("wrong"), true),
        (basic, RegistryAuth::IdentityToken(Secret::new("refresh".into())), true),
        (identity.clone(), RegistryAuth::IdentityToken(Secret::new("stale".into())), true),
        (identity, robot("pw"), true),
    ] {
        registry.behave(|b| b.login = login);
        registry.clear_log();
        let error = client_as(auth).manifest(&image).await.unwrap_err();
        let Error::Unauthorized { logged_in: found, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*found, logged_in);
        assert_eq!(error.class(), ErrorClass::Terminal);
        let hint = error.hint().unwrap();
        assert!(hint.contains(&format!("docker login {host}")), "{hint}");
        assert!(registry.log().len() <= 3, "{:?}", registry.log());
        assert!(!format!("{error:?} {error}").contains("wrong"), "a password was shown");
    }
}

#[tokio::test]
async fn passwords_and_identity_tokens_open() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    let identity = RegistryAuth::IdentityToken(Secret::new("refresh".into()));
    for (login, auth) in [
        (Login::Basic("robot".into(), "pw".into()), robot("pw")),
        (Login::Identity("refresh".into()), identity),
    ] {
        registry.behave(|b| b.login = login);
        client_as(auth).manifest(&image).await.unwrap();
    }
}

/// An answer that leads to `target`.
fn redirect(target: String) -> Fault {
    Fault::Answer(307, vec![("location", target)], String::new())
}

/// A challenge that wants the login sent to `realm`.
fn challenge(realm: &str) -> Fault {
    let challenge = format!("Bearer realm=\"{realm}/token\",service=\"s\"");
    Fault::Answer(401, vec![("www-authenticate", challenge)], String::new())
}

#[tokio::test]
async fn a_host_that_a_redirect_leads_to_gets_no_login_and_its_challenge_does_not_count() {
    for login in [token_login(), Login::Basic("robot".into(), "pw".into()), Login::Open] {
        let (registry, stranger) = (FakeRegistry::start().await, FakeRegistry::start().await);
        let image = registry.seed_image("shop", Some("v1"), "x");
        let elsewhere = stranger.seed_image("shop", Some("v1"), "x");
        assert_eq!(image.digest, elsewhere.digest);
        registry.behave(|b| b.login = login);
        let client = client_as(robot("pw"));
        let blob = client.manifest(&image).await.unwrap().blobs()[0].clone();
        let target = format!("{}/v2/shop/blobs/{}", stranger.url(), blob.digest);
        registry.fail("GET /v2/shop/blobs", redirect(target), 2);

        // Storage that lets everybody in is used.
        client.blob_bytes(&image.repository, &blob, 1000).await.unwrap();
        assert_eq!(stranger.logins(), Vec::<String>::new());

        // One that wants a login, in whatever form, is told nothing.
        let basic = vec![("www-authenticate", "Basic realm=\"s\"".to_owned())];
        for fault in [challenge(&stranger.url()), Fault::Answer(401, basic, String::new())] {
            stranger.clear_log();
            let target = format!("{}/v2/shop/blobs/{}", stranger.url(), blob.digest);
            registry.fail("GET /v2/shop/blobs", redirect(target), 1);
            stranger.fail("GET /v2/shop/blobs", fault, 9);
            let error = client.blob_bytes(&image.repository, &blob, 1000).await.unwrap_err();
            assert!(matches!(error, Error::Refused { status: 401, .. }), "{error}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
            assert_eq!(stranger.log().len(), 1, "{:?}", stranger.log());
            assert_eq!(stranger.logins(), Vec::<String>::new());
        }
        // The registry's own word for how to log in still holds.
        client.manifest(&image).await.unwrap();
        client_as(robot("pw")).manifest(&image).await.unwrap();
    }
}

#[tokio::test]
async fn who_left_the_registry_does_not_come_back_with_a_login() {
    let (registry, stranger) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = registry.seed_image("shop", Some("v1"), "x");
    registry.behave(|b| b.login = Login::Basic("robot".into(), "pw".into()));
    let client = client_as(robot("pw"));
    client.manifest(&image).await.unwrap();
    let path = format!("/v2/shop/manifests/{}", image.digest);
    registry.fail("GET /v2/shop/manifests", redirect(format!("{}{path}", stranger.url())), 1);
    stranger.fail("GET /v2/shop/manifests", redirect(format!("{}{path}", registry.url())), 1);
    let before = registry.logins().len();
    let error = client.manifest(&image).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 401, .. }), "{error}");
    assert_eq!(registry.logins().len(), before + 1, "{:?}", registry.logins());
    assert_eq!(stranger.logins(), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_gets_a_login_nowhere_else() {
    let (registry, stranger) = (FakeRegistry::start().await, FakeRegistry::start().await);
    let image = registry.seed_image("shop", Some("v1"), "x");
    let identity = RegistryAuth::IdentityToken(Secret::new("refresh".into()));
    for (login, auth) in
        [(token_login(), robot("pw")), (Login::Identity("refresh".into()), identity)]
    {
        registry.behave(|b| b.login = login);
        registry.fail(" /token", redirect(format!("{}/token", stranger.url())), 1);
        let error = client_as(auth).manifest(&image).await.unwrap_err();
        assert!(error.to_string().contains("redirects"), "{error}");
        assert_eq!(stranger.log(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_login_is_not_sent_where_no_token_endpoint_can_be() {
    let registry = FakeRegistry::start().await;
    let image = registry.seed_image("shop", Some("v1"), "x");
    for realm in [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://metadata.google.internal",
        "http://user:pw@127.0.0.1:9",
    ] {
        registry.fail("GET /v2/shop/manifests", challenge(realm), 1);
        let error = client_as(robot("pw")).manifest(&image).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{realm}: {error}");
        assert!(error.to_string().contains("token endpoint"), "{realm}: {error}");
    }
}

#[tokio::test]
async fn an_upload_that_goes_elsewhere_takes_no_login_along() {
    let (registry, stranger) = (FakeRegistry::start().await, FakeRegistry::start().await);
    registry.behave(|b| b.login = Login::Basic("robot".into(), "pw".into()));
    let to = registry.repository("shop");
    let client = client_as(robot("pw"));
    for (answers, status) in [(201, None), (401, Some(401))] {
        let place = format!("{}/upload/1", stranger.url());
        let opened = Fault::Answer(202, vec![("location", place)], String::new());
        registry.fail("POST /v2/shop/blobs", opened, 1);
        let basic = vec![("www-authenticate", "Basic realm=\"s\"".to_owned())];
        stranger.fail("PUT /upload/1", Fault::Answer(answers, basic, String::new()), 1);
        let blob = bytes::Bytes::from(format!("content {answers}"));
        let done = client.put_blob(&to, &blob).await;
        match status {
            None => drop(done.unwrap()),
            Some(_) => {
                let error = done.unwrap_err();
                assert!(matches!(error, Error::Refused { status: 401, .. }), "{error}");
            }
        }
        assert_eq!(stranger.asked("PUT /upload/1"), 1);
        stranger.clear_log();
    }
    assert_eq!(stranger.logins(), Vec::<String>::new());

    // A write is not sent on: only the registry says where it goes.
    let target = format!("{}/v2/shop/manifests/v9", stranger.url());
    registry.fail("PUT /v2/shop/manifests", redirect(target), 1);
    let bytes = bytes::Bytes::from_static(b"{}");
    let error = client.put_tag(&to, "v9", "application/json", &bytes).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert_eq!(stranger.asked("/v2/shop/manifests"), 0);
}
