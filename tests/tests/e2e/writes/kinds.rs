//! The kinds of writes, and by what one recognises each in a sync.

use serde_json::{Value, json};
use tests::client::{Client, encode};
use tests::lab::Lab;
use tests::matchers::{content_of, events, joined, messages, timeline, typing};

/// One kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Send,
    Redact,
    State,
    CreateRoom,
    Join,
    Knock,
    Invite,
    Leave,
    Kick,
    Ban,
    Unban,
    Upgrade,
    Forget,
    KeysUpload,
    AccountData,
    RoomAccountData,
    Tag,
    PushRule,
    ReadMarkers,
    Receipt,
    Typing,
    Presence,
    IgnoredUsers,
}

/// All of them: after a join a leave, and so on.
pub(super) const KINDS: [Kind; 23] = [
    Kind::Send,
    Kind::Redact,
    Kind::State,
    Kind::CreateRoom,
    Kind::Join,
    Kind::Leave,
    Kind::Forget,
    Kind::Knock,
    Kind::Invite,
    Kind::Kick,
    Kind::Ban,
    Kind::Unban,
    Kind::Upgrade,
    Kind::KeysUpload,
    Kind::AccountData,
    Kind::RoomAccountData,
    Kind::Tag,
    Kind::PushRule,
    Kind::ReadMarkers,
    Kind::Receipt,
    Kind::Typing,
    Kind::Presence,
    Kind::IgnoredUsers,
];

impl Kind {
    /// Whether no other device of the user is concerned.
    pub(super) const fn is_of_one_device(self) -> bool {
        matches!(self, Self::KeysUpload)
    }
}

/// Finds a write in a sync.
pub(super) type Seen = Box<dyn Fn(&Value) -> bool>;

/// Alice and her laptop, who write, and Bob, past the proxy, who gives them occasion to.
pub(super) struct World {
    pub(super) alice: Client,
    pub(super) laptop: Client,
    pub(super) from_laptop: bool,
    bob: Client,
    room: String,
    /// A room of Bob's that Alice joins, leaves and forgets; one that she may knock at; and one of hers, into which
    /// Bob is invited and out of which he is thrown again.
    open: String,
    knockable: String,
    own: String,
    /// The room or the event that a write is about.
    prepared: String,
    keys: usize,
}

impl World {
    pub(super) async fn new(lab: &Lab) -> Self {
        let (alice, bob) = (lab.user("alice").await, lab.user_on_synapse("bob").await);
        let laptop = lab.second_device(&alice).await;
        let room = alice.create_public_room().await;
        bob.join(&room).await.ok();
        let rule = json!({"type": "m.room.join_rules", "content": {"join_rule": "knock"}});
        Self {
            open: bob.create_public_room().await,
            knockable: bob.create_room(json!({"initial_state": [rule]})).await,
            own: alice.create_room(json!({"preset": "private_chat"})).await,
            prepared: String::new(),
            from_laptop: false,
            keys: 0,
            alice,
            laptop,
            bob,
            room,
        }
    }

    pub(super) const fn writer(&self) -> &Client {
        if self.from_laptop { &self.laptop } else { &self.alice }
    }

    /// What has to be there before.
    pub(super) async fn prepare(&mut self, kind: Kind) {
        let (bob, room) = (&self.bob, &self.room);
        self.prepared = match kind {
            Kind::Redact => self.writer().send(room, "take this back").await,
            Kind::Join | Kind::Leave | Kind::Forget => self.open.clone(),
            Kind::Knock => {
                // Nothing to leave there at first.
                self.alice.leave(&self.knockable).await;
                self.knockable.clone()
            }
            Kind::Invite | Kind::Kick | Kind::Ban | Kind::Unban => self.own.clone(),
            Kind::Upgrade => self.alice.create_public_room().await,
            Kind::ReadMarkers | Kind::Receipt => bob.send(room, "read this").await,
            Kind::Typing => {
                self.writer().stops_typing(room).await;
                String::new()
            }
            _ => String::new(),
        };
    }

