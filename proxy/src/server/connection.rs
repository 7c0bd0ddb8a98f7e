//! One connection, from its TLS handshake to its end.
//!
//! Neighbours: `server` starts one task for each. A client that is slow or broken ends its own connection only.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::accept::Accepted;
use crate::body::{Body, BoxError};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's head, and keep a connection open between requests. Longer than reverse
/// proxies commonly keep theirs, so that it is they who close them: the other way round, requests get lost.
const HEAD: Duration = Duration::from_secs(75);

/// The largest head of a request. Filters stand in the query, so it is generous.
const MAX_HEAD: usize = 128 * 1024;

/// Serves requests on a connection until either side closes it or, once `stop` turns true, the request under way is
/// answered.
pub(super) async fn serve<S>(accepted: Accepted, service: S, stop: watch::Receiver<bool>)
where
    S: HttpService<Incoming, ResBody = Body, Error: Into<BoxError>>,
{
    match accepted {
        Accepted::Tcp(stream, _) => serve_plain(stream, service, stop).await,
        Accepted::Unix(stream) => serve_plain(stream, service, stop).await,
        Accepted::Tls(stream, address, acceptor) => {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve_plain(stream, service, stop).await,
                Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
            }
        }
    }
}

async fn serve_plain<I, S>(stream: I, service: S, mut stop: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    S: HttpService<Incoming, ResBody = Body, Error: Into<BoxError>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
