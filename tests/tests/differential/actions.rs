//! What happens in a story: things that users do. What is forbidden is tried all the same, and refused.

use serde_json::{Value, json};
use tests::client::{Client, Reply, encode};

use crate::scope;
use crate::world::{Message, World, room};

impl World {
    /// Something happens; says what.
    pub(crate) async fn act(&mut self) -> String {
        self.count += 1;
        match self.random.between(0, 99) {
            0..=27 => self.someone_speaks().await,
            28..=35 => self.someone_changes_state().await,
            36..=38 => self.power_shifts().await,
            39..=42 => self.someone_is_renamed().await,
            43..=60 => self.someone_moves().await,
            61..=68 => self.someone_reads().await,
            69..=72 => self.someone_types().await,
            73..=80 => self.i_keep_notes().await,
            81..=87 => self.a_device_is_written_to().await,
            88..=91 => self.keys_change().await,
            92..=94 => self.a_room_is_made().await,
            95 => self.a_room_is_upgraded().await,
            96..=97 if scope::REDACTIONS => self.someone_redacts().await,
            98 if scope::IGNORED_USERS => self.i_ignore_someone().await,
            _ => self.someone_speaks().await,
        }
    }

    /// One of my devices.
    fn me(&mut self) -> Client {
        if self.random.coin() { self.direct.client.clone() } else { self.proxied.client.clone() }
    }

    fn other(&mut self) -> Client {
        self.random.pick(&self.others).clone()
    }

    fn anyone(&mut self) -> Client {
        if self.random.one_in(3) { self.me() } else { self.other() }
    }

    /// Somebody, mostly of those who are in the room.
    fn someone_in(&mut self, room_id: &str) -> Client {
        let (me, other) = (self.me(), self.other());
        let mut candidates = vec![me, other];
        candidates.extend(self.others.iter().cloned());
        if !self.random.one_in(8) {
            let inside: Vec<Client> = candidates
                .iter()
                .filter(|who| self.is_in(&who.user_id, room_id))
                .cloned()
                .collect();
            if !inside.is_empty() {
                candidates = inside;
            }
        }
        self.random.pick(&candidates).clone()
    }

    fn is_in(&self, user_id: &str, room_id: &str) -> bool {
        self.members.contains(&(room_id.to_owned(), user_id.to_owned()))
    }

    fn any_room(&mut self) -> String {
        self.random.pick(&self.rooms).clone()
    }

    fn i_am_in(&self, room_id: &str) -> bool {
        self.observer.model.section_of(room_id) == "join"
    }

    async fn someone_speaks(&mut self) -> String {
        let room_id = self.any_room();
        let who = self.someone_in(&room_id);
        let mut content = json!({"msgtype": "m.text", "body": format!("message {}", self.count)});
        let roots: Vec<String> = self
            .messages
            .iter()
            .filter(|message| message.room_id == room_id && message.thread.is_none())
            .map(|message| message.event_id.clone())
            .collect();
        let mut thread = None;
        let mut event_type = "m.room.message";
        match self.random.between(0, 9) {
            0..=1 if !roots.is_empty() => {
                let root = self.random.pick(&roots).clone();
                content["m.relates_to"] = json!({"rel_type": "m.thread", "event_id": root});
                thread = Some(root);
            }
            2..=3 => content["m.mentions"] = json!({"user_ids": [self.direct.client.user_id]}),
            4 => {
                event_type = "m.room.encrypted";
                content = json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AAAA", "session_id": "s"});
            }
            _ => {}
        }
        let reply = who.send_event(&room_id, event_type, content).await;
        if let Some(event_id) = reply.json["event_id"].as_str() {
            let threaded_receipts = self.random.coin();
            self.messages.push(Message {
                room_id: room_id.clone(),
                event_id: event_id.to_owned(),
                thread,
                threaded_receipts,
            });
        }
        told(&who, &format!("sends {event_type} to {room_id}"), &reply)
    }

