//! What is measured: replies, each with what it takes to ask for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Reply;
use tests::session::Session;
use tests::wait::look_away;

use crate::world::World;

/// How long a reply that has been stored already may take to come.
const PATIENCE: u64 = 30_000;

/// One kind of reply.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) body: Value,
    pub(crate) kind: Kind,
    pub(crate) warmth: Warmth,
    /// Whether we claim that it costs the same for every account.
    pub(crate) claim: bool,
}

/// What the reply is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GET `/sync` without a `since`.
    V2First,
    /// GET `/sync` after one event, which is stored already.
    V2Delta,
    /// The first request of a session.
    First,
    /// A request after one event, which is stored already.
    Delta { paged: bool },
    /// A request when nothing has happened, which does not wait.
    Nothing { paged: bool },
    /// A request that waits, and one event: from the homeserver's telling it to the reply.
    WakeUp { paged: bool },
}

/// What the proxy has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warmth {
    /// It has answered the like before.
    Warm,
    /// It has just been started.
    Cold,
}

/// A case in one world, ready to be run.
#[derive(Debug)]
pub(crate) enum Ready {
    V2First,
    /// With its `next_batch`.
    V2Delta(String),
    /// With the body of the request.
    First(Value),
    /// With the room that events come in.
    Session(Box<Session>, String),
}

impl Case {
    /// Asks for what has to be there before the first run.
    pub(crate) async fn prepare(&self, world: &World) -> Ready {
        match self.kind {
            Kind::V2First => Ready::V2First,
            Kind::V2Delta => {
                let reply = v2(world, None).await;
                Ready::V2Delta(next_batch(&reply))
            }
            Kind::First => Ready::First(self.body_for(world)),
            Kind::Delta { paged } | Kind::Nothing { paged } | Kind::WakeUp { paged } => {
                let (session, room) = world.session(&self.body_for(world), paged).await;
                Ready::Session(Box::new(session), room)
            }
        }
    }

    /// Whether a run begins with an event that is stored before the request.
    pub(crate) fn follows_an_event(&self) -> bool {
        matches!(self.kind, Kind::Delta { .. } | Kind::V2Delta)
    }

    /// One run. Gives the time that a client waits for the reply.
    pub(crate) async fn run(&self, world: &mut World, ready: &mut Ready) -> Duration {
        if self.follows_an_event() {
            self.somebody_has_spoken(world, ready).await;
        }
        if self.warmth == Warmth::Cold {
            world.restart().await;
            if let Ready::Session(session, _) = ready {
                session.client = world.alice.clone();
            }
        }
        match ready {
            Ready::V2First => v2(world, None).await.took,
            Ready::V2Delta(since) => {
                let reply = v2(world, Some(since)).await;
                *since = next_batch(&reply);
                reply.took
            }
            Ready::First(body) => {
                let reply = world.alice.v3_sync(body).send().await.expect_status(200);
                self.check_first(&reply.json);
                reply.took
            }
            Ready::Session(session, room) => match self.kind {
                Kind::WakeUp { .. } => self.wake_up(world, session, room).await,
                Kind::Nothing { .. } => {
                    let reply = session.request(&json!({})).send().await.expect_status(200);
                    reply.took
                }
                _ => {
                    let request = session.request(&json!({})).timeout(PATIENCE);
                    let reply = request.send().await.expect_status(200);
                    self.check_delta(&reply.json);
                    session.absorb(&reply.json);
                    reply.took
                }
            },
        }
    }

    /// The event of a run, stored, and nothing else.
    pub(crate) async fn somebody_has_spoken(&self, world: &mut World, ready: &Ready) {
        let room = match ready {
            Ready::Session(_, room) => room.clone(),
            _ => world.latest_room(),
        };
        world.somebody_has_spoken(&room).await;
    }

    async fn wake_up(&self, world: &mut World, session: &mut Session, room: &str) -> Duration {
        let request = session.request(&json!({})).timeout(PATIENCE);
        let waiting = tokio::spawn(request.send());
        // It has to be waiting. Were it not, it would be answered all the same, and a little sooner.
        for _ in 0..5 {
            look_away().await;
        }
        let begun = Instant::now();
        world.somebody_speaks(room);
        let reply = waiting.await.unwrap().expect_status(200);
        let took = begun.elapsed();
        self.check_delta(&reply.json);
        session.absorb(&reply.json);
        took
    }

