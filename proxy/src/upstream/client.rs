//! The calls we make to the homeserver on an account's behalf.
//!
//! Neighbours: pollers (`sync`), `auth` (`whoami`), `v2` (`filter`, `members`). Tokens travel only in the
//! `Authorization` header. It must not retry, wait or remember: that is the callers' business.
//!
//! Client-server API: <https://spec.matrix.org/v1.16/client-server-api/>

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use form_urlencoded::Serializer;
use hyper::header::AUTHORIZATION;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::{AccessToken, Address, Error, HOP_HEADER, OnBehalfOf, Reply, client_config, response};
use crate::metrics::Metrics;
use crate::metrics::labels::{Call, CallOutcome, Label};

/// Every byte that RFC 3986 does not call unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const CONNECT: Duration = Duration::from_secs(10);

/// A machine that is gone without a word is noticed within fifteen seconds: where nothing is said, by asking after it, and
/// where something was said, because nobody confirms to have got it.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(3);
const KEEPALIVE_TRIES: u32 = 3;
const UNHEARD: Duration = Duration::from_secs(14);

/// Ordinary calls answer within seconds or not at all.
const ORDINARY: Duration = Duration::from_mins(1);

/// `/members` of a room whose join is not complete yet waits until it is.
const MEMBERS: Duration = Duration::from_mins(5);

/// A first sync of a large account takes the homeserver minutes.
const FIRST_SYNC: Duration = Duration::from_mins(15);

/// A sync that no client's position hangs on may take its time, but less than a first one.
const OTHER_SYNC: Duration = Duration::from_mins(5);

/// What the homeserver may take for its answer beyond the time that it was asked to wait.
const SYNC_GRACE: Duration = Duration::from_mins(1);

/// The homeserver's API. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: String,
    /// Who counts what is asked, if anybody does.
    metrics: Option<Metrics>,
    /// In bytes.
    largest_reply: usize,
    /// Where large replies are kept.
    spool_directory: PathBuf,
}

/// Who an access token belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Whoami {
    /// The user.
    pub(crate) user_id: String,
    /// The device; application services have none.
    #[serde(default)]
    pub(crate) device_id: Option<String>,
    /// Whether the user is a guest.
    #[serde(default)]
    pub(crate) is_guest: bool,
}

/// What a poll asks for.
#[derive(Clone, Debug)]
pub(crate) struct SyncQuery {
    /// Upstream's own token; none for the first poll.
    pub(crate) since: Option<String>,
    /// A filter, inline.
    pub(crate) filter: String,
    /// How long the homeserver may hold the poll.
    pub(crate) timeout: Duration,
    /// What the poll does to the user's presence.
    pub(crate) set_presence: &'static str,
    /// Whether the state after each timeline is wanted instead of that before it, if the homeserver can (MSC4222).
    pub(crate) use_state_after: bool,
    /// The client that it is made for.
    pub(crate) on_behalf_of: OnBehalfOf,
}

