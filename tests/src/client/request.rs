//! One HTTP request of a [`Client`] and its [`Reply`].

use std::fmt::Write;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, Url};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Client;
use crate::proxy::replicas;
use crate::wait::{PATIENCE, look_away};
use crate::{authority, schema, secrets};

/// A request in the making.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    http: reqwest::Client,
    method: Method,
    url: Url,
    headers: Vec<(String, String)>,
    token: Option<String>,
    body: Option<Bytes>,
    shape: Shape,
}

/// What the reply to a request is held against.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Nothing: the endpoint is not ours, or the test looks at the reply itself.
    Any,
    /// A sync reply if it is a 200, else an error.
    Sync,
    /// What our own description says of the status; and so must the request be if it is answered with a 200.
    V3,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub raw: Bytes,
    /// The body as JSON; `null` where it is none.
    pub json: Value,
    /// From sending the request to the last byte of the body.
    pub took: Duration,
    asked: String,
}

impl Client {
    /// A GET of a path on this client's server.
    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// A POST to a path on this client's server.
    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, path)
    }

    /// A PUT to a path on this client's server.
    pub fn put(&self, path: &str) -> Request {
        self.request(Method::PUT, path)
    }

    /// Any request. The token goes along unless [`Request::without_token`] says otherwise.
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request {
            http: self.http.clone(),
            method,
            url: Url::parse(&format!("{}{path}", self.base)).unwrap(),
            headers: Vec::new(),
            token: (!self.access_token.is_empty()).then(|| self.access_token.clone()),
            body: None,
            shape: Shape::Any,
        }
    }
}

impl Request {
    /// Adds a query parameter.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Adds a query parameter if there is a value.
    pub fn maybe_query(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves the access token out.
    pub fn without_token(mut self) -> Self {
        self.token = None;
        self
    }

    /// Uses another access token.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Sets a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").bytes(body.to_string().into())
    }

    /// Sets any body.
    pub fn bytes(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Does not hold the reply against the schemas, which every sync otherwise does; the reason is for the reader.
    pub fn of_any_shape(self, _because: &str) -> Self {
        self.held_against(Shape::Any)
    }

    pub(super) fn held_against(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Sends the request; a failure of the connection fails the test.
    pub async fn send(self) -> Reply {
        let asked = format!("{} {}", self.method, self.url);
        self.try_send().await.unwrap_or_else(|error| panic!("no answer to {asked}: {error:?}"))
    }

    /// Sends the request again and again until the connection holds; for tests that kill the server.
    pub async fn send_patiently(self) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.clone().try_send().await {
                Ok(reply) => return reply,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "no answer to {} {}: {error:?}",
                    self.method,
                    self.url
                ),
            }
            look_away().await;
        }
    }

    /// Sends the request and reads the whole answer; for tests in which connections may break.
    pub async fn try_send(self) -> Result<Reply, reqwest::Error> {
        let asked = format!("{} {}", self.method, self.url);
        let path = self.url.path().to_owned();
        let mut request = self.http.request(self.method, self.url);
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let sent = Instant::now();
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let raw = response.bytes().await?;
        let took = sent.elapsed();
        let json = serde_json::from_slice(&raw).unwrap_or_default();
        secrets::register_those_in(&json);
        secrets::keep_reply(&path, status, &raw);
        let reply = Reply { status, headers, raw, json, took, asked };
        self.shape.check(self.body.as_deref().unwrap_or_default(), &reply);
        Ok(reply)
    }
}

impl Shape {
    fn check(self, body: &[u8], reply: &Reply) {
        let Reply { asked, status, .. } = reply;
        if let Some(fault) = self.fault_of(reply) {
            panic!(
                "{asked} answered {status} in a shape that no client expects\n{fault}\n{}",
                reply.body_text()
            );
        }
        if let (Self::V3, 200) = (self, *status)
            && let Some(fault) = schema::faults_of_v3_request(body)
        {
            let body = String::from_utf8_lossy(body);
            panic!("{asked} was taken, which docs/openapi.json does not allow\n{fault}\n{body}");
        }
    }

