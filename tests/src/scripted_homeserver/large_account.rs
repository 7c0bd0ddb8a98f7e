//! Accounts of any size: what a homeserver would say of a user with thousands of rooms.
//!
//! Every room differs a little, by its number: most have a name and the others heroes, some are encrypted, direct, tagged or
//! unread. The first reply is one long text, because of a large account a `Value` would take many times its length.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{ScriptedHomeserver, body::Canned, nothing_new};

/// When the account begins, in milliseconds. The rooms stir one after the other from then on.
const BEGINNING: u64 = 1_700_000_000_000;

/// How many members a room has besides the user, and how many events its timeline.
const OTHERS: usize = 5;
const TIMELINE: usize = 20;

/// The script of an account that is in many rooms.
#[derive(Debug)]
pub struct LargeAccount {
    user_id: String,
    rooms: usize,
    /// How many polls have been scripted after the first.
    polls: u64,
}

impl LargeAccount {
    /// An account in so many rooms, and its first reply in the homeserver's script.
    pub fn moves_in(homeserver: &ScriptedHomeserver, user_id: &str, rooms: usize) -> Self {
        let account = Self { user_id: user_id.to_owned(), rooms, polls: 0 };
        homeserver.on_sync_raw(None, account.first_reply());
        let joined: Vec<String> = (0..rooms).map(room_id).collect();
        let joined = Canned::json(&json!({"joined_rooms": joined}));
        homeserver.on_path("/_matrix/client/v3/joined_rooms", joined);
        account
    }

    /// The room with this number. The last one has stirred last.
    pub fn room_id(&self, number: usize) -> String {
        assert!(number < self.rooms, "there are {} rooms only", self.rooms);
        room_id(number)
    }

    /// How many rooms there are.
    pub const fn rooms(&self) -> usize {
        self.rooms
    }

    /// Scripts one message in one room as the next poll. Gives the token that comes with it.
    pub fn somebody_speaks(&mut self, homeserver: &ScriptedHomeserver, room_id: &str) -> String {
        let since = token(self.polls);
        self.polls += 1;
        let next_batch = token(self.polls);
        let mut reply = nothing_new(&next_batch);
        let stirred = BEGINNING + 1_000 * (self.rooms as u64 + self.polls);
        let message = event(0, &format!("poll{}", self.polls), stirred, "@friend:scripted");
        reply["rooms"]["join"][room_id] = json!({
            "timeline": {"events": [message], "limited": false, "prev_batch": since},
            "unread_notifications": {"notification_count": self.polls, "highlight_count": 0},
        });
        homeserver.on_sync(Some(&since), &reply);
        next_batch
    }

    fn first_reply(&self) -> String {
        let mut rooms = String::new();
        for room in 0..self.rooms {
            if room > 0 {
                rooms.push(',');
            }
            write!(rooms, "\"{}\":{}", room_id(room), self.room(room)).unwrap();
        }
        let direct: Vec<String> =
            (0..self.rooms).filter(|room| is_direct(*room)).map(room_id).collect();
        let account_data = json!({"events": [
            {"type": "m.direct", "content": {"@friend:scripted": direct}},
            {"type": "m.push_rules", "content": {"global": {}}},
        ]});
        format!(
            r#"{{"next_batch":"{}","account_data":{account_data},"rooms":{{"join":{{{rooms}}}}},"device_one_time_keys_count":{{}},"device_unused_fallback_key_types":[]}}"#,
            token(0)
        )
    }

    fn room(&self, room: usize) -> Value {
        let timeline: Vec<Value> = (0..TIMELINE)
            .map(|n| {
                // The rooms' last events are a second apart, in the order of the rooms' numbers.
                let sent = BEGINNING + 1_000 * room as u64 - (TIMELINE - 1 - n) as u64;
                event(room, &format!("message{n}"), sent, &other(room, n % OTHERS))
            })
            .collect();
        let last = timeline[TIMELINE - 1]["event_id"].clone();
        let mut account_data =
            vec![json!({"type": "m.fully_read", "content": {"event_id": &last}})];
        if room.is_multiple_of(10) {
            account_data.push(
                json!({"type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}}}),
            );
        }
        let unread = u64::from(room.is_multiple_of(7));
        json!({
            "state": {"events": self.state(room)},
            "timeline": {"events": timeline, "limited": true, "prev_batch": format!("p{room}")},
            "account_data": {"events": account_data},
            "ephemeral": {"events": [{"type": "m.receipt", "content": {
                last.as_str().unwrap_or_default(): {"m.read": {other(room, 1): {"ts": BEGINNING}}}
            }}]},
            "unread_notifications": {"notification_count": unread, "highlight_count": 0},
            "summary": {
                "m.heroes": [other(room, 0), other(room, 1)],
                "m.joined_member_count": OTHERS + 1,
                "m.invited_member_count": 0,
            },
        })
    }

    fn state(&self, room: usize) -> Vec<Value> {
        let me = &self.user_id;
        let state = |event_type: &str, state_key: &str, content: Value| {
            let mut event = event(room, &format!("{event_type}{state_key}"), BEGINNING - 1, me);
            event["type"] = event_type.into();
            event["state_key"] = state_key.into();
            event["content"] = content;
            event
        };
        let mut events = vec![
            state("m.room.create", "", json!({"room_version": "10", "creator": me})),
            state("m.room.power_levels", "", json!({"users": {me: 100}, "users_default": 0})),
            state("m.room.join_rules", "", json!({"join_rule": "invite"})),
            state("m.room.history_visibility", "", json!({"history_visibility": "shared"})),
            state("m.room.topic", "", json!({"topic": format!("what there is to say of {room}")})),
            state("m.room.member", me, json!({"membership": "join", "displayname": "Alice"})),
        ];
        for n in 0..OTHERS {
            let content =
                json!({"membership": "join", "displayname": format!("Other {n} of {room}")});
            events.push(state("m.room.member", &other(room, n), content));
        }
        if !room.is_multiple_of(4) {
            events.push(state("m.room.name", "", json!({"name": name(room)})));
        }
        if room.is_multiple_of(3) {
            let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
            events.push(state("m.room.encryption", "", content));
        }
        if room.is_multiple_of(2) {
            let content = json!({"url": format!("mxc://scripted/{room}")});
            events.push(state("m.room.avatar", "", content));
        }
        events
    }
}

fn token(polls: u64) -> String {
    format!("s{polls}")
}

fn room_id(room: usize) -> String {
    format!("!{room:06}:scripted")
}

fn other(room: usize, n: usize) -> String {
    format!("@other{n}_{}:scripted", room % 500)
}

/// Names are not in the order of the numbers, so that sorting by them is work.
fn name(room: usize) -> String {
    format!("Room {:04} of {room}", (room * 7919) % 10_000)
}

fn is_direct(room: usize) -> bool {
    room.is_multiple_of(4)
}

fn event(room: usize, what: &str, sent: u64, sender: &str) -> Value {
    json!({
        "type": "m.room.message", "event_id": format!("${what}_{room}"), "sender": sender, "origin_server_ts": sent,
        "content": {"msgtype": "m.text", "body": format!("{what} in room {room}: a sentence as people write it")},
        "unsigned": {"age": 1_000},
    })
}
