//! Logins: passwords, tokens for one and for two repositories, identity tokens, refusals.

use fairlead_step::{ErrorClass, RegistryAuth, Secret};

use super::client_as;
use crate::kit::{FakeRegistry, Login};
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
