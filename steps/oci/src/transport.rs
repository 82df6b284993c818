//! Connections: one pool for plain HTTP to loopback, one for each set of trusted certificates.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fairlead_step::{Digest, Egress};

use crate::{Elsewhere, Error};

/// Deadlines and patience.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a connection may take to stand.
    pub connect_timeout: Duration,
    /// How long the registry may be silent: before an answer begins, and between two pieces of it.
    pub idle_timeout: Duration,
    /// How long one request with a small answer (all but blobs) may take in all.
    pub request_timeout: Duration,
    /// How often a request is made before it counts as failed.
    pub attempts: u32,
    /// The first pause between two attempts; it doubles, and each is shortened at random by up to
    /// a half.
    pub first_pause: Duration,
    /// The longest pause, also where the registry asks for more with `Retry-After`.
    pub longest_pause: Duration,
    /// How many requests of one operation run side by side.
    pub parallel: usize,
    /// How many blobs stream side by side from one registry to another.
    pub parallel_blobs: usize,
    /// The size of the pieces in which a larger blob is uploaded, in bytes. Without one, which is
    /// the default, a blob goes up in one streamed request, as every registry takes it: some refuse
    /// pieces over 4 MiB, some pieces under 5 MiB, and some all. Pieces are for a front before a
    /// registry that limits how large a request may be.
    pub chunk: Option<usize>,
    /// Where blobs that need not be in the registry may be fetched from.
    pub elsewhere: Elsewhere,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(120),
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
            parallel: 16,
            parallel_blobs: 3,
            chunk: None,
            elsewhere: Elsewhere::Public,
        }
    }
}

/// The connection pools. Cheap to clone; clones share the connections.
#[derive(Debug, Clone, Default)]
pub struct Transport {
    /// A handful at most: by what they trust, and by the rules of where they may connect.
    pools: Arc<Mutex<Vec<(PoolKey, Egress, reqwest::Client)>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum PoolKey {
    /// Loopback over plain HTTP: no proxy stands before it, and no certificate is loaded for it.
    Loopback,
    /// Plain HTTP elsewhere.
    Plain,
    /// HTTPS, by the digest of the extra certificates.
    Tls(Digest),
}

impl Transport {
    /// A transport without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn pool(
        &self,
        host: &str,
        plain_http: bool,
        extra_ca: &[u8],
        egress: &Egress,
        options: &Options,
    ) -> Result<reqwest::Client, Error> {
        let key = match (plain_http, is_loopback(host)) {
            (true, true) => PoolKey::Loopback,
            (true, false) => PoolKey::Plain,
            (false, _) => PoolKey::Tls(Digest::sha256(extra_ca)),
        };
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let same = pools.iter().find(|(known, rules, _)| *known == key && rules == egress);
        if let Some((_, _, pool)) = same {
            return Ok(pool.clone());
        }
        let pool = build(&key, extra_ca, egress, options).map_err(|error| Error::Settings {
            registry: host.to_owned(),
            problem: crate::request::causes(error),
        })?;
        pools.push((key, egress.clone(), pool.clone()));
        Ok(pool)
    }
}

fn build(
    key: &PoolKey,
    extra_ca: &[u8],
    egress: &Egress,
    options: &Options,
) -> reqwest::Result<reqwest::Client> {
    // Redirects are followed where it is known whose login a request carries.
    let builder = fairlead_http::builder(egress).connect_timeout(options.connect_timeout);
    match key {
        PoolKey::Loopback => builder.no_proxy().tls_certs_only([]).build(),
        PoolKey::Plain => builder.tls_certs_only([]).build(),
        PoolKey::Tls(_) => {
            let extra = reqwest::Certificate::from_pem_bundle(extra_ca)?;
            if extra.is_empty() { builder.build() } else { builder.tls_certs_merge(extra).build() }
        }
    }
}

/// Whether `host` (`host` or `host:port`) is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.ends_with(".localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_name_and_number() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["registry.example.com", "10.0.0.1:5000", "localhost.example.com", "128.0.0.1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn clients_build_with_and_without_certificates() {
        let transport = Transport::new();
        let (open, options) = (Egress::open(), Options::default());
        assert!(transport.pool("127.0.0.1:5000", true, &[], &open, &options).is_ok());
        assert!(transport.pool("registry.example.com", false, &[], &open, &options).is_ok());
        let broken = b"-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n";
        let found = transport.pool("registry.example.com", false, broken, &open, &options);
        let error = found.unwrap_err();
        assert!(matches!(error, Error::Settings { .. }), "{error}");
    }
}
