//! One story: a user with two devices, the rooms, the others in them, and what each device hears of it all.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Client;
use tests::lab::Lab;
use tests::matchers::events;
use tests::random::Random;
use tests::wait::look_away;

use crate::compare::{Leeway, differences, fresh_differences, misplaced, unheard_device_lists};
use crate::device::Device;
use crate::filters::Filter;
use crate::model::ReceiptKey;
use crate::scope;
use crate::truth::Truth;

/// How many things happen in a story.
const ACTIONS: u64 = 25;
/// How long the devices may take to hear all of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The account data that marks the end.
pub(crate) const MARKER: &str = "org.test.marker";
/// The to-device message that marks the end.
const LAST_MESSAGE: u64 = 1_000_000;

/// The place, the people and what is known so far.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    /// The device that talks to Synapse, the one that talks to the proxy, and one that watches Synapse closely.
    pub(crate) direct: Device,
    pub(crate) proxied: Device,
    pub(crate) observer: Device,
    pub(crate) others: Vec<Client>,
    pub(crate) rooms: Vec<String>,
    /// The messages so far.
    pub(crate) messages: Vec<Message>,
    pub(crate) to_device: Vec<u64>,
    pub(crate) unseen_receipts: BTreeSet<(String, ReceiptKey)>,
    pub(crate) count: u64,
    /// Who is in which room.
    pub(crate) members: BTreeSet<(String, String)>,
    /// Who is banned from which room.
    pub(crate) bans: BTreeSet<(String, String)>,
    filter: Filter,
    pub(crate) truth: Truth,
    pub(crate) rejoined: BTreeSet<String>,
    /// Both devices begin with the story and never forget anything.
    steady: bool,
    story: Vec<String>,
}

/// A message that somebody sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) room_id: String,
    pub(crate) event_id: String,
    /// The root of its thread.
    pub(crate) thread: Option<String>,
    /// Whether receipts on it are for a thread. One event never gets both kinds: in one reply there is room for one.
    pub(crate) threaded_receipts: bool,
}

impl World {
    /// The user logs in everywhere, and the others make rooms. Without a filter, a random one is in force.
    pub(crate) async fn prepare(
        seed: u64,
        lab: &Lab,
        others: &[Client],
        filter: Option<Filter>,
    ) -> Self {
        let mut random = Random::seeded(seed);
        let me = lab.user("me").await;
        let me_at_synapse = lab.past_proxy(&lab.second_device(&me).await);
        let watching = lab.past_proxy(&lab.second_device(&me_at_synapse).await);
        let everything = Filter::everything();
        let observer = Device::new("observer", watching, &everything, true).await;
        let mut rooms = Vec::new();
        let mut members = BTreeSet::new();
        for _ in 0..2 {
            let maker = random.pick(others).clone();
            let room_id = maker.create_room(room(&mut random, &me.user_id)).await;
            for who in others.iter().chain([&me]) {
                if who.user_id == maker.user_id
                    || (random.between(0, 3) > 0 && who.join(&room_id).await.status == 200)
                {
                    members.insert((room_id.clone(), who.user_id.clone()));
                }
            }
            rooms.push(room_id);
        }
        let filter = filter.unwrap_or_else(|| Filter::random(&mut random, &rooms));
        let inline = random.coin();
        let steady = random.coin();
        Self {
            direct: Device::new("synapse", me_at_synapse, &filter, inline).await,
            proxied: Device::new("proxy", me, &filter, inline).await,
            observer,
            others: others.to_vec(),
            rooms,
            messages: Vec::new(),
            to_device: Vec::new(),
            unseen_receipts: BTreeSet::new(),
            count: 0,
            members,
            bans: BTreeSet::new(),
            story: vec![format!("seed {seed}, filter {}, steady {steady}", filter.json())],
            filter,
            truth: Truth::default(),
            rejoined: BTreeSet::new(),
            steady,
            random,
        }
    }

