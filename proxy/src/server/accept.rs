//! The places where clients connect.
//!
//! Neighbours: `cmd` opens them, `server` accepts from them. What goes wrong with one connection, or for want of file
//! descriptors, must not end the accepting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::peer::Peer;

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A place where clients connect.
pub enum Listener {
    /// Plain HTTP on a port.
    Tcp(TcpListener),
    /// HTTPS on a port.
    Tls(TcpListener, Arc<ServerConfig>),
    /// Plain HTTP on a Unix socket.
    Unix(UnixListener),
}

/// A new connection. Its TLS handshake, if any, is still to come: it depends on the client, whom nobody waits for here.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Tls(TcpStream, SocketAddr, TlsAcceptor),
    Unix(UnixStream),
}

impl Listener {
    /// Waits for the next connection, whatever happens.
    pub(crate) async fn accept(&self) -> Accepted {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                // The client went away again; the next one need not wait for that.
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, ?pause, "cannot accept connections");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Accepted::Tcp(without_delay(stream), address)
            }
            Self::Tls(listener, config) => {
                let (stream, address) = listener.accept().await?;
                Accepted::Tls(without_delay(stream), address, TlsAcceptor::from(Arc::clone(config)))
            }
            Self::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
        })
    }
}

impl Accepted {
    /// Who connected.
    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, address) => Peer::tcp(*address),
            Self::Tls(_, address, _) => Peer::tls(*address),
            Self::Unix(_) => Peer::unix(),
        }
    }
}

/// Small answers must not wait for a timer. A socket that refuses the option still works.
fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    stream
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