    /// Writes, and says how to recognise it.
    pub(super) async fn write(&mut self, kind: Kind, round: usize) -> Seen {
        let writer = self.writer().clone();
        let (me, bob) = (writer.user_id.clone(), self.bob.user_id.clone());
        let (room, prepared) = (self.room.clone(), self.prepared.clone());
        let text = format!("round {round}");
        match kind {
            Kind::Send => {
                writer.send(&room, &text).await;
                Box::new(move |reply| messages(reply, &room).contains(&text.as_str()))
            }
            Kind::Redact => {
                let event_id = writer.redact(&room, &prepared).await.event_id();
                in_timeline(&room, move |event| event["event_id"] == event_id.as_str())
            }
            Kind::State => {
                writer.set_topic(&room, &text).await;
                in_timeline(&room, move |event| event["content"]["topic"] == text.as_str())
            }
            Kind::CreateRoom => in_section("join", &writer.create_public_room().await),
            Kind::Join => {
                writer.join(&prepared).await.ok();
                in_section("join", &prepared)
            }
            Kind::Knock => {
                writer.knock(&prepared).await.ok();
                in_section("knock", &prepared)
            }
            Kind::Invite => {
                writer.invite(&prepared, &bob).await.ok();
                member(&prepared, &bob, "invite")
            }
            Kind::Leave => {
                writer.leave(&prepared).await.ok();
                in_section("leave", &prepared)
            }
            Kind::Kick => {
                writer.kick(&prepared, &bob).await.ok();
                member(&prepared, &bob, "leave")
            }
            Kind::Ban => {
                writer.ban(&prepared, &bob).await.ok();
                member(&prepared, &bob, "ban")
            }
            Kind::Unban => {
                let path = format!("/_matrix/client/v3/rooms/{}/unban", encode(&prepared));
                writer.post(&path).json(&json!({"user_id": bob})).send().await.ok();
                member(&prepared, &bob, "leave")
            }
            Kind::Upgrade => {
                let path = format!("/_matrix/client/v3/rooms/{}/upgrade", encode(&prepared));
                let upgrade = writer.post(&path).json(&json!({"new_version": "10"}));
                let new = upgrade.send().await.text("replacement_room");
                let tombstone = in_timeline(&prepared, |event| event["type"] == "m.room.tombstone");
                let joined = in_section("join", &new);
                Box::new(move |reply| tombstone(reply) && joined(reply))
            }
            Kind::Forget => {
                writer.forget(&prepared).await.ok();
                let filter = json!({"room": {"include_leave": true}});
                let reply = writer.fresh_sync().filter(&filter).send().await.ok();
                let gone = reply["rooms"]["leave"][&prepared].is_null();
                Box::new(move |_reply| gone)
            }
            Kind::KeysUpload => self.upload_key(&writer).await,
            Kind::AccountData => {
                writer.set_account_data("com.example", &json!({"text": text})).await.ok();
                in_account_data("com.example", move |content| content["text"] == text.as_str())
            }
            Kind::IgnoredUsers => {
                let ignored = format!("@nobody-{round}:test.local");
                let list = json!({"ignored_users": {&ignored: {}}});
                writer.set_account_data("m.ignored_user_list", &list).await.ok();
                in_account_data("m.ignored_user_list", move |content| {
                    content["ignored_users"][&ignored].is_object()
                })
            }
            Kind::RoomAccountData => {
                let content = json!({"text": text});
                writer.set_room_account_data(&room, "com.example", &content).await.ok();
                in_room_account_data(&room, "com.example", move |found| *found == content)
            }
            Kind::Tag => {
                let tag = format!("u.{round}");
                writer.tag(&room, &tag).await.ok();
                in_room_account_data(&room, "m.tag", move |found| found["tags"][&tag].is_object())
            }
            Kind::PushRule => {
                let rule = format!("com.example.{round}");
                let path = format!("/_matrix/client/v3/pushrules/global/override/{rule}");
                let body = json!({"actions": ["notify"], "conditions": []});
                writer.put(&path).json(&body).send().await.ok();
                in_account_data("m.push_rules", move |found| found.to_string().contains(&rule))
            }
            Kind::ReadMarkers => {
                let path = format!("/_matrix/client/v3/rooms/{}/read_markers", encode(&room));
                let body = json!({"m.fully_read": prepared, "m.read": prepared});
                writer.post(&path).json(&body).send().await.ok();
                let receipt = receipt(&room, &prepared, &me);
                let marker = in_room_account_data(&room, "m.fully_read", move |found| {
                    found["event_id"] == prepared.as_str()
                });
                Box::new(move |reply| receipt(reply) && marker(reply))
            }
            Kind::Receipt => {
                writer.read(&room, &prepared).await.ok();
                receipt(&room, &prepared, &me)
            }
            Kind::Typing => {
                writer.starts_typing(&room).await;
                Box::new(move |reply| {
                    typing(reply, &room).is_some_and(|who| who.contains(&me.as_str()))
                })
            }
            Kind::Presence => {
                writer.set_presence("online", &text).await.ok();
                Box::new(move |reply| {
                    events(&reply["presence"]).iter().any(|event| {
                        event["sender"] == me.as_str()
                            && event["content"]["status_msg"] == text.as_str()
                    })
                })
            }
        }
    }

