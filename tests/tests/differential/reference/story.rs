//! One story: what people do, what becomes of the proxy, and how the reference client goes about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::paths;
use tests::proxy::Proxy;
use tests::random::Random;
use tests::real_client::RealClient;
use tests::wait::look_away;

use super::judge::{Terms, faults};
use super::truth::Truth;
use crate::filters::Filter;
use crate::world::{MARKER, World};

/// How many things happen in a story.
const ACTIONS: u64 = 16;
/// How long the client may take to hear all of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A story and its teller.
pub(super) struct Story {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) proxy: Arc<Proxy>,
    pub(super) world: World,
    pub(super) client: RealClient,
    /// What the client keeps.
    store: PathBuf,
    page_limit: u64,
    /// Looks into one room only.
    opened: bool,
    /// Lists only some of the rooms.
    filtered: bool,
    terms: Terms,
    story: Vec<String>,
}

impl Story {
    /// What those listen to who listen to v2.
    pub(super) fn filter(seed: u64) -> Filter {
        let all = Filter::everything();
        if seed.is_multiple_of(2) { all.lazily() } else { all }
    }

    /// The user is logged in everywhere, the others have made rooms, and the client starts.
    pub(super) async fn prepare(seed: u64, proxy: Arc<Proxy>, world: World) -> Self {
        let mut random = Random::seeded(!seed);
        let store = paths::scratch("reference-client").join("known.json");
        let page_limit = *random.pick(&[1, 2, 20]);
        let client = RealClient::reference(&world.proxied.client, page_limit, &store).await;
        Self {
            seed,
            random,
            proxy,
            world,
            client,
            store,
            page_limit,
            opened: false,
            filtered: false,
            terms: Terms { lazy: true, ..Terms::default() },
            story: vec![format!("seed {seed}, pages of {page_limit}")],
        }
    }

    /// Everything happens; then what the client shows is compared with what is true. Says what is wrong.
    pub(super) async fn play(mut self) -> Result<(), String> {
        self.world.observe().await;
        self.want_something().await;
        for number in 0..ACTIONS {
            let what = self.something_happens(number).await;
            self.story.push(format!("{number:2}. {what}"));
            self.world.observe().await;
            if self.random.one_in(4) {
                self.world.proxied.sync(false).await;
            }
            if let Some(what) = self.client_does_something().await {
                self.story.push(format!("      (the client {what})"));
            }
        }
        let wrong = match self.settle().await {
            Ok(()) => self.judge().await,
            Err(reason) => vec![reason],
        };
        for device in [&self.world.direct, &self.world.proxied, &self.world.observer] {
            device.client.logout().await;
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let shown = paths::scratch("story").join(format!("{}.json", self.seed));
        Err(format!(
            "{}\n  wrong:\n    {}\n  {}",
            self.story.join("\n    "),
            wrong.join("\n    "),
            std::fs::copy(&self.store, &shown).map_or_else(
                |_| String::new(),
                |_| format!("with TEST_KEEP, what the client knows is in {}", shown.display())
            ),
        ))
    }

    /// The first parameters of the session differ from story to story.
    async fn want_something(&mut self) {
        self.terms.lazy = self.random.coin();
        let limit = self.random.between(1, 20);
        let mut change = json!({
            "room": {"room_id": "room_list", "timeline_limit": limit, "lazy_load_members": self.terms.lazy},
            "presence": {"set_presence": "offline"},
        });
        match self.random.between(0, 5) {
            // What is told twice elsewhere must be right where it is told once.
            0 => change["account_data"] = json!({"rooms": false}),
            1 => change["receipts"] = Value::Null,
            _ => {}
        }
        self.story.push(format!("      (the client wants {change})"));
        self.tell(json!({"do": "sync", "change": change})).await;
    }

    async fn client_does_something(&mut self) -> Option<String> {
        Some(match self.random.between(0, 24) {
            0..=8 => {
                let reply = self.tell(json!({"do": "sync"})).await;
                format!("syncs: {}", gist(&reply))
            }
            9..=11 => {
                let reply = self.tell(json!({"do": "ask", "body": {}})).await;
                format!("loses a reply: {}", gist(&reply))
            }
            12 => {
                let body =
                    json!({"room": null, "room_list": {"p": {"limit": 3}}, "receipts": null});
                let reply = self.tell(json!({"do": "ask", "body": body})).await;
                format!("loses a reply to {body}: {}", gist(&reply))
            }
            13..=15 => {
                let reply = self.tell(json!({"do": "page"})).await;
                format!("reads a page: {}", gist(&reply))
            }
            16 => {
                let room_id = self.room_with_me();
                self.opened = true;
                let reply = self.tell(json!({"do": "open", "room_id": room_id})).await;
                format!("opens {room_id}: {}", gist(&reply))
            }
            17 => self.client_goes_back().await,
            18 => {
                self.terms.lazy = self.random.coin();
                let room = json!({
                    "lazy_load_members": self.terms.lazy,
                    "timeline_limit": self.random.between(1, 30),
                });
                let change = json!({"room": room});
                let reply = self.tell(json!({"do": "sync", "change": change})).await;
                format!("wants {change}: {}", gist(&reply))
            }
            19 => {
                self.restart_client().await;
                "is killed and started again".to_owned()
            }
            20 => {
                self.edit_store(|known| known["next"] = json!("v3_of_no_session"));
                self.restart_client().await;
                self.terms.began_anew = true;
                "has lost its session".to_owned()
            }
            21 => {
                let filters = [
                    json!({"is_dm": true}),
                    json!({"is_encrypted": false}),
                    json!({"not_tags": ["m.favourite"]}),
                    json!({"room_name_like": "name"}),
                ];
                let filters = self.random.pick(&filters).clone();
                self.filtered = true;
                self.client_filters(filters).await
            }
            _ => return None,
        })
    }

    async fn client_filters(&mut self, filters: Value) -> String {
        let change = json!({"room_list": {"filters": filters}});
        let reply = self.tell(json!({"do": "sync", "change": change})).await;
        format!("wants {change}: {}", gist(&reply))
    }

    async fn client_goes_back(&mut self) -> String {
        self.opened = false;
        let reply = self.tell(json!({"do": "open", "room_id": "room_list"})).await;
        format!("looks into all rooms: {}", gist(&reply))
    }

    /// Nothing happens any more, and the client hears of all that has happened.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        self.world.settle().await?;
        if self.opened {
            let what = self.client_goes_back().await;
            self.story.push(format!("      (the client {what})"));
        }
        if std::mem::take(&mut self.filtered) {
            let what = self.client_filters(json!({})).await;
            self.story.push(format!("      (the client {what})"));
        }
        self.catch_up().await
    }

