//! Who a client is behind proxies: the address that the last proxy of ours saw.
//!
//! TRUST: `X-Forwarded-For` is what anybody writes. It is read only from a peer that the configuration names, and from
//! its right end: each proxy of ours appends whom it saw, and what stands further left is the client's own invention.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize;

/// So many proxies one behind another are looked through.
const MAX_HOPS: usize = 16;
/// The longest text of an address with a port, and room for spaces.
const MAX_TEXT: usize = 64;

/// The proxies whose word on their clients is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct TrustedProxies(Vec<IpNet>);

/// A text names no network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address or network; write it as in \"10.0.0.0/8\" or \"::1\"")]
pub struct NotANetwork(String);

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = NotANetwork;

    fn try_from(texts: Vec<String>) -> Result<Self, NotANetwork> {
        let network = |text: String| {
            let one = text.parse::<IpAddr>().map(IpNet::from);
            one.or_else(|_| text.parse::<IpNet>()).map_err(|_| NotANetwork(text))
        };
        texts.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// The client's address: the right-most one of the header's `values` that is no proxy of ours; the peer's, if it is
    /// none or the header is not as proxies write it.
    pub fn client<'a>(&self, peer: IpAddr, values: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        // A socket for both families has IPv4 peers as IPv6.
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        let hops = values.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        for hop in hops.take(MAX_HOPS) {
            match address(hop) {
                Some(address) if self.trusts(address) => (),
                Some(address) => return address,
                None => return peer,
            }
        }
        peer
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address, bare or with a port; of IPv6 also between brackets.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop.trim_ascii()).ok().filter(|text| text.len() <= MAX_TEXT)?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let found = match bare {
        Some(bracketed) => IpAddr::V6(bracketed.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip())).ok()?,
    };
    Some(found.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        texts.iter().map(ToString::to_string).collect::<Vec<_>>().try_into().unwrap()
    }

    /// Whom the broker takes for the client of this peer with these headers.
    fn client(peer: &str, lines: &[&[u8]]) -> String {
        let trusted = proxies(&["10.0.0.0/8", "::1", "fd00::/8"]);
        trusted.client(peer.parse().unwrap(), lines.iter().copied()).to_string()
    }

    #[test]
    fn a_header_from_a_peer_that_is_not_trusted_is_ignored() {
        assert_eq!(client("198.51.100.7", &[b"203.0.113.9"]), "198.51.100.7");
        assert_eq!(client("11.0.0.1", &[b"203.0.113.9"]), "11.0.0.1");
        let none = TrustedProxies::default();
        let header = [&b"203.0.113.9"[..]];
        assert_eq!(none.client("127.0.0.1".parse().unwrap(), header.into_iter()).to_string(), "127.0.0.1");
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_is_the_client_s() {
        for (lines, expected) in [
            (&[&b"203.0.113.9"[..]][..], "203.0.113.9"),
            // What the client itself sent stands to the left of what our proxy saw.
            (&[b"1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (&[b"1.1.1.1, 203.0.113.9 ,10.1.2.3,fd00::5"], "203.0.113.9"),
            (&[b"1.1.1.1", b"203.0.113.9", b"10.1.2.3, 10.9.9.9"], "203.0.113.9"),
            (&[b"\xff\xfe nonsense, 203.0.113.9"], "203.0.113.9"),
            // A client that is a proxy too, or no header at all.
            (&[b"10.1.2.3, 10.1.2.4"], "10.0.0.2"),
            (&[], "10.0.0.2"),
        ] {
            assert_eq!(client("10.0.0.2", lines), expected, "{lines:?}");
        }
        assert_eq!(client("::1", &[b"203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.2", &[b"203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn ports_and_brackets_are_read_and_mapped_addresses_are_the_plain_ones() {
        for (line, expected) in [
            (&b"203.0.113.9:4711"[..], "203.0.113.9"),
            (b"2001:db8::7", "2001:db8::7"),
            (b"[2001:db8::7]", "2001:db8::7"),
            (b"[2001:db8::7]:443", "2001:db8::7"),
            (b"::ffff:203.0.113.9", "203.0.113.9"),
            (b"203.0.113.9, [fd00::1]:80", "203.0.113.9"),
        ] {
            assert_eq!(client("10.0.0.2", &[line]), expected);
        }
    }

    #[test]
    fn what_is_no_address_where_one_must_be_leaves_the_peer() {
        let long = [b"1.1.1.1, ".as_slice(), &b" ".repeat(500), b"x".repeat(1 << 20).as_slice()].concat();
        let many = b"10.0.0.3,".repeat(100_000);
        for line in [
            &b""[..],
            b",",
            b"203.0.113.9,",
            b"unknown",
            b"203.0.113.9, _hidden",
            b"203.0.113.9:99999",
            b"[203.0.113.9]",
            b"[2001:db8::7",
            b"2001:db8::7]:1",
            b"\xc3\xa4",
            &long,
            &many,
        ] {
            assert_eq!(client("10.0.0.2", &[line]), "10.0.0.2");
        }
        // Behind more proxies than are looked through nobody is believed.
        let deep = [b"203.0.113.9".to_vec(), b",10.0.0.3".repeat(MAX_HOPS)].concat();
        assert_eq!(client("10.0.0.2", &[&deep]), "10.0.0.2");
        let less = [b"203.0.113.9".to_vec(), b",10.0.0.3".repeat(MAX_HOPS - 1)].concat();
        assert_eq!(client("10.0.0.2", &[&less]), "203.0.113.9");
    }

    #[test]
    fn a_network_that_is_none_is_refused_by_its_text() {
        for text in ["10.0.0.0/33", "example.org", "", "10.0.0.0/8 ", "[::1]"] {
            let error = TrustedProxies::try_from(vec![text.to_owned()]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no address")), "{error}");
        }
    }
}
