//! One connection that is kept alive, and what a client sees on it: bytes, and when they came. It parses none.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tests::client::{Client, encode};
use tokio::net::TcpStream;

/// A filter for a first sync of no rooms: it tells where the device stands now, and hardly anything else.
pub(crate) const NO_ROOMS: &str = r#"{"room":{"rooms":[]}}"#;

/// A device's connection to one server.
#[derive(Debug)]
pub(crate) struct Wire {
    host: String,
    token: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// From sending the request to the first byte of the body.
    pub(crate) first_byte: Duration,
    /// And to the last.
    pub(crate) took: Duration,
    /// When that was.
    pub(crate) arrived: Instant,
    /// The length of the body in bytes.
    pub(crate) length: usize,
    /// The body, in the pieces in which it came.
    pieces: Vec<Bytes>,
}

/// A GET `/sync` in words.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sync<'a> {
    pub(crate) since: Option<&'a str>,
    /// How long it may wait, in milliseconds.
    pub(crate) timeout: u64,
    /// A filter as JSON; empty: none.
    pub(crate) filter: &'a str,
    /// Whether the user comes online by it, as with most clients.
    pub(crate) is_shown: bool,
}

impl Sync<'_> {
    fn target(&self) -> String {
        let mut target = format!("/_matrix/client/v3/sync?timeout={}", self.timeout);
        if let Some(since) = self.since {
            target.push_str("&since=");
            target.push_str(&encode(since));
        }
        if !self.filter.is_empty() {
            target.push_str("&filter=");
            target.push_str(&encode(self.filter));
        }
        if !self.is_shown {
            target.push_str("&set_presence=offline");
        }
        target
    }
}

impl Wire {
    /// A connection of this device to a server, made when it is first needed.
    pub(crate) fn of(client: &Client, base: &str) -> Self {
        let host = base.strip_prefix("http://").expect("servers of the tests have no TLS");
        Self { host: host.to_owned(), token: client.access_token.clone(), sender: None }
    }

    /// GET `/sync`.
    pub(crate) async fn sync(&mut self, sync: &Sync<'_>) -> Answer {
        self.ask(Method::GET, &sync.target(), Bytes::new()).await
    }

    /// POST with a body of JSON.
    pub(crate) async fn post(&mut self, target: &str, body: Bytes) -> Answer {
        self.ask(Method::POST, target, body).await
    }

    /// PUT with a body of JSON.
    pub(crate) async fn put(&mut self, target: &str, body: Bytes) -> Answer {
        self.ask(Method::PUT, target, body).await
    }

    async fn ask(&mut self, method: Method, target: &str, body: Bytes) -> Answer {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_err()
        {
            // The server has closed the connection meanwhile.
            self.sender = None;
        }
        if self.sender.is_none() {
            self.sender = Some(self.connect().await);
        }
        let sender = self.sender.as_mut().expect("it is connected");
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("Host", &self.host)
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .body(Full::new(body))
            .unwrap();
        let sent = Instant::now();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let mut body = response.into_body();
        let mut first_byte = None;
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame.unwrap().into_data() {
                first_byte.get_or_insert_with(|| sent.elapsed());
                pieces.push(piece);
            }
        }
        let arrived = Instant::now();
        let took = arrived - sent;
        let length = pieces.iter().map(Bytes::len).sum();
        let first_byte = first_byte.unwrap_or(took);
        let answer = Answer { first_byte, took, arrived, length, pieces };
        assert_eq!(status, 200, "{target} was answered: {}", answer.text());
        answer
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(&self.host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        // It ends with an error when a server breaks it off; the next request sees that and makes another one.
        tokio::spawn(async move { connection.await.ok() });
        sender
    }
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.pieces.concat()).into_owned()
    }

    /// The token with which a client goes on.
    pub(crate) fn next_batch(&self) -> String {
        let text = self.text();
        let (_, rest) = text.split_once("\"next_batch\":").expect("every sync has a next_batch");
        rest.trim_start().trim_start_matches('"').split('"').next().unwrap_or_default().to_owned()
    }
}
