//! What is asked by those who watch the process, on an address of its own: `/metrics`, `/health` and `/ready`.
//!
//! Neighbours: `cmd` opens the place and starts it before there is a database; `server` says when requests are served,
//! and when no longer. It must not answer clients: nothing here asks who is asking.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::body::{self, Body};
use crate::client_limits::ClientLimits;
use crate::error::json_response;
use crate::metrics::{Homeserver, Metrics};
use crate::server::{Listener, serve_connection};
use crate::state::State;

/// What Prometheus is told that it gets.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long the database may take for its answer: a probe does not wait for long either.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who watches asks shortly and reads what it is told. Its connections are few, and not counted.
static LIMITS: ClientLimits = ClientLimits {
    max_buffered_bytes: 0,
    max_head_bytes: 16 * 1024,
    head_timeout: Some(Duration::from_secs(10)),
    body_timeout: Some(Duration::from_secs(10)),
    reply_timeout: Some(Duration::from_mins(1)),
    max_connections: None,
    max_connections_per_address: None,
    max_requests_per_token: None,
    max_token_checks: 0,
};

/// What those who watch are told. Clones are the same.
#[derive(Clone)]
pub struct Monitor {
    pub(crate) metrics: Metrics,
    stage: Arc<Mutex<Stage>>,
    /// Somebody may ask.
    is_open: Arc<AtomicBool>,
}

/// How far the process has come.
#[derive(Clone)]
enum Stage {
    /// The database is not there yet, or its schema is being brought up to date.
    Starting,
    /// Requests are served.
    Serving(Weak<State>),
    /// No new ones are.
    Stopping,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            metrics: Metrics::new(),
            stage: Arc::new(Mutex::new(Stage::Starting)),
            is_open: Arc::default(),
        }
    }
}

impl Monitor {
    /// Answers those who watch until the process ends.
    pub fn serve(self, listener: Listener) -> impl Future<Output = ()> + Send {
        self.is_open.store(true, Ordering::Release);
        self.answer_all(listener)
    }

    /// Whether anybody may ask: else what costs something to know need not be known.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    async fn answer_all(self, listener: Listener) {
        // They are answered to the last moment: nothing ever stops this but the end of the process.
        let (_going_on, stop) = watch::channel(false);
        loop {
            let accepted = listener.accept().await;
            let monitor = self.clone();
            let answer = move |request: Request<Incoming>| {
                let monitor = monitor.clone();
                async move { monitor.answer(request.method(), request.uri().path()).await }
            };
            let (metrics, stop) = (self.metrics.clone(), stop.clone());
            tokio::spawn(async move {
                serve_connection(accepted, &LIMITS, &metrics, answer, stop).await;
            });
        }
    }

    /// Requests are served from now on.
    pub(crate) fn serves(&self, state: &Arc<State>) {
        self.enter(Stage::Serving(Arc::downgrade(state)));
    }

    /// No new requests are served.
    pub(crate) fn stops(&self) {
        self.enter(Stage::Stopping);
    }

    fn enter(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn stage(&self) -> Stage {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        let reads = method == Method::GET || method == Method::HEAD;
        match path {
            "/metrics" if reads => self.metrics(),
            "/health" if reads => json_response(StatusCode::OK, r#"{"healthy":true}"#),
            "/ready" if reads => self.ready().await,
            "/metrics" | "/health" | "/ready" => {
                json_response(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"only GET and HEAD"}"#)
            }
            _ => json_response(
                StatusCode::NOT_FOUND,
                r#"{"error":"there is /metrics, /health and /ready"}"#,
            ),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let state = match self.stage() {
            Stage::Serving(state) => state.upgrade(),
            Stage::Starting | Stage::Stopping => None,
        };
        match self.metrics.expose(state.as_deref()) {
            Ok(exposed) => {
                let mut response = Response::new(body::full(exposed));
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
                response
            }
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                json_response(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"see the log"}"#)
            }
        }
    }

    async fn ready(&self) -> Response<Body> {
        let reason = match self.stage() {
            Stage::Starting => Some("the database is not there yet, or being migrated"),
            Stage::Stopping => Some("the process is shutting down"),
            Stage::Serving(state) => match state.upgrade() {
                Some(state) if answers(&state).await => None,
                Some(_) => Some("the database does not answer"),
                None => Some("the process has ended its work"),
            },
        };
        let homeserver = match self.metrics.homeserver() {
            Homeserver::Unknown => "not asked yet",
            Homeserver::Answers => "answers",
            Homeserver::Away => "away",
        };
        let (status, said) = match reason {
            None => (StatusCode::OK, json!({"ready": true, "homeserver": homeserver})),
            Some(reason) => (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({"ready": false, "reason": reason, "homeserver": homeserver}),
            ),
        };
        json_response(status, said.to_string())
    }
}

async fn answers(state: &State) -> bool {
    matches!(timeout(PATIENCE, state.store.ping()).await, Ok(Ok(_)))
}
