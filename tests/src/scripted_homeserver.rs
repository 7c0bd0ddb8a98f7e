//! A homeserver that does what its script says, for what Synapse cannot be made to do: hang, break off, answer nonsense.
//!
//! Syncs are scripted by the `since` that they answer, so a retry gets the same reply again, as it would from a real
//! homeserver. A sync for which nothing is scripted waits until something is, or until its timeout. Every request is
//! written down as it came over the wire ([`Seen`]).

mod body;
mod fault;
mod large_account;
mod ledger;
mod log;
mod script;
mod serve;

use std::sync::Arc;

use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use self::body::{Canned, Gate};
pub use self::fault::Fault;
pub use self::large_account::LargeAccount;
pub use self::ledger::{Ledger, ROOMS};
use self::log::Log;
pub use self::log::Seen;
use self::script::Script;
use crate::authority::Certificate;
use crate::client::Client;
use crate::wait::eventually;

/// A running scripted homeserver. It ends with the test's runtime, or when dropped.
#[derive(Debug)]
pub struct ScriptedHomeserver {
    scheme: &'static str,
    port: u16,
    script: Arc<Script>,
    log: Arc<Log>,
    accepting: AbortHandle,
}

impl ScriptedHomeserver {
    /// Starts one that knows nobody and says nothing.
    pub async fn start() -> Self {
        Self::start_behind(None).await
    }

    /// [`ScriptedHomeserver::start`] with TLS.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        Self::start_behind(Some(certificate.server())).await
    }

    async fn start_behind(tls: Option<Arc<ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (script, log) = (Arc::new(Script::default()), Arc::new(Log::default()));
        let accepting =
            tokio::spawn(serve::accept(listener, tls, Arc::clone(&script), Arc::clone(&log)))
                .abort_handle();
        Self { scheme, port, script, log, accepting }
    }

    /// The URL of this homeserver.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Makes an access token valid. Returns a client that uses it at the server at `base`, usually the proxy.
    pub fn device(&self, base: &str, user_id: &str, device_id: &str) -> Client {
        let token = format!("token of {user_id} {device_id}").replace([' ', '@', ':'], "_");
        self.script.allow(&token, user_id, device_id);
        Client::with_token(base, user_id, device_id, &token)
    }

    /// Makes a client's token valid.
    pub fn allow(&self, client: &Client) {
        self.script.allow(&client.access_token, &client.user_id, &client.device_id);
    }

    /// Makes a client's token invalid: from now on everything is answered with this 401.
    pub fn revoke(&self, client: &Client, answer: Value) {
        self.script.revoke(&client.access_token, answer);
    }

    /// Scripts the answer to the sync with this `since` (`None`: the initial one).
    pub fn on_sync(&self, since: Option<&str>, reply: &Value) {
        self.on_sync_raw(since, reply.to_string());
    }

    /// [`ScriptedHomeserver::on_sync`] with JSON that a `Value` cannot hold.
    pub fn on_sync_raw(&self, since: Option<&str>, reply: String) {
        self.script.on_sync(since, reply);
    }

    /// The next so many syncs fail like this, whatever their `since`.
    pub fn next_syncs_fail(&self, count: usize, fault: &Fault) {
        self.script.add_faults(count, fault);
    }

    /// How many of the faults have not happened yet.
    pub fn faults_left(&self) -> usize {
        self.script.faults_left()
    }

    /// From now on every request is met like this; or none any more.
    pub fn weather(&self, weather: Option<Fault>) {
        self.script.set_weather(weather);
    }

    /// From now on it answers from books, and its script has no more syncs. It then writes nothing down of what it sees.
    pub fn keep_books(&self) -> Arc<Ledger> {
        let ledger = Arc::new(Ledger::default());
        self.script.keep_books(Arc::clone(&ledger));
        ledger
    }

    /// The port that it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Holds all syncs until the gate opens.
    pub fn hold_syncs(&self) -> Gate {
        self.script.hold_syncs()
    }

    /// Holds all answers to whose a valid token is until the gate opens.
    pub fn hold_whoami(&self) -> Gate {
        self.script.hold_whoami()
    }

    /// Answers requests whose path begins with `prefix` with something canned.
    pub fn on_path(&self, prefix: &str, answer: Canned) {
        self.script.on_path(prefix, answer);
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.all()
    }

    /// The requests so far whose path contains this text.
    pub fn seen_at(&self, part: &str) -> Vec<Seen> {
        self.log.all().into_iter().filter(|seen| seen.target.contains(part)).collect()
    }

    /// Whether a request whose path contains this text has begun. Its body may still be on its way.
    pub fn has_begun(&self, part: &str) -> bool {
        self.log.heads().iter().any(|target| target.contains(part))
    }

    /// The `since` of each sync so far, in order.
    pub fn polled(&self) -> Vec<Option<String>> {
        self.seen_at("/sync").iter().map(Seen::since).collect()
    }

    /// How many syncs of one device were ever under way at the same time.
    pub fn most_syncs_at_once(&self) -> usize {
        self.log.most_syncs_at_once()
    }

    /// How many questions whose a token is were ever under way at the same time.
    pub fn most_whoamis_at_once(&self) -> usize {
        self.log.most_whoamis_at_once()
    }

    /// Waits until a sync with this `since` has arrived, and returns how many there have been.
    pub async fn is_polled_with(&self, since: &str) -> usize {
        eventually(
            &format!("a poll with since={since}; there were {:?}", self.polled()),
            async || {
                let polls =
                    self.polled().iter().filter(|polled| polled.as_deref() == Some(since)).count();
                (polls > 0).then_some(polls)
            },
        )
        .await
    }
}