    /// Everything happens; then what the devices know is compared. Says what is wrong.
    pub(crate) async fn play(mut self) -> Result<(), String> {
        self.observe().await;
        if self.steady {
            self.direct.sync(false).await;
            self.proxied.sync(false).await;
        }
        for number in 0..ACTIONS {
            let what = self.act().await;
            self.story.push(format!("{number:2}. {what}"));
            self.observe().await;
            self.devices_sync().await;
        }
        let wrong = match self.settle().await {
            Ok(()) => self.judge().await,
            Err(reason) => vec![reason],
        };
        for device in [&self.direct, &self.proxied, &self.observer] {
            device.client.logout().await;
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{}\n  wrong:\n    {}", self.story.join("\n    "), wrong.join("\n    ")))
    }

    /// The observer looks, so that nothing is ever missing from what it knows.
    pub(crate) async fn observe(&mut self) {
        let before = self.observer.model.clone();
        let known = self.observer.heard.len();
        self.observer.sync(false).await;
        for heard in &self.observer.heard[known..] {
            self.truth.learn(heard);
        }
        for room_id in self.observer.model.in_section("join") {
            if before.section_of(room_id) == "leave" {
                self.rejoined.insert(room_id.to_owned());
            }
        }
    }

    /// Each device syncs, or loses a reply, or forgets everything, or does nothing.
    async fn devices_sync(&mut self) {
        for device in [&mut self.direct, &mut self.proxied] {
            let (done, reply) = match self.random.between(0, 24) {
                0..=6 => ("syncs", device.sync(false).await),
                7..=8 => ("loses a reply", device.lose().await),
                9 => ("syncs with full_state", device.sync(true).await),
                10 if !self.steady => {
                    device.restart();
                    ("starts anew", device.sync(false).await)
                }
                _ => continue,
            };
            self.story.push(format!("      ({} {done}: {})", device.name, gist(&reply)));
        }
    }

    /// Nothing happens any more, and everybody hears of all that has happened.
    pub(crate) async fn settle(&mut self) -> Result<(), String> {
        let marker = self.marker();
        let me = self.direct.client.clone();
        let joined: Vec<String> =
            self.observer.model.in_section("join").into_iter().map(str::to_owned).collect();
        for room_id in &joined {
            me.set_room_account_data(room_id, MARKER, &marker).await.ok();
        }
        for device in [&self.direct, &self.proxied] {
            let content = json!({"n": LAST_MESSAGE});
            self.others[0].send_to_device(&device.client, "m.test", content).await.ok();
        }
        self.to_device.push(LAST_MESSAGE);
        me.set_account_data(MARKER, &marker).await.ok();
        self.observe().await;
        let filter = &self.filter;
        for device in [&mut self.direct, &mut self.proxied] {
            let deadline = Instant::now() + PATIENCE;
            loop {
                device.sync(false).await;
                let model = &device.model;
                let marked = |data: Option<&Value>| data == Some(&marker);
                let untold = device.name == "synapse" && filter.names_rooms();
                let lacks = |room_id: &&String| {
                    let room = model.rooms.get(*room_id);
                    filter.admits_room(room_id)
                        && !marked(room.and_then(|room| room.account_data.get(MARKER)))
                };
                let missing = joined.iter().find(lacks).filter(|_| !untold);
                if marked(model.account_data.get(MARKER))
                    && missing.is_none()
                    && model.to_device.contains(&LAST_MESSAGE)
                {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("{} never hears the end; rooms: {missing:?}", device.name));
                }
                look_away().await;
            }
            // What it has heard is acknowledged by this one.
            device.sync(false).await;
        }
        Ok(())
    }

    /// What is in the account data that marks the end.
    pub(crate) fn marker(&self) -> Value {
        json!({"n": self.count})
    }