impl Client {
    /// Builds a client that takes no reply of more than `largest_reply` bytes. Nothing is dialled yet.
    pub(crate) fn new(address: &Address, largest_reply: usize) -> Result<Self, Error> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config()?)
            .http1_only()
            .gzip(true)
            .redirect(reqwest::redirect::Policy::none())
            // The operator named the server; a proxy in the environment is meant for other programs.
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE_PAUSE)
            .tcp_keepalive_retries(KEEPALIVE_TRIES)
            .tcp_user_timeout(UNHEARD)
            .user_agent(concat!("syncv3/", env!("CARGO_PKG_VERSION")));
        let builder = match address {
            Address::Url(_) => builder,
            Address::Unix(path) => builder.unix_socket(path.clone()),
        };
        let base_url = address.base_url().to_owned();
        let (http, spool_directory) = (builder.build()?, PathBuf::from("/tmp"));
        Ok(Self { http, base_url, largest_reply, spool_directory, metrics: None })
    }

    /// The same, with large replies kept in files of this directory.
    pub(crate) fn spooling_to(self, directory: &Path) -> Self {
        Self { spool_directory: directory.to_owned(), ..self }
    }

    /// The same, with what it asks counted.
    pub(crate) fn measured(self, metrics: &Metrics) -> Self {
        Self { metrics: Some(metrics.clone()), ..self }
    }

    /// `GET /_matrix/client/v3/account/whoami`
    pub(crate) async fn whoami(&self, token: &AccessToken) -> Result<Whoami, Error> {
        let body = self
            .get(Call::Whoami, Some(token), "/_matrix/client/v3/account/whoami", ORDINARY)
            .await?;
        serde_json::from_slice(&body).map_err(|_| Error::InvalidBody)
    }

    /// `GET /_matrix/client/v3/sync`. The body comes back as it was sent.
    pub(crate) async fn sync(
        &self,
        token: &AccessToken,
        query: &SyncQuery,
    ) -> Result<Bytes, Error> {
        let path = sync_path(query);
        let patience = patience(query);
        self.get_as(Call::Poll, Some(token), &path, &query.on_behalf_of, patience).await
    }

    /// `GET /_matrix/client/v3/sync`. The body comes back as it was sent, and in a file if it is large.
    pub(crate) async fn large_sync(
        &self,
        token: &AccessToken,
        query: &SyncQuery,
    ) -> Result<Reply, Error> {
        let path = sync_path(query);
        let answer = async {
            let answer =
                self.send(Some(token), &path, &query.on_behalf_of, patience(query)).await?;
            response::spool(answer, self.largest_reply, &self.spool_directory).await
        };
        self.count(Call::Poll, Some(token), answer).await
    }

    /// `GET /_matrix/client/v3/sync` with a query of the caller's, for an answer that is no poll's.
    pub(crate) async fn sync_with(&self, token: &AccessToken, query: &str) -> Result<Bytes, Error> {
        let path = format!("/_matrix/client/v3/sync?{query}");
        self.get(Call::Sync, Some(token), &path, OTHER_SYNC).await
    }

    /// `GET /_matrix/client/v3/rooms/{roomId}/members`, as of `at` (one of upstream's own tokens) if given.
    pub(crate) async fn members(
        &self,
        token: &AccessToken,
        room_id: &str,
        at: Option<&str>,
    ) -> Result<Bytes, Error> {
        let mut path = format!("/_matrix/client/v3/rooms/{}/members", segment(room_id));
        if let Some(at) = at {
            path.push('?');
            path.push_str(&Serializer::new(String::new()).append_pair("at", at).finish());
        }
        self.get(Call::Members, Some(token), &path, MEMBERS).await
    }

    /// `GET /_matrix/client/v3/rooms/{roomId}/messages` with these parameters.
    pub(crate) async fn messages(
        &self,
        token: &AccessToken,
        room_id: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Bytes, Error> {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        let path = format!("/_matrix/client/v3/rooms/{}/messages?{query}", segment(room_id));
        self.get(Call::Messages, Some(token), &path, ORDINARY).await
    }

    /// `GET /_matrix/client/v3/joined_rooms`
    pub(crate) async fn joined_rooms(&self, token: &AccessToken) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct JoinedRooms {
            joined_rooms: Vec<String>,
        }
        let body = self.get_json(token, "/_matrix/client/v3/joined_rooms").await?;
        let answer: JoinedRooms = serde_json::from_slice(&body).map_err(|_| Error::InvalidBody)?;
        Ok(answer.joined_rooms)
    }

    /// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
    pub(crate) async fn filter(
        &self,
        token: &AccessToken,
        user_id: &str,
        filter_id: &str,
    ) -> Result<Bytes, Error> {
        let path =
            format!("/_matrix/client/v3/user/{}/filter/{}", segment(user_id), segment(filter_id));
        self.get_json(token, &path).await
    }

    /// Any other `GET` that answers with a JSON object.
    pub(crate) async fn get_json(
        &self,
        token: &AccessToken,
        path_and_query: &str,
    ) -> Result<Bytes, Error> {
        self.get(Call::Other, Some(token), path_and_query, ORDINARY).await
    }

    /// `GET /_matrix/client/versions`: the versions of the specification that the homeserver speaks.
    pub(crate) async fn versions(&self) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Versions {
            versions: Vec<String>,
        }
        let body = self.get_open("/_matrix/client/versions").await?;
        let answer: Versions = serde_json::from_slice(&body).map_err(|_| Error::InvalidBody)?;
        Ok(answer.versions)
    }

    /// A `GET` that needs no account.
    pub(super) async fn get_open(&self, path_and_query: &str) -> Result<Bytes, Error> {
        self.get(Call::Other, None, path_and_query, ORDINARY).await
    }

    async fn get(
        &self,
        call: Call,
        token: Option<&AccessToken>,
        path_and_query: &str,
        patience: Duration,
    ) -> Result<Bytes, Error> {
        self.get_as(call, token, path_and_query, &OnBehalfOf::default(), patience).await
    }

    async fn get_as(
        &self,
        call: Call,
        token: Option<&AccessToken>,
        path_and_query: &str,
        on_behalf_of: &OnBehalfOf,
        patience: Duration,
    ) -> Result<Bytes, Error> {
        let answer = async {
            let answer = self.send(token, path_and_query, on_behalf_of, patience).await?;
            response::read(answer, self.largest_reply).await
        };
        self.count(call, token, answer).await
    }

    /// Counts a call, and keeps its token out of what became of it.
    async fn count<T>(
        &self,
        call: Call,
        token: Option<&AccessToken>,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let asked = Instant::now();
        let span = tracing::debug_span!("upstream", call = call.text());
        let answer = answer.instrument(span).await.map_err(|error| match token {
            Some(token) => error.without(token.expose()),
            None => error,
        });
        if let Some(metrics) = &self.metrics {
            let outcome =
                answer.as_ref().map_or_else(CallOutcome::of_failure, |_| CallOutcome::Granted);
            metrics.asked_upstream(call, outcome, asked.elapsed());
        }
        answer
    }

    async fn send(
        &self,
        token: Option<&AccessToken>,
        path_and_query: &str,
        on_behalf_of: &OnBehalfOf,
        patience: Duration,
    ) -> Result<reqwest::Response, Error> {
        let url = self.url(path_and_query)?;
        let mut request = self.http.get(url).header(HOP_HEADER, "1");
        for (name, value) in on_behalf_of.headers() {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.to_header()?);
        }
        Ok(timeout(patience, request.send()).await.map_err(|_| Error::Timeout)??)
    }

    /// The full URL, if the URL parser leaves it as it is: it would turn a filter named `..` into another endpoint.
    fn url(&self, path_and_query: &str) -> Result<reqwest::Url, Error> {
        let text = format!("{}{path_and_query}", self.base_url);
        let unsendable = Error::Unsendable { what: "path" };
        let Ok(url) = reqwest::Url::parse(&text) else {
            return Err(unsendable);
        };
        let after_host = text.splitn(4, '/').nth(3).unwrap_or_default();
        let path = after_host.split('?').next().unwrap_or_default();
        if url.path().strip_prefix('/') == Some(path) { Ok(url) } else { Err(unsendable) }
    }
}