    /// The client syncs until it has heard all there is.
    async fn catch_up(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.tell(json!({"do": "sync"})).await;
            let is_quiet = reply.as_object().is_some_and(|reply| reply.len() == 1);
            if !is_quiet {
                self.story.push(format!("      (the client syncs: {})", gist(&reply)));
            } else if self.tell(json!({"do": "show"})).await["account_data"][MARKER]
                == self.world.marker()
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the client never hears the end; its last reply: {}",
                    gist(&reply)
                ));
            }
            look_away().await;
        }
    }

    /// What is wrong with what the client knows now, and after it has read the rest of the list.
    async fn judge(&mut self) -> Vec<String> {
        self.terms.rejoined.clone_from(&self.world.rejoined);
        self.terms.unseen_receipts.clone_from(&self.world.unseen_receipts);
        let truth = self.truth().await;
        let shown = self.shown().await;
        let mut wrong = faults(&shown, &truth, &self.terms);
        if !shown["next_page"].is_null() {
            while !self.tell(json!({"do": "page"})).await.is_null() {}
            if let Err(reason) = self.catch_up().await {
                wrong.push(reason);
            }
            self.terms.whole = true;
            let found = faults(&self.shown().await, &truth, &self.terms);
            wrong.extend(found.into_iter().map(|what| format!("with all pages: {what}")));
        }
        wrong
    }

    /// What the client shows.
    pub(super) async fn shown(&mut self) -> Value {
        self.terms.whole |= self.tell(json!({"do": "show"})).await["next_page"].is_null();
        let list = self.tell(json!({"do": "list"})).await;
        let mut shown = self.tell(json!({"do": "show"})).await;
        shown["list"] = list;
        shown
    }

    /// What Synapse says.
    pub(super) async fn truth(&self) -> Truth {
        Truth::look(&self.world).await
    }

    /// On which terms the two are compared.
    pub(super) fn terms(&self) -> Terms {
        Terms { whole: true, ..self.terms.clone() }
    }

    pub(super) async fn tell(&mut self, command: Value) -> Value {
        self.client.tell(command).await
    }

    /// Kills the client, and starts it with what it has kept.
    pub(super) async fn restart_client(&mut self) {
        let device = &self.world.proxied.client;
        self.client = RealClient::reference(device, self.page_limit, &self.store).await;
    }

    /// Changes what the client has kept.
    pub(super) fn edit_store(&self, edit: impl FnOnce(&mut Value)) {
        let mut known = serde_json::from_slice(&std::fs::read(&self.store).unwrap()).unwrap();
        edit(&mut known);
        std::fs::write(&self.store, known.to_string()).unwrap();
    }

    /// A room, mostly one that the user is in.
    pub(super) fn room_with_me(&mut self) -> String {
        let joined: Vec<String> =
            self.world.observer.model.in_section("join").into_iter().map(str::to_owned).collect();
        if joined.is_empty() || self.random.one_in(10) {
            return self.random.pick(&self.world.rooms).clone();
        }
        self.random.pick(&joined).clone()
    }
}

/// The gist of a reply, for the story.
fn gist(reply: &Value) -> String {
    let mut gist: Vec<String> = Vec::new();
    if !reply["errcode"].is_null() {
        return reply.to_string();
    }
    let length = |list: &Value| list.as_array().map_or(0, Vec::len);
    for entry in reply["room_list"]["rooms"].as_array().into_iter().flatten() {
        gist.push(format!(
            "listed {}{}{} {} events",
            entry["room_id"],
            if entry["initial"] == true { " anew" } else { "" },
            if entry["limited"] == true { " limited" } else { "" },
            length(&entry["timeline"]),
        ));
    }
    if length(&reply["room_list"]["removed"]) > 0 {
        gist.push(format!("removed {}", reply["room_list"]["removed"]));
    }
    for (room_id, room) in reply["room"]["rooms"].as_object().into_iter().flatten() {
        gist.push(format!(
            "inside {room_id}{}{} {} events, {} states",
            if room["initial"] == true { " anew" } else { "" },
            if room["timeline"]["limited"] == true { " limited" } else { "" },
            length(&room["timeline"]["events"]),
            length(&room["state"]["events"]),
        ));
    }
    for stream in ["invites", "account_data", "receipts", "to_device", "e2ee"] {
        if !reply[stream].is_null() {
            gist.push(stream.to_owned());
        }
    }
    gist.join("; ")
}