    async fn someone_changes_state(&mut self) -> String {
        let room_id = self.any_room();
        let who = self.someone_in(&room_id);
        let number = self.count;
        let (event_type, state_key, content) = match self.random.between(0, 6) {
            0 => ("m.room.name", "", json!({"name": format!("name {number}")})),
            1 => ("m.room.topic", "", json!({"topic": format!("topic {number}")})),
            2 => ("m.room.avatar", "", json!({"url": format!("mxc://test.local/{number}")})),
            3 => ("m.room.name", "", json!({})),
            4 => ("m.room.topic", "", json!({"topic": "the same topic"})),
            5 => ("org.test.state", "one", json!({"n": number})),
            _ => ("org.test.state", "two", json!({"n": number % 2})),
        };
        let reply = who.set_state(&room_id, event_type, state_key, content).await;
        told(&who, &format!("sets {event_type} {state_key} in {room_id}"), &reply)
    }

    async fn power_shifts(&mut self) -> String {
        let (who, room_id) = (self.other(), self.any_room());
        let path =
            format!("/_matrix/client/v3/rooms/{}/state/m.room.power_levels", encode(&room_id));
        let mut levels = who.get(&path).send().await.json;
        if !levels["users"].is_object() {
            return format!("{} cannot see the power levels of {room_id}", who.user_id);
        }
        let level = *self.random.pick(&[0, 50, 50]);
        let lifted = self.anyone().user_id;
        if self.random.coin() {
            levels["users"][&lifted] = level.into();
        } else {
            levels["state_default"] = level.into();
        }
        let reply = who.set_state(&room_id, "m.room.power_levels", "", levels).await;
        told(
            &who,
            &format!("sets the power of {lifted} or of everyone to {level} in {room_id}"),
            &reply,
        )
    }

    async fn someone_is_renamed(&mut self) -> String {
        let name = format!("name {}", self.count);
        if self.random.one_in(3) {
            let me = self.me();
            let reply = me.set_displayname(&name).await;
            return told(&me, "takes another name", &reply);
        }
        let room_id = self.any_room();
        let who = self.someone_in(&room_id);
        // Without being in the room this would be a join; that is another action.
        let path = format!(
            "/_matrix/client/v3/rooms/{}/state/m.room.member/{}",
            encode(&room_id),
            encode(&who.user_id)
        );
        if who.get(&path).send().await.json["membership"] != "join" {
            return format!("{} is not in {room_id} to be renamed", who.user_id);
        }
        let reply = who.rename_in(&room_id, &name).await;
        told(&who, &format!("takes another name in {room_id}"), &reply)
    }

    async fn someone_moves(&mut self) -> String {
        let room_id = self.any_room();
        let (me, other, third) = (self.me(), self.other(), self.other());
        let section = self.observer.model.section_of(&room_id);
        let banned = self.bans.contains(&(room_id.clone(), me.user_id.clone()));
        let (who, what, reply) = match (self.random.between(0, 15), section) {
            (0..=5, "invite" | "knock" | "leave" | "") => match self.random.between(0, 4) {
                0 => (&me, "knocks at", me.knock(&room_id).await),
                1 => (&other, "invites me to", other.invite(&room_id, &me.user_id).await),
                2 => (&me, "leaves", me.leave(&room_id).await),
                _ => (&me, "joins", me.join(&room_id).await),
            },
            (0..=1, _) => (&me, "leaves", me.leave(&room_id).await),
            (2..=3, _) => (&other, "kicks me from", other.kick(&room_id, &me.user_id).await),
            (4, _) => (&other, "bans me from", other.ban(&room_id, &me.user_id).await),
            (5, _) => (&me, "joins again", me.join(&room_id).await),
            // The proxy knows of what is forgotten through it. An invite can be forgotten too, and Synapse obeys.
            (6, _) if section == "leave" || scope::FORGOTTEN_INVITES => {
                let phone = self.proxied.client.clone();
                return told(&phone, &format!("forgets {room_id}"), &phone.forget(&room_id).await);
            }
            // Lifting a ban that is none would tell Synapse's users of rooms that they never were in.
            (7, _) if !banned => (&other, "joins", other.join(&room_id).await),
            (7, _) => (&other, "lifts my ban from", unban(&other, &room_id, &me.user_id).await),
            (8..=9, _) => (&other, "leaves", other.leave(&room_id).await),
            (10..=11, _) => (&other, "joins", other.join(&room_id).await),
            (12, _) => (&me, "invites another to", me.invite(&room_id, &other.user_id).await),
            (13, _) => (&other, "invites another to", other.invite(&room_id, &third.user_id).await),
            (14, _) => (&other, "bans another from", other.ban(&room_id, &third.user_id).await),
            _ => (
                &other,
                "lifts the ban of another from",
                unban(&other, &room_id, &third.user_id).await,
            ),
        };
        if reply.status == 200 {
            match what {
                "bans me from" => self.bans.insert((room_id.clone(), me.user_id.clone())),
                "lifts my ban from" => self.bans.remove(&(room_id.clone(), me.user_id.clone())),
                _ => false,
            };
            let (moved, is_in) = match what {
                "joins" | "joins again" => (&who.user_id, true),
                "leaves" => (&who.user_id, false),
                "kicks me from" | "bans me from" => (&me.user_id, false),
                "bans another from" => (&third.user_id, false),
                _ => return told(who, &format!("{what} {room_id}"), &reply),
            };
            let member = (room_id.clone(), moved.clone());
            if is_in {
                self.members.insert(member)
            } else {
                self.members.remove(&member)
            };
        }
        told(who, &format!("{what} {room_id}"), &reply)
    }

