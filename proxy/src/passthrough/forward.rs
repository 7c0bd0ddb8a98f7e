//! Carries one request to the homeserver and its answer back, streaming.
//!
//! Neighbours: every file of `passthrough`. It uses a raw HTTP client and not the API client, whose URL type would
//! normalise paths. It must not look into bodies.

use std::error::Error as _;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Scheme};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use tracing::Instrument;

use super::connect::Dial;
use super::headers;
use super::progress::{Progress, Watched};
use crate::body::{self, Body};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::metrics::labels::{Call, CallOutcome, Label};
use crate::peer::Peer;
use crate::upstream::{self, Address};

/// How long the homeserver may keep silent, beyond the time that a long-polling request asks for.
const PATIENCE: Duration = Duration::from_mins(3);

/// No request may ask for more than this.
const LONGEST_POLL: Duration = Duration::from_mins(30);

/// Shorter than what servers commonly keep an idle connection for, so that we seldom write into one that is closing.
const IDLE: Duration = Duration::from_secs(20);

/// The way to the homeserver for requests that are not ours.
#[derive(Debug)]
pub(crate) struct Forwarder {
    client: Client<HttpsConnector<Dial>, Watched>,
    scheme: Scheme,
    authority: Authority,
    /// The path that the homeserver's own paths stand under, without a slash at its end.
    prefix: String,
    host: HeaderValue,
    /// Who counts what is carried, if anybody does.
    metrics: Option<Metrics>,
}

/// How a single attempt failed.
enum Failure {
    Sending(legacy::Error),
    Silence,
}

impl Forwarder {
    /// Builds one. Nothing is dialled yet.
    pub(crate) fn new(address: &Address) -> Result<Self, upstream::Error> {
        let base: Uri = address.base_url().parse().map_err(upstream::Error::transport)?;
        let unusable = || upstream::Error::Unsendable { what: "address" };
        let authority = base.authority().ok_or_else(unusable)?.clone();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(upstream::client_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dial::new(address));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self {
            client,
            scheme: base.scheme().ok_or_else(unusable)?.clone(),
            prefix: base.path().trim_end_matches('/').to_owned(),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| unusable())?,
            authority,
            metrics: None,
        })
    }

    /// The same, with what it carries counted.
    pub(crate) fn measured(self, metrics: &Metrics) -> Self {
        Self { metrics: Some(metrics.clone()), ..self }
    }

    /// Carries a request. Any answer of the homeserver is a success here, whatever its status.
    pub(crate) async fn forward(
        &self,
        request: Request<Body>,
        peer: Peer,
    ) -> Result<Response<Body>, Error> {
        let (parts, body) = request.into_parts();
        let patience = patience(&parts);
        let repeatable = matches!(parts.method, Method::GET | Method::HEAD) && body.is_end_stream();
        let parts = self.to_upstream(parts, peer)?;
        let spare = repeatable.then(|| parts.clone());

        let carried = Instant::now();
        let span = tracing::debug_span!("upstream", call = Call::Forwarded.text());
        let mut outcome = self.attempt(parts, body, patience).instrument(span.clone()).await;
        // A kept connection may be closed by the homeserver in the very moment in which we use it.
        if let (Err(Failure::Sending(error)), Some(parts)) = (&outcome, spare)
            && !error.is_connect()
        {
            outcome = self.attempt(parts, body::empty(), patience).instrument(span).await;
        }
        if let Some(metrics) = &self.metrics
            && let Some(outcome) = outcome_of(&outcome)
        {
            metrics.asked_upstream(Call::Forwarded, outcome, carried.elapsed());
        }
        match outcome {
            Ok(response) => Ok(to_client(response)),
            Err(Failure::Silence) => Err(Error::UpstreamTimeout),
            Err(Failure::Sending(error)) if is_clients_fault(&error) => {
                Err(Error::NotJson("The request body broke off".to_owned()))
            }
            Err(Failure::Sending(error)) => {
                Err(Error::UpstreamUnreachable(upstream::Error::transport(error)))
            }
        }
    }

    async fn attempt(
        &self,
        parts: Parts,
        body: Body,
        patience: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let progress = Progress::begin();
        let request = Request::from_parts(parts, Watched::new(body, progress.clone()));
        tokio::select! {
            outcome = self.client.request(request) => outcome.map_err(Failure::Sending),
            () = progress.stalled(patience) => Err(Failure::Silence),
        }
    }

    fn to_upstream(&self, parts: Parts, peer: Peer) -> Result<Parts, Error> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.prefix))
            .build()
            .map_err(|_| Error::Unrecognized)?;
        // Not the client's version and extensions: those belong to its own connection.
        let (mut outgoing, ()) = Request::new(()).into_parts();
        outgoing.method = parts.method;
        outgoing.uri = uri;
        outgoing.headers = parts.headers;
        headers::to_upstream(&mut outgoing.headers, peer, &self.host);
        Ok(outgoing)
    }
}

