//! What becomes of headers on the way through.
//!
//! Neighbours: `forward` alone. Hop-by-hop headers: RFC 9110, section 7.6.1,
//! <https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1>

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::peer::Peer;
use crate::upstream::HOP_HEADER;

/// The host that the client asked for, where a reverse proxy in front of us replaced it.
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The scheme that the client spoke, where a reverse proxy in front of us ended its TLS.
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what concerns one connection alone, with all that `Connection` names.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Turns a client's headers into those of the request to the homeserver at `host`.
pub(super) fn to_upstream(headers: &mut HeaderMap, peer: Peer, host: &HeaderValue) {
    drop_hop_by_hop(headers);
    // The server side of our HTTP library has already told the client to go on.
    headers.remove(EXPECT);
    if let Some(addresses) = peer.forwarded_for(headers) {
        headers.insert(Peer::FORWARDED_FOR, addresses);
    }
    // A homeserver behind a virtual host answers to its own name only.
    if let Some(asked_host) = headers.insert(HOST, host.clone()) {
        headers.entry(X_FORWARDED_HOST).or_insert(asked_host);
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(peer.scheme()));
    headers.insert(HOP_HEADER, HeaderValue::from_static("1"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).expect("the test's value is good"),
                )
            })
            .collect()
    }

    fn check_dropped(before: &[(&'static str, &str)], expected: &[(&'static str, &str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in before {
            map.append(*name, HeaderValue::from_str(value).expect("the test's value is good"));
        }
        drop_hop_by_hop(&mut map);
        assert_eq!(map, headers(expected));
    }

    #[test]
    fn headers_of_one_connection_stay_there() {
        check_dropped(
            &[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("etag", "a")],
            &[("etag", "a")],
        );
        check_dropped(
            &[
                ("connection", "X-One, close"),
                ("connection", "x-two"),
                ("x-one", "1"),
                ("x-two", "2"),
            ],
            &[],
        );
        check_dropped(
            &[("te", "trailers"), ("transfer-encoding", "chunked"), ("upgrade", "websocket")],
            &[],
        );
        check_dropped(
            &[("connection", "in valid"), ("range", "bytes=0-1")],
            &[("range", "bytes=0-1")],
        );
    }

    fn check_upstream(
        peer: Peer,
        before: &[(&'static str, &str)],
        expected: &[(&'static str, &str)],
    ) {
        let mut map = headers(before);
        to_upstream(&mut map, peer, &HeaderValue::from_static("hs:8008"));
        let mut expected = headers(expected);
        expected.insert(HOST, HeaderValue::from_static("hs:8008"));
        expected.insert(HOP_HEADER, HeaderValue::from_static("1"));
        assert_eq!(map, expected);
    }

    #[test]
    fn the_homeserver_learns_where_a_request_comes_from() {
        let peer = Peer::tcp(([192, 0, 2, 1], 4000).into());
        check_upstream(
            peer,
            &[("host", "matrix.example.org"), ("expect", "100-continue")],
            &[
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "matrix.example.org"),
                ("x-forwarded-proto", "http"),
            ],
        );
        check_upstream(
            peer,
            &[
                ("host", "10.0.0.1"),
                ("x-forwarded-for", "203.0.113.5, 10.0.0.9"),
                ("x-forwarded-host", "m.example.org"),
                ("x-forwarded-proto", "https"),
            ],
            &[
                ("x-forwarded-for", "203.0.113.5, 10.0.0.9, 192.0.2.1"),
                ("x-forwarded-host", "m.example.org"),
                ("x-forwarded-proto", "https"),
            ],
        );
        // A client cannot have our own word removed.
        check_upstream(
            peer,
            &[("connection", "x-forwarded-for"), ("x-forwarded-for", "1.2.3.4")],
            &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "http")],
        );
    }

    #[test]
    fn peers_are_told_as_what_they_are() {
        let mapped =
            Peer::tls((std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 4000).into());
        check_upstream(
            mapped,
            &[],
            &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")],
        );
        check_upstream(Peer::unix(), &[], &[("x-forwarded-proto", "http")]);
    }
}
