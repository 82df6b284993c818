//! Which hosts may be spoken to: [`Egress`], the rules; whoever connects asks them about the name and then
//! about every address that the name leads to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::Glob;

/// Which hosts may be spoken to. Cheap to clone; every clone has the same rules, also when they are replaced.
///
/// * Nobody is led to a link-local address or to the metadata service of a cloud's machine, unless that very
///   address is configured.
/// * [`Egress::open`] lets everything else be spoken to: a person's own machine.
/// * [`Egress::public_and`] lets hosts of the public internet be spoken to, and those that are configured:
///   never this machine or a private network because an event or a pipeline says so.
#[derive(Debug, Clone, Default)]
pub struct Egress(Arc<RwLock<Arc<Rules>>>);

impl PartialEq for Egress {
    fn eq(&self, other: &Self) -> bool {
        self.rules() == other.rules()
    }
}

impl Eq for Egress {}

#[derive(Debug, Default, PartialEq, Eq)]
struct Rules {
    /// None on an open machine.
    configured: Option<Vec<EgressRule>>,
}

/// A host that may be spoken to although it is not of the public internet: `registry.internal`,
/// `registry.internal:5000`, `*.corp.example.com`, `10.1.2.3`, `127.0.0.1:5000`, `10.0.0.0/8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    host: HostRule,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Name(Glob),
    Network(IpAddr, u8),
}

/// A host that may not be spoken to, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` {why}")]
pub struct EgressDenied {
    host: String,
    why: &'static str,
}

impl EgressDenied {
    /// The way out, for whoever keeps the configuration.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "where it is meant, add `{}` under `egress.allow` in the server's configuration",
            self.host
        )
    }
}

const LINK: &str = "leads to a link-local or metadata address";
const INSIDE: &str = "is not of the public internet, and not configured";
const PORT: &str = "is configured with another port";

impl Egress {
    /// Everything but what only means something on one link, or to one machine of a cloud.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// The public internet, and the hosts of `configured`.
    #[must_use]
    pub fn public_and(configured: Vec<EgressRule>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Rules { configured: Some(configured) }))))
    }

    /// Lets those hosts be spoken to from now on that `other` does, for whoever has a clone of this one.
    pub fn replace(&self, other: &Self) {
        let rules = other.rules();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is a person's own machine: what they name themselves they mean.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules().configured.is_none()
    }

    /// Whether `host`, as it stands in an address (IPv6 with or without brackets), may be asked at `port`.
    /// What a name leads to is seen when it is resolved: see [`Egress::reaches`].
    ///
    /// # Errors
    /// When it may not.
    pub fn asks(&self, host: &str, port: Option<u16>) -> Result<(), EgressDenied> {
        let name = plain(host);
        if let Ok(address) = name.parse::<IpAddr>() {
            return self.reaches_at(&name, address, port);
        }
        let denied = |why| Err(EgressDenied { host: shown(host, port), why });
        match self.named(&name, port) {
            Some(Named::Yes) => return Ok(()),
            Some(Named::OtherPort) => return denied(PORT),
            None => {}
        }
        if is_metadata_name(&name) {
            return denied(LINK);
        }
        if self.rules().configured.is_some() && is_local_name(&name) {
            return denied(INSIDE);
        }
        Ok(())
    }

    /// Whether a connection for the name `host` may go to `address`.
    ///
    /// # Errors
    /// When it may not.
    pub fn reaches(&self, host: &str, address: IpAddr) -> Result<(), EgressDenied> {
        self.reaches_at(&plain(host), address, None)
    }

    /// Those of the addresses `found` for the name `host` that a connection may go to, and what kept the
    /// others out, where there are others.
    pub fn usable(
        &self,
        host: &str,
        found: impl IntoIterator<Item = SocketAddr>,
    ) -> (Vec<SocketAddr>, Option<EgressDenied>) {
        let (mut usable, mut denied) = (Vec::new(), None);
        for address in found {
            match self.reaches(host, address.ip()) {
                Ok(()) => usable.push(address),
                Err(error) => denied = Some(error),
            }
        }
        (usable, denied)
    }

    /// Whether `host` itself is configured, for this port: whatever it leads to is meant.
    #[must_use]
    pub fn is_configured(&self, host: &str, port: u16) -> bool {
        self.named(&plain(host), Some(port)) == Some(Named::Yes)
    }

    fn reaches_at(
        &self,
        name: &str,
        address: IpAddr,
        port: Option<u16>,
    ) -> Result<(), EgressDenied> {
        let address = address.to_canonical();
        let denied = |why| Err(EgressDenied { host: shown(name, port), why });
        match self.configured(address, port) {
            Some(Named::Yes) => return Ok(()),
            Some(Named::OtherPort) => return denied(PORT),
            None => {}
        }
        if is_link_bound(address) {
            return denied(LINK);
        }
        let Some(_) = &self.rules().configured else { return Ok(()) };
        // The port of a name was looked at before it was resolved.
        if is_public(address) || self.named(name, None).is_some() {
            return Ok(());
        }
        denied(INSIDE)
    }

    /// What is configured about a name.
    fn named(&self, name: &str, port: Option<u16>) -> Option<Named> {
        self.any(port, |rule| match &rule.host {
            HostRule::Name(glob) => glob.is_match(name),
            HostRule::Network(..) => false,
        })
    }

    /// What is configured about an address.
    fn configured(&self, address: IpAddr, port: Option<u16>) -> Option<Named> {
        self.any(port, |rule| match &rule.host {
            HostRule::Name(_) => false,
            HostRule::Network(network, length) => is_in(address, *network, *length),
        })
    }

    fn any(&self, port: Option<u16>, fits: impl Fn(&EgressRule) -> bool) -> Option<Named> {
        let mut found = None;
        for rule in self.rules().configured.iter().flatten().filter(|rule| fits(rule)) {
            match (rule.port, port) {
                (Some(wanted), Some(port)) if wanted != port => found = Some(Named::OtherPort),
                _ => return Some(Named::Yes),
            }
        }
        found
    }
}

