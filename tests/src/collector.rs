//! A collector of OpenTelemetry's traces that keeps what it is sent.
//!
//! What comes is protobuf. Names and texts stand in it as they are, which is enough to look for them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A running collector. It ends with the test's runtime, or when dropped.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    deliveries: Deliveries,
    accepting: AbortHandle,
}

/// Paths and bodies.
type Deliveries = Arc<Mutex<Vec<(String, Bytes)>>>;

impl Collector {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self::answering(200).await
    }

    /// One that answers everything with this status.
    pub async fn answering(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let deliveries = Deliveries::default();
        let accepting = tokio::spawn(accept(listener, status, Arc::clone(&deliveries)));
        Self { port, deliveries, accepting: accepting.abort_handle() }
    }

    /// What the proxy is told.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where deliveries were sent to.
    pub fn paths(&self) -> Vec<String> {
        self.deliveries.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// Whether a text stands in anything that was delivered.
    pub fn has(&self, text: &str) -> bool {
        let deliveries = self.deliveries.lock().unwrap();
        let mut bodies = deliveries.iter().map(|(_, body)| body);
        bodies.any(|body| body.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, status: u16, deliveries: Deliveries) {
    while let Ok((stream, _peer)) = listener.accept().await {
        let deliveries = Arc::clone(&deliveries);
        tokio::spawn(async move {
            let service = service_fn(async |request: Request<Incoming>| {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                deliveries.lock().unwrap().push((path, body));
                let answer = Response::builder().status(status).body(Empty::<Bytes>::new());
                Ok::<_, Infallible>(answer.unwrap())
            });
            // An error here is a connection that the proxy gave up.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}