    async fn someone_reads(&mut self) -> String {
        if self.messages.is_empty() {
            return "nobody has anything to read".to_owned();
        }
        let message = self.random.pick(&self.messages).clone();
        let who = if self.random.coin() { self.me() } else { self.other() };
        let receipt_type =
            *self.random.pick(&["m.read", "m.read", "m.read.private", "m.fully_read"]);
        let Message { room_id, event_id, .. } = &message;
        let thread = match &message.thread {
            _ if !message.threaded_receipts || receipt_type == "m.fully_read" => None,
            Some(root) => Some(root.clone()),
            None => Some("main".to_owned()),
        };
        if receipt_type == "m.fully_read" && !self.i_am_in(room_id) {
            return "nobody reads fully what they are not in".to_owned();
        }
        let body = thread.as_ref().map_or_else(|| json!({}), |thread| json!({"thread_id": thread}));
        let path = format!(
            "/_matrix/client/v3/rooms/{}/receipt/{receipt_type}/{}",
            encode(room_id),
            encode(event_id)
        );
        let reply = who.post(&path).json(&body).send().await;
        let key =
            (who.user_id.clone(), receipt_type.to_owned(), thread.clone().unwrap_or_default());
        if !self.i_am_in(room_id) {
            self.unseen_receipts.insert((room_id.clone(), key));
        }
        told(
            &who,
            &format!("sends {receipt_type} for {event_id} in {room_id}, thread {thread:?}"),
            &reply,
        )
    }

    async fn someone_types(&mut self) -> String {
        let (who, room_id) = (self.other(), self.any_room());
        let types = self.random.coin() && self.i_am_in(&room_id);
        let path = format!(
            "/_matrix/client/v3/rooms/{}/typing/{}",
            encode(&room_id),
            encode(&who.user_id)
        );
        let body = if types {
            json!({"typing": true, "timeout": 120_000})
        } else {
            json!({"typing": false})
        };
        let reply = who.put(&path).json(&body).send().await;
        told(&who, &format!("types ({types}) in {room_id}"), &reply)
    }

    async fn i_keep_notes(&mut self) -> String {
        let (me, room_id) = (self.me(), self.any_room());
        let note = json!({"n": self.count});
        let event_type = *self.random.pick(&["org.test.one", "org.test.two", "m.direct"]);
        if !self.i_am_in(&room_id) || self.random.one_in(3) {
            let reply = me.set_account_data(event_type, &note).await;
            return told(&me, &format!("keeps {event_type}"), &reply);
        }
        match self.random.between(0, 2) {
            0 => {
                let tag = if self.random.coin() { "u.one" } else { "m.favourite" };
                let reply = me.tag(&room_id, tag).await;
                told(&me, &format!("tags {room_id}"), &reply)
            }
            1 => {
                let reply = me.untag(&room_id, "u.one").await;
                told(&me, &format!("takes a tag from {room_id}"), &reply)
            }
            _ => {
                let reply = me.set_room_account_data(&room_id, event_type, &note).await;
                told(&me, &format!("keeps {event_type} for {room_id}"), &reply)
            }
        }
    }

