//! A homeserver that costs next to nothing: accounts in shared rooms, where somebody speaks when the driver says so.
//!
//! It runs in a thread of its own. An account's stream is a list of events; a token is how many of them are behind it, and
//! asking with it acknowledges them. Events are text, made once and put into replies as they are.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// No reply has more events than that: what is left over comes with the next one.
const MOST_EVENTS: usize = 100;

/// Those of a room who speak, and whose membership everybody knows.
const SPEAKERS: usize = 5;

/// A running homeserver. Its thread lives as long as the process.
#[derive(Debug, Clone)]
pub(crate) struct Homeserver {
    port: u16,
    world: Arc<World>,
}

#[derive(Debug)]
struct World {
    accounts: Vec<Account>,
    /// The accounts in each room.
    rooms: Vec<Vec<usize>>,
    /// When each event happened, by its number.
    happened: Mutex<Vec<Instant>>,
}

#[derive(Debug)]
struct Account {
    stream: Mutex<Stream>,
    /// How many events have come, for those who wait.
    length: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Those that are not acknowledged yet, with their rooms.
    events: VecDeque<(usize, Arc<str>)>,
    /// How many are acknowledged.
    acknowledged: usize,
}

impl Homeserver {
    /// So many accounts in so many rooms, each room with so many of them.
    pub(crate) fn start(accounts: usize, rooms: usize, members: usize) -> Self {
        let in_room = |room: usize| {
            let first = room * accounts / rooms;
            (0..members).map(|member| (first + member) % accounts).collect()
        };
        let account = |_| Account { stream: Mutex::default(), length: watch::Sender::new(0) };
        let world = Arc::new(World {
            accounts: (0..accounts).map(account).collect(),
            rooms: (0..rooms).map(in_room).collect(),
            happened: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&world);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(accept(listener, serving));
        });
        Self { port, world }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The access token of an account.
    pub(crate) fn token(account: usize) -> String {
        format!("token{account}")
    }

    /// Somebody speaks in a room.
    pub(crate) fn somebody_speaks(&self, room: usize) {
        let members = &self.world.rooms[room];
        let number = {
            let mut happened = self.world.happened.lock().unwrap();
            happened.push(Instant::now());
            happened.len() - 1
        };
        let event: Arc<str> = message(room, number, members[number % members.len().min(SPEAKERS)]);
        for member in members {
            let account = &self.world.accounts[*member];
            account.stream.lock().unwrap().events.push_back((room, Arc::clone(&event)));
            account.length.send_modify(|length| *length += 1);
        }
    }

    /// How many rooms there are.
    pub(crate) fn rooms(&self) -> usize {
        self.world.rooms.len()
    }

    /// How long ago an event happened.
    pub(crate) fn age(&self, event: usize) -> Duration {
        self.world.happened.lock().unwrap()[event].elapsed()
    }

    /// How many events an account is told of.
    pub(crate) fn told(&self, account: usize) -> usize {
        *self.world.accounts[account].length.borrow()
    }

    /// The same of all accounts together.
    pub(crate) fn told_all(&self) -> usize {
        (0..self.world.accounts.len()).map(|account| self.told(account)).sum()
    }

    /// How many events of all accounts no poll has acknowledged: stored events are, with the next poll.
    pub(crate) fn backlog(&self) -> usize {
        let waiting = |account: &Account| account.stream.lock().unwrap().events.len();
        self.world.accounts.iter().map(waiting).sum()
    }
}

impl Stream {
    fn acknowledge(&mut self, since: usize) {
        while self.acknowledged < since && self.events.pop_front().is_some() {
            self.acknowledged += 1;
        }
    }
}

