//! One connection, from its TLS handshake to its end.
//!
//! Neighbours: `server` starts one task for each. A client that is slow or broken ends its own connection only.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::accept::Accepted;
use super::pace::{Paced, Phase};
use crate::body::{Body, With};
use crate::client_limits::ClientLimits;
use crate::guard::MAX_HEADERS;
use crate::metrics::Metrics;

const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may keep a connection open between requests. Longer than reverse proxies commonly keep theirs, so
/// that it is they who close them: the other way round, requests get lost.
const IDLE: Duration = Duration::from_secs(75);

/// The least that the HTTP library buffers of what it reads and writes: what is its own default.
const MIN_BUFFER: usize = 400 * 1024;

/// Serves requests on a connection until either side closes it or, once `stop` turns true, the request under way is
/// answered.
pub(crate) async fn serve<A, F>(
    accepted: Accepted,
    limits: &ClientLimits,
    metrics: &Metrics,
    answer: A,
    stop: watch::Receiver<bool>,
) where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    // Boxed, so that each kind is as large as it is: most connections have no TLS, and its state is large.
    match accepted {
        Accepted::Tcp(stream, _) => {
            Box::pin(serve_plain(stream, limits, metrics, answer, stop)).await;
        }
        Accepted::Unix(stream) => {
            Box::pin(serve_plain(stream, limits, metrics, answer, stop)).await;
        }
        Accepted::Tls(stream, address, acceptor) => {
            match Box::pin(timeout(HANDSHAKE, acceptor.accept(stream))).await {
                Ok(Ok(stream)) => {
                    Box::pin(serve_plain(stream, limits, metrics, answer, stop)).await;
                }
                Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
            }
        }
    }
}

async fn serve_plain<I, A, F>(
    stream: I,
    limits: &ClientLimits,
    metrics: &Metrics,
    answer: A,
    mut stop: watch::Receiver<bool>,
) where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let phase = Phase::default();
    let stream = Paced::new(stream, phase.clone(), limits, metrics);
    let service = service_fn(|request| {
        let (answering, answer) = (phase.answering(), answer(request));
        async move {
            let response = answer.await;
            Ok::<_, Infallible>(response.map(|body| With::new(body, answering)))
        }
    });
    // The library refuses without words that a client could read: up to twice as much it lets us refuse.
    let head = limits.max_head_bytes.saturating_mul(2);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_header_size(head)
        .max_headers(MAX_HEADERS * 2)
        .max_buf_size(head.max(MIN_BUFFER))
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
