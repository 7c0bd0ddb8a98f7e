//! Clients of sync v2 that wait for what comes, and note when it came.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{encode, http_client};
use futures_util::StreamExt;
use futures_util::stream;

use super::homeserver::Homeserver;

/// How long a request waits, in milliseconds.
const LONG_POLL: u32 = 30_000;

/// As most clients filter.
const FILTER: &str = r#"{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":50}}}"#;

/// How many log in at once.
const LOGINS: usize = 16;

/// What all clients together have seen.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Events, each counted for each client.
    pub events: usize,
    /// Those that a client was told more than once.
    pub doubled: usize,
    /// How long after it happened each came.
    pub latencies: Vec<Duration>,
}

/// The clients that wait.
#[derive(Debug)]
pub struct Clients {
    accounts: usize,
    seen: Arc<Mutex<Seen>>,
}

/// Syncs once for each account: the first poll of each is stored then. Gives where each stands.
pub async fn log_in(proxies: &[String], accounts: usize) -> Vec<String> {
    let http = http_client();
    stream::iter(0..accounts)
        .map(|account| {
            let (http, url) = (http.clone(), url_of(proxies, account).to_owned());
            async move {
                let reply = sync(&http, &url, account, None, 0).await.expect("a first sync");
                next_batch(&reply).to_owned()
            }
        })
        .buffered(LOGINS)
        .collect()
        .await
}

impl Clients {
    /// The first so many accounts wait from now on, from where they stand.
    pub fn wait(proxies: &[String], homeserver: &Homeserver, stand: &[String]) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        for (account, since) in stand.iter().enumerate() {
            let waiting = Waiting {
                http: http_client(),
                url: url_of(proxies, account).to_owned(),
                account,
                homeserver: homeserver.clone(),
                seen: Arc::clone(&seen),
            };
            tokio::spawn(waiting.run(since.clone()));
        }
        Self { accounts: stand.len(), seen }
    }

    /// What they have seen since the last time; they go on counting from there.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// How many events they have seen since then.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().events
    }

    /// How many events they have been sent in all.
    pub fn sent(&self, homeserver: &Homeserver) -> usize {
        (0..self.accounts).map(|account| homeserver.told(account)).sum()
    }
}

struct Waiting {
    http: reqwest::Client,
    url: String,
    account: usize,
    homeserver: Homeserver,
    seen: Arc<Mutex<Seen>>,
}

impl Waiting {
    async fn run(self, mut since: String) {
        let mut known = HashSet::new();
        loop {
            let asked = sync(&self.http, &self.url, self.account, Some(&since), LONG_POLL);
            let Some(reply) = asked.await else {
                crate::wait::look_away().await;
                continue;
            };
            next_batch(&reply).clone_into(&mut since);
            for event in events(&reply) {
                let latency = self.homeserver.age(event);
                let mut seen = self.seen.lock().unwrap();
                if known.insert(event) {
                    seen.events += 1;
                    seen.latencies.push(latency);
                } else {
                    seen.doubled += 1;
                }
            }
        }
    }
}

async fn sync(
    http: &reqwest::Client,
    url: &str,
    account: usize,
    since: Option<&str>,
    timeout: u32,
) -> Option<String> {
    let mut url =
        format!("{url}/_matrix/client/v3/sync?timeout={timeout}&filter={}", encode(FILTER));
    if let Some(since) = since {
        url.push_str("&since=");
        url.push_str(&encode(since));
    }
    let request = http.get(url).bearer_auth(Homeserver::token(account));
    let reply = request.send().await.ok().filter(|reply| reply.status() == 200)?;
    reply.text().await.ok()
}

fn url_of(proxies: &[String], account: usize) -> &str {
    &proxies[account % proxies.len()]
}

/// Where a reply says that its client stands now.
pub fn next_batch(reply: &str) -> &str {
    let (_, rest) = reply.split_once(r#""next_batch":""#).expect("every sync has a next_batch");
    rest.split('"').next().unwrap_or_default()
}

/// The numbers of the events in a reply. Taking it apart as JSON would cost more than all else here.
fn events(reply: &str) -> impl Iterator<Item = usize> {
    reply
        .split(r#""event_id":"$load"#)
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap_or_default().parse().unwrap())
}
