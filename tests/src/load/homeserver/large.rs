//! Accounts of any size. What the homeserver tells of one at first is made as it is sent, so that its own memory does not
//! grow with it.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::user;

/// How much is made at a time, in bytes.
const CHUNK: usize = 32 * 1024;

/// How large an account is. Each room has its rules and its name, the account and others as members, and a timeline.
#[derive(Debug, Clone, Copy)]
pub struct Large {
    /// Rooms.
    pub rooms: usize,
    /// Members that are told of each room, the account itself among them.
    pub members: usize,
    /// The same for the first room.
    pub members_of_first: usize,
    /// Events in each timeline, unless the client's filter wants fewer.
    pub events: usize,
    /// How long the homeserver takes for each room, as one that has to look it up does.
    pub pace: Duration,
}

/// Writes an account's first reply, and notes how many bytes went out. Ends when nobody reads it any more.
pub(super) async fn write(
    large: Large,
    number: usize,
    next: usize,
    limit: Option<usize>,
    sender: mpsc::Sender<Bytes>,
    note: impl Fn(usize),
) -> Option<()> {
    let events = large.events.min(limit.unwrap_or(usize::MAX));
    let begun = Instant::now();
    let mut reply = Reply { text: String::new(), sender, note };
    reply.say(format_args!(r#"{{"next_batch":"s{next}","rooms":{{"join":{{"#));
    for room in 0..large.rooms {
        let so_far = large.pace * u32::try_from(room).unwrap_or(u32::MAX);
        // What paces it, and waits for nothing.
        sleep_until(begun + so_far).await;
        let comma = if room == 0 { "" } else { "," };
        reply.say(format_args!(r#"{comma}"{}":{{"timeline":{{"events":["#, room_id(room)));
        for event in 0..events {
            reply.message(room, event).await?;
        }
        reply
            .say(format_args!(r#"],"limited":true,"prev_batch":"p{room}"}},"state":{{"events":["#));
        let members = if room == 0 { large.members_of_first } else { large.members };
        reply.state(room, number, members).await?;
        reply.say(format_args!(
            r#"]}},"account_data":{{"events":[]}},"ephemeral":{{"events":[]}},"unread_notifications":{{"notification_count":0,"highlight_count":0}},"summary":{{"m.joined_member_count":{members},"m.invited_member_count":0}}}}"#
        ));
    }
    reply.say(format_args!("}}}}}}"));
    reply.send().await
}

struct Reply<Note> {
    text: String,
    sender: mpsc::Sender<Bytes>,
    note: Note,
}

impl<Note: Fn(usize)> Reply<Note> {
    fn say(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).unwrap();
    }

    async fn send(&mut self) -> Option<()> {
        let chunk = std::mem::take(&mut self.text);
        let length = chunk.len();
        self.sender.send(chunk.into()).await.ok()?;
        (self.note)(length);
        Some(())
    }

    async fn send_if_long(&mut self) -> Option<()> {
        if self.text.len() < CHUNK { Some(()) } else { self.send().await }
    }

    async fn message(&mut self, room: usize, event: usize) -> Option<()> {
        let comma = if event == 0 { "" } else { "," };
        let (sender, sent) = (other(event % 5), 1_700_000_000_000 + room * 1_000 + event);
        self.say(format_args!(
            r#"{comma}{{"type":"m.room.message","event_id":"$message{room:06}x{event:027}","sender":"{sender}","origin_server_ts":{sent},"content":{{"msgtype":"m.text","body":"{event} in room {room}: {SENTENCES}"}},"unsigned":{{"age":100000}}}}"#
        ));
        self.send_if_long().await
    }

    /// The rules of a room, its name, the account and so many members less one.
    async fn state(&mut self, room: usize, number: usize, members: usize) -> Option<()> {
        let creator = user(number);
        let rules = [
            ("m.room.create", format!(r#"{{"room_version":"10","creator":"{creator}"}}"#)),
            ("m.room.power_levels", r#"{"users_default":0,"events_default":0}"#.to_owned()),
            ("m.room.join_rules", r#"{"join_rule":"invite"}"#.to_owned()),
            ("m.room.history_visibility", r#"{"history_visibility":"shared"}"#.to_owned()),
            ("m.room.name", format!(r#"{{"name":"Room {room}"}}"#)),
        ];
        for (event_type, content) in rules {
            self.say(format_args!(
                r#"{{"type":"{event_type}","state_key":"","event_id":"${event_type:x<30}{room:013}","sender":"{creator}","origin_server_ts":1600000000000,"content":{content},"unsigned":{{"age":100000}}}},"#
            ));
        }
        self.member(room, &creator, 0);
        for member in 1..members {
            self.text.push(',');
            self.member(room, &other(member - 1), member);
            self.send_if_long().await?;
        }
        Some(())
    }

    fn member(&mut self, room: usize, user_id: &str, member: usize) {
        self.say(format_args!(
            r#"{{"type":"m.room.member","state_key":"{user_id}","event_id":"$member{room:06}x{member:028}","sender":"{user_id}","origin_server_ts":1600000000000,"content":{{"membership":"join","displayname":"Member number {member}","avatar_url":"mxc://load/{member:x>40}"}},"unsigned":{{"age":100000}}}}"#
        ));
    }
}

/// As much as people write in a message, so that an event has some 600 bytes.
const SENTENCES: &str = "what somebody wrote in the course of a long day, as people do when they have something to tell \
each other: a few sentences about this and that, a question at the end which nobody answers for an hour or two, and then \
what everybody thinks of it. It may be about the weather, the trains or a program.";

pub(super) fn room_id(room: usize) -> String {
    format!("!largeaccount{room:06}:load")
}

fn other(number: usize) -> String {
    format!("@other{number:06}:load")
}