impl Drop for ScriptedHomeserver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An empty sync reply.
pub fn nothing_new(next_batch: &str) -> Value {
    json!({"next_batch": next_batch, "device_one_time_keys_count": {}, "device_unused_fallback_key_types": []})
}

/// A sync reply with messages in one joined room.
pub fn messages_in(room_id: &str, next_batch: &str, texts: &[&str]) -> Value {
    let events: Vec<Value> = texts.iter().map(|text| message(text)).collect();
    let mut reply = nothing_new(next_batch);
    reply["rooms"]["join"][room_id] = json!({
        "timeline": {"events": events, "limited": false, "prev_batch": format!("before {next_batch}")},
        "state": {"events": []}, "account_data": {"events": []}, "ephemeral": {"events": []},
        "unread_notifications": {"notification_count": 0, "highlight_count": 0}, "summary": {},
    });
    reply
}

/// An initial sync reply with one room, joined by `user_id`, and messages in it.
pub fn first_sync(user_id: &str, room_id: &str, next_batch: &str, texts: &[&str]) -> Value {
    let mut reply = messages_in(room_id, next_batch, texts);
    let state = |event_type: &str, state_key: &str, content: Value| {
        json!({
            "type": event_type, "state_key": state_key, "content": content, "sender": user_id,
            "event_id": format!("${event_type}_{state_key}_{room_id}"), "origin_server_ts": 1_700_000_000_000_u64, "unsigned": {},
        })
    };
    reply["rooms"]["join"][room_id]["state"]["events"] = json!([
        state("m.room.create", "", json!({"room_version": "10", "creator": user_id})),
        state("m.room.member", user_id, json!({"membership": "join"})),
    ]);
    reply
}

/// A text message whose event ID follows from its text.
pub fn message(text: &str) -> Value {
    json!({
        "type": "m.room.message", "event_id": format!("${}", text.replace(' ', "_")), "sender": "@bob:scripted",
        "origin_server_ts": 1_700_000_000_000_u64, "content": {"msgtype": "m.text", "body": text}, "unsigned": {"age": 10},
    })
}

/// Adds numbered to-device messages to a sync reply.
#[must_use]
pub fn with_to_device(mut reply: Value, numbers: &[u64]) -> Value {
    let events: Vec<Value> = numbers
        .iter()
        .map(|n| json!({"type": "m.test", "sender": "@bob:scripted", "content": {"n": n}}))
        .collect();
    reply["to_device"] = json!({"events": events});
    reply
}
