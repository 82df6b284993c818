//! Which addresses are believed that a registry, or somebody in its name, puts into an answer:
//! redirects, upload locations, next pages, token endpoints.
//!
//! An answer leads somewhere or nowhere; it never decides who hears a secret. Logins and tokens go
//! to the registry's own origin (scheme, host and port) and to the token endpoint that this very
//! origin names, and nothing that left that origin comes back to it with a login.

use std::net::IpAddr;

use fairlead_step::egress::{is_link_bound, is_metadata_name};
use url::{Host, Url};

/// Where `target`, named in an answer to a request for `here`, leads; or why nobody goes there.
/// `base` is the registry's own address.
///
/// * Only `http` and `https`, without a user or a password in it.
/// * Never from `https` to `http`. A registry behind a proxy that ends TLS names itself `http`:
///   the registry's own name is put right.
/// * Never to an address that only means something on one link or to one machine of a cloud
///   (link-local, metadata services), and to this machine only where the registry is on it.
pub(crate) fn lead(base: &Url, here: &Url, target: &str) -> Result<Url, &'static str> {
    let mut next = here.join(target).map_err(|_| "it leads to what is not an address")?;
    next.set_fragment(None);
    if !matches!(next.scheme(), "http" | "https") {
        return Err("it leads to what is neither http nor https");
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err("it leads to an address with a user in it");
    }
    let ourselves = next.host() == base.host();
    if next.scheme() == "http" {
        let ends_tls = ourselves && base.scheme() == "https";
        let had_tls = here.scheme() == "https" || base.scheme() == "https";
        if !(ends_tls && next.set_scheme("https").is_ok()) && had_tls {
            return Err("it leads from https to http");
        }
    }
    match reach(&next) {
        _ if ourselves => Ok(next),
        Reach::Link => Err("it leads to a link-local or metadata address"),
        Reach::Machine if reach(base) != Reach::Machine => Err("it leads to this machine"),
        Reach::Machine | Reach::Anywhere => Ok(next),
    }
}

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This machine.
    Machine,
    /// One link, or the metadata service of a cloud's machine.
    Link,
    /// Elsewhere too.
    Anywhere,
}

fn reach(url: &Url) -> Reach {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            return match name {
                "localhost" => Reach::Machine,
                _ if name.ends_with(".localhost") => Reach::Machine,
                _ if is_metadata_name(name) => Reach::Link,
                _ => Reach::Anywhere,
            };
        }
        None => return Reach::Link,
    };
    if is_link_bound(address) {
        return Reach::Link;
    }
    let address = address.to_canonical();
    // A connection to the unspecified address arrives at this machine.
    if address.is_loopback() || address.is_unspecified() { Reach::Machine } else { Reach::Anywhere }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(base: &str, target: &str) -> Result<String, &'static str> {
        let base = Url::parse(base).unwrap();
        let here = base.join("v2/shop/blobs/sha256:0").unwrap();
        lead(&base, &here, target).map(String::from)
    }

    #[test]
    fn an_answer_leads_to_the_registry_and_to_storage_over_tls() {
        let base = "https://registry.example.com/";
        for (target, want) in [
            ("/v2/shop/x?a=b", "https://registry.example.com/v2/shop/x?a=b"),
            ("next", "https://registry.example.com/v2/shop/blobs/next"),
            ("http://registry.example.com/v2/x", "https://registry.example.com/v2/x"),
            ("https://storage.example.net/b?sig=1#f", "https://storage.example.net/b?sig=1"),
            ("//storage.example.net/b", "https://storage.example.net/b"),
            ("https://10.1.2.3/b", "https://10.1.2.3/b"),
        ] {
            assert_eq!(led(base, target).as_deref(), Ok(want), "{target}");
        }
        let plain = "http://registry.internal:5000/";
        assert!(led(plain, "http://storage.internal:9000/b").is_ok());
        assert!(led(plain, "https://storage.internal/b").is_ok());
        assert!(led("http://127.0.0.1:5000/", "http://localhost:9000/b").is_ok());
    }

    #[test]
    fn an_answer_leads_nowhere_that_only_this_machine_can_reach() {
        for (base, target) in [
            ("https://registry.example.com/", "http://storage.example.net/b"),
            ("https://registry.example.com/", "ftp://storage.example.net/b"),
            ("https://registry.example.com/", "file:///etc/passwd"),
            ("https://registry.example.com/", "https://user:pw@storage.example.net/b"),
            ("https://registry.example.com/", "https://user@registry.example.com/b"),
            ("https://registry.example.com/", "https://169.254.169.254/b"),
            ("https://registry.example.com/", "https://[fe80::1]/b"),
            ("https://registry.example.com/", "https://127.0.0.1/b"),
            ("https://registry.example.com/", "https://localhost/b"),
            ("http://registry.internal/", "http://169.254.169.254/latest"),
            // The same address, spelled otherwise.
            ("http://registry.internal/", "http://0xa9fea9fe/latest"),
            ("http://registry.internal/", "http://2852039166/latest"),
            ("http://registry.internal/", "http://[::ffff:169.254.169.254]/latest"),
            ("http://registry.internal/", "http://[fd00:ec2::254]/latest"),
            ("http://registry.internal/", "http://100.100.100.200/latest"),
            ("http://registry.internal/", "http://metadata.google.internal/latest"),
            ("http://registry.internal/", "http://0.0.0.0:8500/"),
            ("http://registry.internal/", "http://[::1]:8500/"),
            ("http://registry.internal/", "http://127.1:8500/"),
            ("http://registry.internal/", "http://a.localhost:8500/"),
            ("http://127.0.0.1:5000/", "http://169.254.169.254/latest"),
        ] {
            assert!(led(base, target).is_err(), "{base} → {target}: {:?}", led(base, target));
        }
    }

    #[test]
    fn a_step_that_went_over_tls_is_followed_by_none_without() {
        let base = Url::parse("http://registry.internal/").unwrap();
        let here = Url::parse("https://storage.example.net/b").unwrap();
        assert!(lead(&base, &here, "http://storage.example.net/b").is_err());
        assert!(lead(&base, &here, "/c").is_ok());
    }
}