    fn body_for(&self, world: &World) -> Value {
        let mut body = self.body.clone();
        for stream in ["room_members", "typing"] {
            if let Some(parameters) = body.get_mut(stream) {
                parameters["room_id"] = world.latest_room().into();
            }
        }
        body
    }

    /// A benchmark of replies that are wrong proves nothing.
    fn check_first(&self, reply: &Value) {
        if let Some(list) = self.body.get("room_list") {
            let listed = reply["room_list"]["rooms"].as_array().map_or(0, Vec::len);
            assert_eq!(
                Some(listed as u64),
                list["p"]["limit"].as_u64(),
                "{}: {reply:#}",
                self.name
            );
        }
        if self.body.get("room").is_some() {
            let told = reply["room"]["rooms"].as_object().map_or(0, serde_json::Map::len);
            assert_eq!(told, 20, "{}: {reply:#}", self.name);
        }
    }

    fn check_delta(&self, reply: &Value) {
        if self.body.get("room_list").is_some() {
            let listed = reply["room_list"]["rooms"].as_array().map_or(0, Vec::len);
            assert_eq!(listed, 1, "{}: {reply:#}", self.name);
        }
    }
}

async fn v2(world: &World, since: Option<&str>) -> Reply {
    let request = world.alice.sync();
    let request = match since {
        None => request,
        Some(since) => request.since(since).timeout(PATIENCE),
    };
    let request = request.of_any_shape("its time is measured, and it is large");
    request.send().await.expect_status(200)
}

fn next_batch(reply: &Reply) -> String {
    reply.json["next_batch"].as_str().expect("every reply has a next_batch").to_owned()
}

/// Everything that is measured, in this order.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, body: &Value, kind, warmth, claim| {
        cases.push(Case { name, body: body.clone(), kind, warmth, claim });
    };
    for (name, body) in &lists() {
        add(name, body, Kind::First, Warmth::Warm, true);
        // The first list after a start is made of all rooms: that is measured, and not claimed to be the same.
        add(name, body, Kind::First, Warmth::Cold, false);
        add(name, body, Kind::Delta { paged: false }, Warmth::Warm, true);
    }
    let (name, body) = &lists()[0];
    add(name, body, Kind::Delta { paged: false }, Warmth::Cold, false);
    add(name, body, Kind::Nothing { paged: false }, Warmth::Warm, true);
    add(name, body, Kind::WakeUp { paged: false }, Warmth::Warm, true);
    for (name, body) in &whole_lists() {
        add(name, body, Kind::Delta { paged: true }, Warmth::Warm, true);
        add(name, body, Kind::Delta { paged: true }, Warmth::Cold, false);
        add(name, body, Kind::Nothing { paged: true }, Warmth::Warm, true);
        add(name, body, Kind::WakeUp { paged: true }, Warmth::Warm, true);
    }
    // The room is put in before each is asked for.
    for stream in ["room_members", "typing", "to_device"] {
        let body = json!({stream: {}});
        add(stream, &body, Kind::First, Warmth::Warm, true);
        add(stream, &body, Kind::First, Warmth::Cold, true);
    }
    add("GET /sync", &json!({}), Kind::V2First, Warmth::Warm, false);
    add("GET /sync", &json!({}), Kind::V2Delta, Warmth::Warm, true);
    add("GET /sync", &json!({}), Kind::V2Delta, Warmth::Cold, true);
    cases
}

/// Lists of twenty rooms.
fn lists() -> Vec<(&'static str, Value)> {
    let with_rooms =
        |list: Value| json!({"room_list": list, "room": {"room_id": "room_list"}, "to_device": {}});
    let page = json!({"limit": 20});
    let by_name = json!({"limit": 20, "sort": ["by_name"]});
    let filters = json!({"is_dm": false, "is_encrypted": false, "room_name_like": "room"});
    vec![
        ("20 rooms", with_rooms(json!({"p": page}))),
        ("20 rooms, list alone", json!({"room_list": {"p": page}})),
        ("20 rooms by name", with_rooms(json!({"p": by_name}))),
        ("20 rooms filtered", with_rooms(json!({"p": page, "filters": filters}))),
    ]
}

/// The same with all pages read. The list is larger than what `room` takes at once.
fn whole_lists() -> Vec<(&'static str, Value)> {
    let list = |p: Value| json!({"room_list": {"p": p}, "to_device": {}});
    vec![
        ("whole list", list(json!({"limit": 20}))),
        ("whole list by name", list(json!({"limit": 20, "sort": ["by_name"]}))),
    ]
}
