//! Whom the broker takes for the client behind proxies.

use std::net::IpAddr;

use coffer_server_limits::TrustedProxies;

/// Takes each line as a header of its own. A peer that is not trusted is itself, whatever it writes; and no proxy of
/// ours is taken for a client, but the peer where nobody else can be told.
pub fn forwarded_for(data: &[u8]) {
    let networks = ["10.0.0.0/8", "fd00::/8", "::1"].map(str::to_owned).to_vec();
    let proxies = TrustedProxies::try_from(networks).unwrap();
    let by = |peer: IpAddr| proxies.client(peer, data.split(|byte| *byte == b'\n'));
    let stranger: IpAddr = "198.51.100.7".parse().unwrap();
    assert!(by(stranger) == stranger);
    let proxy: IpAddr = "10.1.2.3".parse().unwrap();
    let client = by(proxy);
    // Were the client a proxy of ours, what it writes would be believed.
    let from_client = proxies.client(client, [&b"203.0.113.9"[..]].into_iter());
    assert!(client == proxy || from_client == client);
}

pub(crate) fn forwarded_seeds() -> Vec<Vec<u8>> {
    [
        &b"1.1.1.1, 203.0.113.9 ,10.1.2.3,fd00::5"[..],
        b"[2001:db8::1]:443, 10.0.0.1:80\n::ffff:10.0.0.9",
        b"unknown, _hidden, 203.0.113.9\n\n,",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
