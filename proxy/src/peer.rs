//! Who is at the other end of a client's connection.
//!
//! Neighbours: `server` fills it in, the access log and `passthrough` read it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    address: Option<SocketAddr>,
    encrypted: bool,
}

impl Peer {
    /// A client, or a reverse proxy, on the network.
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self { address: Some(address), encrypted: false }
    }

    /// The same over TLS that we ended ourselves.
    pub(crate) fn tls(address: SocketAddr) -> Self {
        Self { address: Some(address), encrypted: true }
    }

    /// A process on this machine; it has no address.
    pub(crate) fn unix() -> Self {
        Self { address: None, encrypted: false }
    }

    /// Its IP address. An IPv4 client of a socket that serves both families is told as what it is.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }

    /// The header that names clients to whoever stands behind a proxy.
    pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

    /// The value of `X-Forwarded-For` for its request: what its side says, and then whom we saw ourselves.
    pub(crate) fn forwarded_for(self, headers: &HeaderMap) -> Option<HeaderValue> {
        let told =
            headers.get_all(Self::FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let seen = self.ip().map(|ip| ip.to_string());
        let all: Vec<&str> =
            told.filter(|value| !value.is_empty()).chain(seen.as_deref()).collect();
        if all.is_empty() { None } else { HeaderValue::try_from(all.join(", ")).ok() }
    }

    /// The scheme that it spoke to us.
    pub(crate) fn scheme(self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => {
                write!(f, "{}", SocketAddr::new(address.ip().to_canonical(), address.port()))
            }
            None => f.write_str("unix"),
        }
    }
}
