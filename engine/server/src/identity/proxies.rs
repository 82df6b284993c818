//! Whose address a request is of when a proxy brings it. What a proxy says is taken from those alone that
//! the configuration names, and counted from the right: what stands left of the first address that is none of
//! theirs may have been written by anybody.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The most proxies behind one another.
const MOST_HOPS: usize = 16;

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// The proxies in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is that of a proxy.
    pub(crate) fn have(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whose a request is that came over a connection from `connection`.
    pub(crate) fn client(&self, connection: IpAddr, headers: &HeaderMap) -> IpAddr {
        let connection = connection.to_canonical();
        if !self.have(connection) {
            return connection;
        }
        let forwarded = lines(headers, "forwarded")
            .map(|lines| self.first_other(connection, lines.flat_map(forwarded_from_right)));
        let plain = lines(headers, "x-forwarded-for").map(|lines| {
            let hops = lines.flat_map(|line| line.rsplit(',').map(address));
            self.first_other(connection, hops)
        });
        match (forwarded, plain) {
            (None, None) => connection,
            (Some(client), None) | (None, Some(client)) => client,
            (Some(one), Some(other)) if one == other => one,
            // A proxy writes one of the two, and hands the other on as a client sent it.
            (Some(_), Some(_)) => connection,
        }
    }

    /// The first address from the right that is no proxy's; what cannot be read ends the walk.
    fn first_other(
        &self,
        connection: IpAddr,
        hops: impl Iterator<Item = Option<IpAddr>>,
    ) -> IpAddr {
        let mut last = connection;
        for hop in hops.take(MOST_HOPS) {
            match hop {
                Some(hop) if self.have(hop) => last = hop,
                // This machine is known by its connection alone.
                Some(hop) if hop.is_loopback() => return last,
                Some(hop) => return hop,
                None => return last,
            }
        }
        last
    }
}

/// The lines of a header, the last one first.
fn lines<'h>(headers: &'h HeaderMap, name: &str) -> Option<impl Iterator<Item = &'h str>> {
    headers.contains_key(name).then(|| {
        let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("?"));
        lines.collect::<Vec<_>>().into_iter().rev()
    })
}

/// The addresses of a `Forwarded` line (RFC 7239), the last one first.
fn forwarded_from_right(line: &str) -> Vec<Option<IpAddr>> {
    let Some(elements) = split(line, b',') else { return vec![None] };
    let hop = |element: &str| {
        let pairs = split(element, b';')?;
        let named = pairs.into_iter().filter_map(|pair| pair.split_once('='));
        let mut named = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        let (_, value) = named.next()?;
        let value = value.trim();
        let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        address(quoted.unwrap_or(value))
    };
    elements.into_iter().rev().map(hop).collect()
}

/// The parts of a text between separators that stand outside of quotes; none when a quote has no end.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.parse::<IpAddr>().ok();
    let address = bare.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(connection: &str, headers: &[(&'static str, &str)]) -> String {
        let networks = ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"];
        let networks = networks.iter().map(|network| network.parse().unwrap());
        let proxies = TrustedProxies::new(networks.collect());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        proxies.client(connection.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn a_stranger_says_nothing_and_a_proxy_is_believed_from_the_right() {
        const PLAIN: &str = "x-forwarded-for";
        const FORWARDED: &str = "forwarded";
        for (connection, headers, want) in [
            // Nobody is believed who is no proxy.
            ("192.0.2.1", vec![(PLAIN, "198.51.100.1")], "192.0.2.1"),
            ("192.0.2.1", vec![(FORWARDED, "for=198.51.100.1")], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec![(PLAIN, "198.51.100.1")], "198.51.100.1"),
            ("::ffff:10.0.0.1", vec![(PLAIN, "198.51.100.1")], "198.51.100.1"),
            // What a client wrote stands left of what the proxy has added.
            ("10.0.0.1", vec![(PLAIN, "203.0.113.9, 198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", vec![(PLAIN, "203.0.113.9, 198.51.100.1, 10.9.9.9")], "198.51.100.1"),
            ("10.0.0.1", vec![(PLAIN, "203.0.113.9"), (PLAIN, "198.51.100.1")], "198.51.100.1"),
            ("10.0.0.1", vec![(PLAIN, "198.51.100.1:1234")], "198.51.100.1"),
            ("10.0.0.1", vec![(PLAIN, "2001:db8::1")], "2001:db8::1"),
            ("fd00::1", vec![(PLAIN, "[2001:db8::1]:443")], "2001:db8::1"),
            // Where it cannot be read, it is the last that could.
            ("10.0.0.1", vec![(PLAIN, "198.51.100.1, nonsense, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", vec![(PLAIN, "")], "10.0.0.1"),
            ("10.0.0.1", vec![(PLAIN, "198.51.100.1,")], "10.0.0.1"),
            ("10.0.0.1", vec![(PLAIN, "10.1.1.1, 10.2.2.2")], "10.1.1.1"),
            // Nobody becomes this machine by saying so.
            ("10.0.0.1", vec![(PLAIN, "127.0.0.2")], "10.0.0.1"),
            ("10.0.0.1", vec![(FORWARDED, "for=198.51.100.1")], "198.51.100.1"),
            (
                "10.0.0.1",
                vec![(FORWARDED, "For=\"[2001:db8::1]:4711\"; proto=http;by=10.0.0.1")],
                "2001:db8::1",
            ),
            (
                "10.0.0.1",
                vec![(FORWARDED, "for=203.0.113.9, for=198.51.100.1;proto=https, for=10.3.3.3")],
                "198.51.100.1",
            ),
            // A comma or a semicolon in quotes is none.
            (
                "10.0.0.1",
                vec![(FORWARDED, "for=198.51.100.1;ext=\"a, for=203.0.113.9; \\\" b\"")],
                "198.51.100.1",
            ),
            ("10.0.0.1", vec![(FORWARDED, "for=198.51.100.1, for=\"203.0.113.9")], "10.0.0.1"),
            ("10.0.0.1", vec![(FORWARDED, "for=198.51.100.1, for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", vec![(FORWARDED, "for=198.51.100.1, for=unknown")], "10.0.0.1"),
            ("10.0.0.1", vec![(FORWARDED, "proto=https")], "10.0.0.1"),
            // Of two that say different things one is a client's.
            ("10.0.0.1", vec![(FORWARDED, "for=203.0.113.9"), (PLAIN, "198.51.100.1")], "10.0.0.1"),
            (
                "10.0.0.1",
                vec![(FORWARDED, "for=198.51.100.1"), (PLAIN, "198.51.100.1")],
                "198.51.100.1",
            ),
        ] {
            assert_eq!(client(connection, &headers), want, "{connection} {headers:?}");
        }
        let many = "10.0.0.2,".repeat(10_000) + "198.51.100.1";
        assert_eq!(client("10.0.0.1", &[(PLAIN, &many)]), "198.51.100.1");
    }
}