async fn accept(listener: std::net::TcpListener, world: Arc<World>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _peer)) = listener.accept().await {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let service =
                service_fn(async |request| Ok::<_, Infallible>(answer(&request, &world).await));
            // Connections are given up by the proxy as it likes.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(request: &Request<Incoming>, world: &World) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if path.ends_with("/versions") {
        return reply(200, r#"{"versions":["v1.11"]}"#.to_owned());
    }
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let account = token.and_then(|token| token.strip_prefix("Bearer token")?.parse().ok());
    let Some(number) = account.filter(|account| *account < world.accounts.len()) else {
        return reply(401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"unknown"}"#.to_owned());
    };
    if path.ends_with("/account/whoami") {
        let (user, device) = (user(number), "LOAD");
        return reply(200, format!(r#"{{"user_id":"{user}","device_id":"{device}"}}"#));
    }
    if path.ends_with("/sync") {
        let query = request.uri().query().unwrap_or_default();
        let timeout = parameter(query, "timeout").and_then(|text| text.parse().ok()).unwrap_or(0);
        return reply(
            200,
            match parameter(query, "since").and_then(position) {
                None => first_sync(world, number),
                Some(since) => sync(world, number, since, Duration::from_millis(timeout)).await,
            },
        );
    }
    if path.ends_with("/joined_rooms") {
        let rooms: Vec<String> =
            rooms_of(world, number).map(|room| format!("\"{}\"", room_id(room))).collect();
        return reply(200, format!(r#"{{"joined_rooms":[{}]}}"#, rooms.join(",")));
    }
    reply(404, r#"{"errcode":"M_UNRECOGNIZED","error":"not here"}"#.to_owned())
}

async fn sync(world: &World, number: usize, since: usize, timeout: Duration) -> String {
    let account = &world.accounts[number];
    account.stream.lock().unwrap().acknowledge(since);
    let mut length = account.length.subscribe();
    let _ = tokio::time::timeout(timeout, length.wait_for(|length| *length > since)).await;
    let stream = account.stream.lock().unwrap();
    let mut rooms: BTreeMap<usize, Vec<Arc<str>>> = BTreeMap::new();
    let mut next = since;
    // A poll that was given up may have been answered meanwhile, and the next one have acknowledged the answer.
    let known = since.saturating_sub(stream.acknowledged);
    for (room, event) in stream.events.iter().skip(known).take(MOST_EVENTS) {
        rooms.entry(*room).or_default().push(Arc::clone(event));
        next += 1;
    }
    drop(stream);
    let mut joined = String::new();
    for (room, events) in rooms {
        if !joined.is_empty() {
            joined.push(',');
        }
        write!(
            joined,
            r#""{}":{{"timeline":{{"events":[{}],"limited":false,"prev_batch":"p{since}"}},"unread_notifications":{{"notification_count":{next},"highlight_count":0}}}}"#,
            room_id(room),
            events.join(","),
        )
        .unwrap();
    }
    format!(r#"{{"next_batch":"s{next}","rooms":{{"join":{{{joined}}}}}}}"#)
}

fn first_sync(world: &World, number: usize) -> String {
    let next = world.accounts[number].stream.lock().unwrap().acknowledged;
    let rooms: Vec<String> = rooms_of(world, number)
        .map(|room| {
            let members = &world.rooms[room];
            let mut known: Vec<usize> = members.iter().copied().take(SPEAKERS).collect();
            known.push(number);
            known.sort_unstable();
            known.dedup();
            let mut state = vec![
                state(room, "m.room.create", "", r#"{"room_version":"10"}"#),
                state(room, "m.room.name", "", &format!(r#"{{"name":"Room {room}"}}"#)),
                state(room, "m.room.power_levels", "", r#"{"users_default":0}"#),
            ];
            state.extend(known.into_iter().map(|member| {
                let content = format!(r#"{{"membership":"join","displayname":"User {member}"}}"#);
                state_of(room, "m.room.member", &user(member), &content)
            }));
            format!(
                r#""{}":{{"state":{{"events":[{}]}},"timeline":{{"events":[],"limited":true,"prev_batch":"p0"}},"summary":{{"m.joined_member_count":{}}}}}"#,
                room_id(room),
                state.join(","),
                members.len(),
            )
        })
        .collect();
    format!(r#"{{"next_batch":"s{next}","rooms":{{"join":{{{}}}}}}}"#, rooms.join(","))
}

fn rooms_of(world: &World, account: usize) -> impl Iterator<Item = usize> {
    let rooms = world.rooms.iter().enumerate();
    rooms.filter(move |(_, members)| members.contains(&account)).map(|(room, _)| room)
}

/// As long as such events are, about half a KiB.
fn message(room: usize, number: usize, sender: usize) -> Arc<str> {
    let (room, sender) = (room_id(room), user(sender));
    let body = "a sentence as people write it, ".repeat(6);
    format!(
        r#"{{"type":"m.room.message","event_id":"$load{number}","room_id":"{room}","sender":"{sender}","origin_server_ts":1700000000000,"content":{{"msgtype":"m.text","body":"{number}: {body}"}},"unsigned":{{"age":10}}}}"#
    )
    .into()
}

fn state(room: usize, event_type: &str, state_key: &str, content: &str) -> String {
    state_of(room, event_type, state_key, content)
}

fn state_of(room: usize, event_type: &str, state_key: &str, content: &str) -> String {
    let (sender, id) = (user(0), format!("${event_type}_{state_key}_{room}"));
    format!(
        r#"{{"type":"{event_type}","state_key":"{state_key}","event_id":"{id}","sender":"{sender}","origin_server_ts":1700000000000,"content":{content},"unsigned":{{}}}}"#
    )
}

fn user(number: usize) -> String {
    format!("@user{number:06}:load")
}

fn room_id(number: usize) -> String {
    format!("!room{number:06}:load")
}

fn position(token: &str) -> Option<usize> {
    token.strip_prefix('s')?.parse().ok()
}

/// Tokens and numbers alone are read, and need no decoding.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn reply(status: u16, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    response.body(Full::new(body.into())).unwrap()
}