    async fn upload_key(&mut self, writer: &Client) -> Seen {
        self.keys += 1;
        let id = format!("signed_curve25519:{}{}", writer.device_id, self.keys);
        let key = json!({"key": format!("key {}", self.keys), "signatures": {}});
        let body = json!({"one_time_keys": {id: key}});
        let uploaded = writer.upload_keys(&body).await.ok();
        let counts = uploaded["one_time_key_counts"].clone();
        assert!(counts["signed_curve25519"].as_u64().unwrap() > 0, "{uploaded:#}");
        Box::new(move |reply| reply["device_one_time_keys_count"] == counts)
    }
}

fn in_timeline(room: &str, is_it: impl Fn(&Value) -> bool + 'static) -> Seen {
    let room = room.to_owned();
    Box::new(move |reply| timeline(reply, &room).iter().any(|event| is_it(event)))
}

fn member(room: &str, user_id: &str, membership: &'static str) -> Seen {
    let user_id = user_id.to_owned();
    in_timeline(room, move |event| {
        event["state_key"] == user_id.as_str() && event["content"]["membership"] == membership
    })
}

fn in_section(section: &'static str, room: &str) -> Seen {
    let room = room.to_owned();
    Box::new(move |reply| reply["rooms"][section][&room].is_object())
}

fn in_account_data(event_type: &'static str, is_it: impl Fn(&Value) -> bool + 'static) -> Seen {
    Box::new(move |reply| is_it(content_of_any(&events(&reply["account_data"]), event_type)))
}

fn in_room_account_data(
    room: &str,
    event_type: &'static str,
    is_it: impl Fn(&Value) -> bool + 'static,
) -> Seen {
    let room = room.to_owned();
    Box::new(move |reply| {
        is_it(content_of_any(&events(&joined(reply, &room)["account_data"]), event_type))
    })
}

fn content_of_any<'a>(events: &[&'a Value], event_type: &str) -> &'a Value {
    if events.iter().any(|event| event["type"] == event_type) {
        content_of(events, event_type)
    } else {
        &Value::Null
    }
}

fn receipt(room: &str, event_id: &str, user_id: &str) -> Seen {
    let (room, event_id, user_id) = (room.to_owned(), event_id.to_owned(), user_id.to_owned());
    Box::new(move |reply| {
        events(&joined(reply, &room)["ephemeral"])
            .iter()
            .any(|event| event["content"][&event_id]["m.read"][&user_id].is_object())
    })
}