    async fn judge(&mut self) -> Vec<String> {
        let mut wrong = self.lies(&self.direct);
        wrong.extend(self.lies(&self.proxied));
        for device in [&self.direct, &self.proxied] {
            if device.model.to_device != self.to_device {
                let got = &device.model.to_device;
                wrong.push(format!(
                    "{}: to-device messages {got:?}, sent were {:?}",
                    device.name, self.to_device
                ));
            }
        }
        if self.steady {
            let me = &self.direct.client.user_id;
            wrong.extend(unheard_device_lists(&self.observer.model, &self.proxied.model, me));
        }
        let (no_receipts, no_rooms) = (BTreeSet::new(), BTreeSet::new());
        let mut leeway = Leeway {
            filter: &self.filter,
            observer: &self.observer.model,
            rejoined: &self.rejoined,
            unseen_receipts: &self.unseen_receipts,
        };
        wrong.extend(misplaced(&self.observer.model, &self.proxied.model, &self.filter));
        let told = differences(&self.direct.model, &self.proxied.model, &leeway);
        wrong.extend(told.into_iter().map(|what| format!("in the end: {what}")));

        if scope::FROM_BEFORE_THE_JOIN {
            leeway.unseen_receipts = &no_receipts;
        }
        leeway.rejoined = &no_rooms;
        let mut looks = Vec::new();
        for device in [&self.direct, &self.proxied] {
            let mut fresh =
                Device::new(device.name, device.client.clone(), &self.filter, true).await;
            fresh.sync(false).await;
            looks.push(fresh);
        }
        wrong.extend(misplaced(&self.observer.model, &looks[1].model, &self.filter));
        let fresh = fresh_differences(&looks[0].model, &looks[1].model, &leeway);
        wrong.extend(fresh.into_iter().map(|what| format!("looking afresh: {what}")));
        for look in &looks {
            wrong.extend(self.lies(look).into_iter().map(|what| format!("looking afresh: {what}")));
        }
        wrong
    }

    /// What a device was told untruthfully of timelines, and what it was never told.
    fn lies(&self, device: &Device) -> Vec<String> {
        let mut lies = Vec::new();
        for heard in &device.heard {
            // How much Synapse tells of a room that the user left without having been in it depends on when it is asked.
            if heard.section == "leave" && !heard.was_joined {
                continue;
            }
            let stayed = !self.rejoined.contains(&heard.room_id);
            let told = self.truth.lies(heard, &self.filter, stayed);
            lies.extend(
                told.into_iter().map(|lie| format!("{} {}: {lie}", device.name, heard.room_id)),
            );
        }
        for room_id in device.model.in_section("join") {
            // Asked for full state, Synapse tells of rooms that the filter leaves out; the proxy's are looked at elsewhere.
            if !self.filter.admits_room(room_id) {
                continue;
            }
            let newest = device.model.rooms[room_id].newest.as_deref();
            let last = self.truth.shown(room_id, &self.filter).last().copied();
            if newest != last {
                lies.push(format!(
                    "{} {room_id}: heard up to {newest:?}, but the last is {last:?}",
                    device.name
                ));
            }
        }
        lies
    }
}

/// The gist of a reply, for the story.
fn gist(reply: &Value) -> String {
    let mut gist: Vec<String> = Vec::new();
    for (section, rooms) in reply["rooms"].as_object().into_iter().flatten() {
        for (room_id, room) in rooms.as_object().into_iter().flatten() {
            let (timeline, state) = (&room["timeline"], &room["state"]);
            let limited = if timeline["limited"] == true { ", limited" } else { "" };
            let counts = (events(timeline).len(), events(state).len());
            gist.push(format!(
                "{section} {room_id} {} events, {} states{limited}",
                counts.0, counts.1
            ));
        }
    }
    if !reply["device_lists"].is_null() {
        gist.push(format!("device_lists {}", reply["device_lists"]));
    }
    gist.join("; ")
}

/// The request for a room of any kind, sometimes with an invitation.
pub(crate) fn room(random: &mut Random, guest: &str) -> Value {
    let mut body = json!({
        "preset": random.pick(&["public_chat", "public_chat", "private_chat", "trusted_private_chat"]),
        "room_version": random.pick(&["10", "11", "12"]),
        "initial_state": [],
    });
    let mut initial = Vec::new();
    if random.coin() {
        let visibility = random.pick(&["shared", "joined", "invited", "world_readable"]);
        initial.push(json!({
            "type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": visibility},
        }));
    }
    if random.one_in(4) {
        initial.push(json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}));
    }
    body["initial_state"] = initial.into();
    if random.coin() {
        body["name"] = "a room".into();
    }
    if random.coin() {
        body["invite"] = json!([guest]);
    }
    body
}