/// What is counted of an exchange; nothing where it was the client that ended it.
fn outcome_of(outcome: &Result<Response<Incoming>, Failure>) -> Option<CallOutcome> {
    match outcome {
        Ok(response) => Some(CallOutcome::of_status(response.status().as_u16())),
        Err(Failure::Silence) => Some(CallOutcome::Timeout),
        Err(Failure::Sending(error)) if is_clients_fault(error) => None,
        Err(Failure::Sending(_)) => Some(CallOutcome::Unreachable),
    }
}

fn to_client(response: Response<Incoming>) -> Response<Body> {
    let (parts, incoming) = response.into_parts();
    let mut outgoing = Response::new(incoming.map_err(Into::into).boxed_unsync());
    *outgoing.status_mut() = parts.status;
    *outgoing.headers_mut() = parts.headers;
    headers::drop_hop_by_hop(outgoing.headers_mut());
    outgoing
}

/// A client that asks the homeserver to hold a request must not be cut off by us.
fn patience(parts: &Parts) -> Duration {
    let asked = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
        .find(|(key, _)| key == "timeout")
        .and_then(|(_, value)| value.parse().ok())
        .map_or(Duration::ZERO, Duration::from_millis);
    PATIENCE + asked.min(LONGEST_POLL)
}

/// Whether it was the client's own body that ended the request.
fn is_clients_fault(error: &legacy::Error) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user) {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, path: &str, expected: &str) {
        let address = Address::parse(address).expect("the test's address is good");
        let forwarder = Forwarder::new(&address).expect("a forwarder can be built");
        let (parts, ()) =
            Request::builder().uri(path).body(()).expect("the test's path is good").into_parts();
        let parts = forwarder.to_upstream(parts, Peer::unix()).map_err(|error| error.to_string());
        assert_eq!(parts.map(|parts| parts.uri.to_string()), Ok(expected.to_owned()));
    }

    #[test]
    fn paths_go_out_byte_for_byte() {
        let path = "/_matrix//client/../v3/%2F%2e%2e/%21a%3Ab/{x}?b=%41&&=?c{d}";
        check("http://hs:8008", path, &format!("http://hs:8008{path}"));
        check("https://hs/prefix/", "/a?", "https://hs/prefix/a?");
        check("/run/hs.sock", "/a%00b", "http://localhost/a%00b");
        check("http://hs", "http://other:1/a?b", "http://hs/a?b");
    }

    #[test]
    fn a_long_poll_gets_its_time_on_top() {
        let check = |path: &str, expected: u64| {
            let (parts, ()) = Request::builder()
                .uri(path)
                .body(())
                .expect("the test's path is good")
                .into_parts();
            assert_eq!(patience(&parts).as_secs(), expected, "{path}");
        };
        check("/events", 180);
        check("/events?timeout=60000", 240);
        check("/events?timeout=abc", 180);
        check("/events?timeout=99999999999999", 180 + 1800);
    }
}