fn patience(query: &SyncQuery) -> Duration {
    if query.since.is_some() { query.timeout.saturating_add(SYNC_GRACE) } else { FIRST_SYNC }
}

fn sync_path(query: &SyncQuery) -> String {
    let mut pairs = Serializer::new(String::new());
    pairs
        .append_pair("filter", &query.filter)
        .append_pair("timeout", &query.timeout.as_millis().to_string())
        .append_pair("set_presence", query.set_presence);
    if query.use_state_after {
        // MSC4222 under its stable and its unstable name: servers know one or the other, or neither.
        pairs
            .append_pair("use_state_after", "true")
            .append_pair("org.matrix.msc4222.use_state_after", "true");
    }
    if let Some(since) = &query.since {
        pairs.append_pair("since", since);
    }
    format!("/_matrix/client/v3/sync?{}", pairs.finish())
}

fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    fn client(address: &str) -> Client {
        Client::new(&Address::parse(address).expect("the test's address is good"), 1024)
            .expect("a client can be built")
    }

    #[test]
    fn paths_arrive_as_they_were_written() {
        let check = |address: &str, path: &str, expected: Option<&str>| {
            let found = client(address).url(path).ok().map(String::from);
            assert_eq!(found.as_deref(), expected, "{address} {path}");
        };
        check("http://hs", "/a/%21b%2Fc?d=%2F", Some("http://hs/a/%21b%2Fc?d=%2F"));
        check("http://hs/prefix", "/a", Some("http://hs/prefix/a"));
        check("/run/hs.sock", "/a?b", Some("http://localhost/a?b"));
        check("http://hs", "/user/filter/..", None);
        check("http://hs", "/user/filter/%2e%2E", None);
        check("http://hs", "/user/./filter", None);
    }

    #[test]
    fn ids_are_one_segment() {
        assert_eq!(segment("!a/b:c.d?e#f"), "%21a%2Fb%3Ac.d%3Fe%23f");
    }

    /// It may have no news for as long as it was asked to wait, and is taken for one that never answers a minute later.
    #[tokio::test]
    async fn a_poll_that_is_never_answered_is_given_up_a_minute_after_its_answer_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let homeserver = async {
            let (mut connection, _) = listener.accept().await.expect("somebody comes");
            let mut head = vec![0; 4 * 1024];
            let length = connection.read(&mut head).await.expect("and asks");
            assert!(head[..length].ends_with(b"\r\n\r\n"), "all that there is to ask");
            // Nothing but time passes from now on.
            tokio::time::pause();
            std::future::pending::<()>().await;
        };
        let (client, token) =
            (client(&format!("http://127.0.0.1:{port}")), AccessToken::new("syt"));
        let query = SyncQuery {
            since: Some("s1".to_owned()),
            filter: "{}".to_owned(),
            timeout: Duration::from_secs(25),
            set_presence: "offline",
            use_state_after: true,
            on_behalf_of: OnBehalfOf::default(),
        };
        let asked = Instant::now();

        let answer = tokio::select! {
            answer = client.large_sync(&token, &query) => answer,
            () = homeserver => unreachable!("it is silent for ever"),
        };

        assert!(matches!(answer, Err(Error::Timeout)));
        let waited = asked.elapsed();
        let expected = Duration::from_secs(84)..Duration::from_secs(90);
        assert!(expected.contains(&waited), "{waited:?}");
    }

    #[test]
    fn a_poll_asks_for_the_state_after_under_both_names() {
        let query = SyncQuery {
            since: Some("s1_2&x".to_owned()),
            filter: "{}".to_owned(),
            timeout: Duration::from_secs(30),
            set_presence: "offline",
            use_state_after: true,
            on_behalf_of: OnBehalfOf::default(),
        };
        assert_eq!(
            sync_path(&query),
            "/_matrix/client/v3/sync?filter=%7B%7D&timeout=30000&set_presence=offline&use_state_after=true\
             &org.matrix.msc4222.use_state_after=true&since=s1_2%26x"
        );
    }
}