/// What is configured about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Yes,
    OtherPort,
}

fn shown(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A host in one form: lower case, no brackets, no dot behind it.
fn plain(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.trim_end_matches('.').to_ascii_lowercase()
}

fn is_in(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let same = |a: u128, b: u128, bits: u32| {
        let shift = bits - u32::from(length);
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether a name is this machine's own, whatever it resolves to.
fn is_local_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether a name is that of a cloud's metadata service.
#[must_use]
pub fn is_metadata_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    ["metadata", "metadata.google.internal", "instance-data"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// Metadata services that are not at a link-local address.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address is link-local or the metadata service of a cloud's machine.
#[must_use]
pub fn is_link_bound(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link || METADATA.contains(&address)
}

/// Whether `ip` is an address of the public internet (IANA's registries of special addresses).
#[must_use]
pub const fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

const fn is_public_v4(ip: Ipv4Addr) -> bool {
    !matches!(
        ip.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

const fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    let parts = ip.segments();
    // Only 2000::/3 is given out. Of it, 2001::/23 is for protocols, 2001:db8::/32 and 3fff::/20
    // are for documents, and 2002::/16 leads to any IPv4 address.
    parts[0] >= 0x2000
        && parts[0] <= 0x3fff
        && !(parts[0] == 0x2001 && (parts[1] < 0x200 || parts[1] == 0xdb8))
        && parts[0] != 0x2002
        && !(parts[0] == 0x3fff && parts[1] < 0x1000)
}

impl FromStr for EgressRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| {
            Err(format!(
                "`{text}` is no host: {problem}; write `host`, `host:port`, `*.example.com`, an address or a \
                 network such as `10.0.0.0/8`"
            ))
        };
        if text.contains("://") || text.contains(['@', ' ']) {
            return wrong("it is more than a host");
        }
        if let Some((network, length)) = text.split_once('/') {
            let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u8>())
            else {
                return wrong("what stands before `/` is no address, or behind it no length");
            };
            let most = if network.is_ipv4() { 32 } else { 128 };
            if length > most {
                return wrong("the network's length is more than an address has bits");
            }
            return Ok(Self {
                host: HostRule::Network(network.to_canonical(), length),
                port: None,
            });
        }
        let address = |text: &str| {
            text.parse::<IpAddr>().ok().map(|address| {
                let address = address.to_canonical();
                HostRule::Network(address, if address.is_ipv4() { 32 } else { 128 })
            })
        };
        if let Some(host) = address(text) {
            return Ok(Self { host, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => match port.parse::<u16>() {
                Ok(port) => (host, Some(port)),
                Err(_) => return wrong("what stands behind `:` is no port"),
            },
            Some(_) | None => (text, None),
        };
        let name = plain(host);
        if let Some(host) = address(&name) {
            return Ok(Self { host, port });
        }
        // Everything would be every private network, too, by any name that resolves to it.
        if name.chars().all(|c| matches!(c, '*' | '.' | '?')) {
            return wrong("it names no host");
        }
        match name.parse::<Glob>() {
            Ok(glob) if !name.starts_with('!') => Ok(Self { host: HostRule::Name(glob), port }),
            Ok(_) => wrong("a rule cannot take away"),
            Err(error) => wrong(&error.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for EgressRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for EgressRule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EgressRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A host that may be spoken to although it is not of the public internet: `registry.internal:5000`, `*.corp.example.com`, `10.0.0.0/8`.",
        })
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostRule::Name(glob) => write!(f, "{glob}")?,
            HostRule::Network(address, 32) if address.is_ipv4() => write!(f, "{address}")?,
            HostRule::Network(address, 128) if self.port.is_some() => write!(f, "[{address}]")?,
            HostRule::Network(address, 128) => write!(f, "{address}")?,
            HostRule::Network(address, length) => write!(f, "{address}/{length}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(rules: &[&str]) -> Egress {
        Egress::public_and(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn rules_that_are_replaced_hold_for_every_clone() {
        let egress = Egress::public_and(Vec::new());
        let clone = egress.clone();
        assert!(clone.asks("10.0.0.1", None).is_err());
        egress.replace(&Egress::public_and(vec!["10.0.0.0/8".parse().unwrap()]));
        assert!(clone.asks("10.0.0.1", None).is_ok() && clone == egress);
    }

    #[test]
    fn only_the_public_internet_is_public() {
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(ip(public)), "{public}");
            assert!(configured(&[]).reaches("a.example.com", ip(public)).is_ok(), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip(inside)), "{inside}");
            // By name, when it is resolved, and as it stands in an address.
            assert!(configured(&[]).reaches("a.example.com", ip(inside)).is_err(), "{inside}");
            assert!(configured(&[]).asks(inside, Some(443)).is_err(), "{inside}");
        }
    }

    #[test]
    fn an_open_machine_is_kept_from_metadata_services_alone() {
        let open = Egress::open();
        for host in ["localhost", "10.1.2.3", "[::1]", "registry.internal"] {
            assert!(open.asks(host, Some(5000)).is_ok(), "{host}");
        }
        for host in [
            "169.254.169.254",
            "[fe80::1]",
            "metadata.google.internal",
            "Metadata.",
            "fd00:ec2::254",
            "100.100.100.200",
            "::ffff:169.254.169.254",
        ] {
            let denied = open.asks(host, None).unwrap_err();
            assert!(denied.to_string().contains("metadata"), "{denied}");
        }
        assert!(open.reaches("registry.example.com", ip("169.254.169.254")).is_err());
        assert!(open.reaches("registry.example.com", ip("10.0.0.1")).is_ok());
    }

    #[test]
    fn what_is_configured_is_spoken_to_and_nothing_beside_it() {
        let egress = configured(&[
            "registry.internal:5000",
            "*.corp.example.com",
            "10.1.0.0/16",
            "127.0.0.1:5000",
            "[::1]:80",
        ]);
        for (host, port) in [
            ("registry.internal", 5000),
            ("REGISTRY.internal.", 5000),
            ("git.corp.example.com", 22),
            ("10.1.200.3", 443),
            ("127.0.0.1", 5000),
            ("[::1]", 80),
            ("registry.example.com", 443),
        ] {
            assert_eq!(egress.asks(host, Some(port)), Ok(()), "{host}:{port}");
        }
        for (host, port) in [
            ("registry.internal", 22),
            ("127.0.0.1", 5001),
            ("127.0.0.2", 5000),
            ("10.2.0.1", 443),
            ("localhost", 5000),
            ("a.localhost", 5000),
            ("[::1]", 443),
        ] {
            assert!(egress.asks(host, Some(port)).is_err(), "{host}:{port}");
        }
        assert!(egress.reaches("registry.internal", ip("192.168.0.7")).is_ok());
        assert!(egress.reaches("git.corp.example.com", ip("192.168.0.7")).is_ok());
        assert!(egress.reaches("other.example.com", ip("192.168.0.7")).is_err());
        // A name never makes a metadata service anybody's host.
        assert!(egress.reaches("registry.internal", ip("169.254.169.254")).is_err());
        assert!(configured(&["169.254.169.254"]).asks("169.254.169.254", Some(80)).is_ok());
        let hint = egress.asks("10.2.0.1", Some(443)).unwrap_err().hint();
        assert!(hint.contains("`10.2.0.1:443` under `egress.allow`"), "{hint}");
    }

    #[test]
    fn rules_are_read_as_they_are_shown() {
        for text in [
            "registry.internal",
            "registry.internal:5000",
            "*.corp.example.com",
            "10.1.2.3",
            "127.0.0.1:5000",
            "10.0.0.0/8",
            "[::1]:80",
            "::1",
            "fd00::/8",
        ] {
            assert_eq!(text.parse::<EgressRule>().unwrap().to_string(), text);
        }
        for bad in
            ["", "*", "**", "https://a", "a@b", "10.0.0.0/33", "a/8", "a:b", "!a", "a b", "a:99999"]
        {
            assert!(bad.parse::<EgressRule>().is_err(), "{bad}");
        }
    }
}