    async fn a_device_is_written_to(&mut self) -> String {
        let who = self.other();
        let number = self.count;
        for to in [&self.direct.client, &self.proxied.client] {
            who.send_to_device(to, "m.test", json!({"n": number})).await.ok();
        }
        self.to_device.push(number);
        format!("{} writes {number} to my devices", who.user_id)
    }

    async fn keys_change(&mut self) -> String {
        let number = self.count;
        if self.random.coin() {
            for device in [&self.direct.client, &self.proxied.client] {
                let key = json!({"key": format!("key {number}"), "signatures": {}});
                let name = format!("signed_curve25519:{number}");
                let kind = if number.is_multiple_of(2) { "one_time_keys" } else { "fallback_keys" };
                device.upload_keys(&json!({kind: {name: key}})).await.ok();
            }
            return "my devices upload keys".to_owned();
        }
        let who = self.other();
        let name = format!("ed25519:{}", who.device_id);
        let key = format!("key {number} of {}", self.direct.client.user_id);
        let reply = who
            .upload_keys(&json!({"device_keys": {
                "user_id": who.user_id, "device_id": who.device_id, "algorithms": ["m.megolm.v1.aes-sha2"],
                "keys": {name.clone(): key}, "signatures": {&who.user_id: {name: "signed"}},
            }}))
            .await;
        told(&who, "has other device keys", &reply)
    }

    async fn a_room_is_made(&mut self) -> String {
        let (me, other) = (self.me(), self.other());
        let mine = self.random.coin();
        let (who, guest) = if mine { (&me, &other) } else { (&other, &me) };
        let body = room(&mut self.random, &guest.user_id);
        let room_id = who.create_room(body.clone()).await;
        self.members.insert((room_id.clone(), who.user_id.clone()));
        if self.random.coin() && guest.join(&room_id).await.status == 200 {
            self.members.insert((room_id.clone(), guest.user_id.clone()));
        }
        self.rooms.push(room_id.clone());
        format!("{} makes {room_id} by {body}", who.user_id)
    }

    async fn a_room_is_upgraded(&mut self) -> String {
        let room_id = self.any_room();
        let who = self.someone_in(&room_id);
        let path = format!("/_matrix/client/v3/rooms/{}/upgrade", encode(&room_id));
        let reply = who.post(&path).json(&json!({"new_version": "11"})).send().await;
        if let Some(replacement) = reply.json["replacement_room"].as_str() {
            self.members.insert((replacement.to_owned(), who.user_id.clone()));
            self.rooms.push(replacement.to_owned());
        }
        told(&who, &format!("upgrades {room_id}"), &reply)
    }

    async fn someone_redacts(&mut self) -> String {
        if self.messages.is_empty() {
            return "there is nothing to redact".to_owned();
        }
        let (who, message) = (self.anyone(), self.random.pick(&self.messages).clone());
        let reply = who.redact(&message.room_id, &message.event_id).await;
        told(&who, &format!("redacts {} in {}", message.event_id, message.room_id), &reply)
    }

    async fn i_ignore_someone(&mut self) -> String {
        let me = self.me();
        let ignored = self.random.coin().then(|| self.others[1].user_id.clone());
        if let Some(user_id) = &ignored {
            self.truth.ignore(user_id);
        }
        let users: serde_json::Map<String, Value> =
            ignored.iter().map(|user| (user.clone(), json!({}))).collect();
        let reply =
            me.set_account_data("m.ignored_user_list", &json!({"ignored_users": users})).await;
        told(&me, &format!("ignores {ignored:?}"), &reply)
    }
}

async fn unban(who: &Client, room_id: &str, user_id: &str) -> Reply {
    let path = format!("/_matrix/client/v3/rooms/{}/unban", encode(room_id));
    who.post(&path).json(&json!({"user_id": user_id})).send().await
}

/// What happened, for the story. A refusal is part of it; a fault is not.
fn told(who: &Client, what: &str, reply: &Reply) -> String {
    assert!(reply.status < 500, "{} {what}: {} {}", who.user_id, reply.status, reply.body_text());
    let refusal = reply.json["errcode"].as_str().map(|errcode| format!(" ({errcode})"));
    format!("{} on {} {what}{}", who.user_id, who.device_id, refusal.unwrap_or_default())
}