    fn fault_of(self, reply: &Reply) -> Option<String> {
        match (self, reply.status) {
            (Self::Any, _) => None,
            (Self::Sync, 200) => schema::faults_of_sync(&reply.json),
            (Self::Sync, status) => schema::faults_of_error(status, &reply.json),
            (Self::V3, 200) => reply.faults_of_v3(),
            (Self::V3, status) => {
                reply.faults_of_v3().or_else(|| schema::faults_of_error(status, &reply.json))
            }
        }
    }
}

impl Reply {
    /// The JSON of an answer that must be a 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        self.expect_status(200).json
    }

    /// The reply itself, if its status is the one expected.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{} answered {}: {}",
            self.asked,
            self.status,
            self.body_text()
        );
        self
    }

    /// The JSON of an answer that must be this error, in the shape of the Matrix specification.
    #[track_caller]
    pub fn refused(self, status: u16, errcode: &str) -> Value {
        let context = format!("{} answered {}: {}", self.asked, self.status, self.body_text());
        assert_eq!(
            (self.status, self.json["errcode"].as_str()),
            (status, Some(errcode)),
            "{context}"
        );
        assert!(self.json["error"].is_string(), "an error says what is wrong: {context}");
        self.json
    }

    /// A text field of a 200 answer.
    #[track_caller]
    pub fn text(self, key: &str) -> String {
        let json = self.ok();
        json[key].as_str().unwrap_or_else(|| panic!("no text `{key}` in {json}")).to_owned()
    }

    /// The `room_id` of a 200 answer.
    #[track_caller]
    pub fn room_id(self) -> String {
        self.text("room_id")
    }

    /// The `event_id` of a 200 answer.
    #[track_caller]
    pub fn event_id(self) -> String {
        self.text("event_id")
    }

    /// All values of a header.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// What is wrong with an answer to a POST `/sync`, and with what it tells a browser.
    fn faults_of_v3(&self) -> Option<String> {
        let by_schema = schema::faults_of_v3_reply(self.status, &self.json);
        by_schema.filter(|_| !self.is_beyond_value()).or_else(|| self.faults_of_v3_headers())
    }

    /// Whether it is JSON that a `Value` cannot hold, as tests of what is told byte for byte ask for.
    fn is_beyond_value(&self) -> bool {
        let as_value = serde_json::from_slice::<Value>(&self.raw);
        as_value.is_err() && serde_json::from_slice::<&RawValue>(&self.raw).is_ok()
    }

    fn faults_of_v3_headers(&self) -> Option<String> {
        let expected = [("content-type", "application/json"), ("access-control-allow-origin", "*")];
        let wrong = expected.iter().find(|(name, value)| self.header_values(name) != [*value])?;
        Some(format!("the header {} is {:?}", wrong.0, self.header_values(wrong.0)))
    }

    /// The body as text, with anything that is not UTF-8 replaced.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

/// Percent-encodes a path segment: everything but the characters that no one can mistake.
pub fn encode(segment: &str) -> String {
    segment.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
        encoded
    })
}

/// A transaction ID that this process has not used.
pub(super) fn transaction_id() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("t{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A new connection pool. Each client has its own: a pool must not outlive the runtime of the test that made it.
pub fn http_client() -> reqwest::Client {
    static CRYPTOGRAPHY: Once = Once::new();
    CRYPTOGRAPHY.call_once(|| {
        // An error says that a provider is installed already, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
    });
    builder().build().unwrap()
}

/// The same, of a client that trusts the authority of these roots alone.
pub(super) fn http_client_trusting(roots: &Path) -> reqwest::Client {
    builder().tls_backend_preconfigured(authority::client(roots)).build().unwrap()
}

fn builder() -> reqwest::ClientBuilder {
    // Longer than any long poll of the tests, so that a request that hangs for ever fails its test and not the whole run.
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(2));
    // Several processes behind one address: each request is to meet another one.
    if replicas() > 1 { builder.pool_max_idle_per_host(0) } else { builder }
}
