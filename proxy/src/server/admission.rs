//! How many connections there may be, in all and from one address.
//!
//! Who comes from this machine, a private network or a Unix socket is not counted by address: that is a reverse proxy,
//! behind which everybody stands. Of IPv6 addresses one subscriber has as many as it likes, so networks are counted.
//!
//! Neighbours: `server` asks for each connection; `accept` knows where it comes from.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::accept::Accepted;
use super::reply::last_words;
use crate::client_limits::ClientLimits;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::peer::Peer;

/// How many who are turned away are told so at once; what is beyond is closed without a word.
const TOLD_AT_ONCE: usize = 64;

/// How long that may take.
const TELLING: Duration = Duration::from_secs(2);

/// How often the log says that somebody is turned away.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// The doorkeeper.
pub(super) struct Admission {
    most: Option<usize>,
    most_per_address: Option<usize>,
    all: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
    telling: Arc<Semaphore>,
    said: Mutex<Option<Instant>>,
    metrics: Metrics,
}

/// A connection that was let in. It is over when this is dropped.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Admission {
    pub(super) fn new(limits: &ClientLimits, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            most: limits.max_connections,
            most_per_address: limits.max_connections_per_address,
            all: AtomicUsize::new(0),
            by_address: DashMap::new(),
            telling: Arc::new(Semaphore::new(TOLD_AT_ONCE)),
            said: Mutex::new(None),
            metrics,
        })
    }

    /// Lets a connection in, if there is room for it.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Option<Admitted> {
        let mut admitted = Admitted { admission: Arc::clone(self), address: None };
        let before = self.all.fetch_add(1, Ordering::AcqRel);
        if self.most.is_some_and(|most| before >= most) {
            return None;
        }
        let counted = peer.ip().filter(|ip| !is_private(*ip)).map(subscriber);
        if let (Some(most), Some(address)) = (self.most_per_address, counted) {
            match self.by_address.entry(address) {
                Entry::Occupied(mut count) if *count.get() < most => *count.get_mut() += 1,
                Entry::Occupied(_) => return None,
                Entry::Vacant(none) => drop(none.insert(1)),
            }
            admitted.address = Some(address);
        }
        Some(admitted)
    }

    /// Says that there is no room, if that costs little, and closes.
    pub(super) fn turn_away(&self, accepted: Accepted, peer: Peer) {
        self.say(peer);
        self.metrics.failed(Error::TooManyConnections.name());
        let Ok(permit) = Arc::clone(&self.telling).try_acquire_owned() else { return };
        tokio::spawn(async move {
            // Who does not listen goes without.
            let _ = timeout(TELLING, tell(accepted)).await;
            drop(permit);
        });
    }

    fn say(&self, peer: Peer) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            let connections = self.all.load(Ordering::Acquire);
            tracing::warn!(%peer, connections, "too many connections: new ones are turned away");
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.all.fetch_sub(1, Ordering::AcqRel);
        let Some(address) = self.address else { return };
        if let Entry::Occupied(mut count) = self.admission.by_address.entry(address) {
            match *count.get() {
                0 | 1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

async fn tell(accepted: Accepted) {
    match accepted {
        Accepted::Tcp(stream, _) => tell_over(stream).await,
        Accepted::Unix(stream) => tell_over(stream).await,
        Accepted::Tls(stream, _, acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                tell_over(stream).await;
            }
        }
    }
}

async fn tell_over<I: AsyncRead + AsyncWrite + Unpin>(mut stream: I) {
    if stream.write_all(&last_words(Error::TooManyConnections)).await.is_err() {
        return;
    }
    let _ = stream.shutdown().await;
    // A connection that is closed with something unread takes what was said with it.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
}

/// Whether an address is of this machine or of a network that is not the internet.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // 100.64.0.0/10 is what providers have behind their own translation of addresses.
            let is_shared = a == 100 && (b & 0b1100_0000) == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The address that stands for all of one subscriber.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::UnixStream;

    use super::*;

    fn admission(most: Option<usize>, most_per_address: Option<usize>) -> Arc<Admission> {
        let limits = ClientLimits {
            max_connections: most,
            max_connections_per_address: most_per_address,
            ..ClientLimits::none()
        };
        Admission::new(&limits, Metrics::new())
    }

    fn peer(address: &str) -> Peer {
        let ip: IpAddr = address.parse().expect("the test's address is good");
        Peer::tcp(SocketAddr::new(ip, 1))
    }

    #[test]
    fn connections_are_counted_in_all() {
        let admission = admission(Some(2), None);
        let first = admission.admit(Peer::unix()).expect("there is room");
        let _second = admission.admit(peer("127.0.0.1")).expect("there is room");
        assert!(admission.admit(peer("203.0.113.1")).is_none());
        drop(first);
        let _third = admission.admit(peer("203.0.113.1")).expect("one has ended");
        assert!(admission.admit(Peer::unix()).is_none());
    }

    #[tokio::test]
    async fn who_is_turned_away_is_counted() {
        let admission = admission(Some(0), None);
        for _ in 0..2 {
            let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
            assert!(admission.admit(Peer::unix()).is_none());
            admission.turn_away(Accepted::Unix(ours), Peer::unix());
        }
        let exposed = admission.metrics.expose(None).expect("it is text");
        let line = r#"syncv3_errors_total{error="too_many_connections"} 2"#;
        assert!(exposed.lines().any(|found| found == line), "{exposed}");
    }

    #[test]
    fn connections_are_counted_by_address_unless_a_reverse_proxy_makes_them() {
        let check = |one: &str, other: &str, both: bool| {
            let admission = admission(None, Some(1));
            let first = admission.admit(peer(one)).expect("there is room");
            assert_eq!(admission.admit(peer(other)).is_some(), both, "{one} and {other}");
            drop(first);
            assert!(admission.by_address.is_empty() && admission.admit(peer(other)).is_some());
        };
        check("203.0.113.1", "203.0.113.1", false);
        check("203.0.113.1", "203.0.113.2", true);
        check("203.0.113.1", "::ffff:203.0.113.1", false);
        check("2001:db8:1:2::1", "2001:db8:1:2:3:4:5:6", false);
        check("2001:db8:1:2::1", "2001:db8:1:3::1", true);
        for exempt in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.1.2.3",
        ] {
            check(exempt, exempt, true);
        }
        check("100.128.0.1", "100.128.0.1", false);
        check("172.32.0.1", "172.32.0.1", false);
    }
}
