//! A reply that is too large for memory, read part by part: everything but its rooms at once, and then the rooms, so
//! many at a time.
//!
//! What comes of it is what [`main_poll`] makes of the same reply, and it is refused as there; but what is no JSON
//! inside of a room is found only when the room is read. All of this blocks.

use std::{collections::HashMap, io};

use serde_json::value::RawValue;
use store::{Batch, DeviceNid, Poll};

use super::{Asked, ReplyError, add_room, main_poll, quarantine};
use crate::{
    sync_reply::outline::{RoomPart, Scanner, Span},
    upstream::Large,
};

/// The most rooms of a batch.
const ROOMS: usize = 100;

/// A batch ends when it has so many bytes: one room may have more.
const BYTES: u64 = 1024 * 1024;

/// Why a part of a reply cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    /// It is no sync reply.
    #[error("not a sync reply")]
    Reply(#[from] ReplyError),
    /// The file that it is in cannot be read.
    #[error("cannot read the file of a reply")]
    File(#[from] io::Error),
}

/// A large reply, and where its rooms stand.
#[derive(Debug)]
pub(crate) struct LargePoll {
    reply: Large,
    asked: OwnAsked,
    /// By room ID, as rows are written; what is said of one room in the order in which it counts.
    rooms: Vec<RoomPart>,
}

/// [`Asked`], owned.
#[derive(Debug)]
struct OwnAsked {
    user_id: String,
    device_nid: DeviceNid,
    since: Option<String>,
    received_at: i64,
}

impl OwnAsked {
    fn borrow(&self) -> Asked<'_> {
        Asked {
            user_id: &self.user_id,
            device_nid: self.device_nid,
            since: self.since.as_deref(),
            received_at: self.received_at,
        }
    }
}

impl LargePoll {
    /// Looks through the reply. Gives what it brought apart from rooms, and where to read those.
    pub(crate) fn read(reply: Large, asked: Asked<'_>) -> Result<(Poll, Self), PartError> {
        let mut scanner = Scanner::new();
        reply.each_piece(|piece| {
            scanner.feed(piece).map_err(|malformed| PartError::Reply(malformed.into()))
        })?;
        let outline = scanner.finish().map_err(ReplyError::Malformed)?;
        for span in outline.others {
            json(&read(&reply, span)?)?;
        }
        let mut head = vec![b'{'];
        for (number, member) in outline.members.into_iter().enumerate() {
            if number > 0 {
                head.push(b',');
            }
            head.append(&mut read(&reply, member)?);
        }
        head.push(b'}');
        let poll = main_poll(&head, asked)?;
        let mut rooms = outline.rooms;
        // Stable: of what is said of one room in a section, the last counts.
        rooms.sort_by(|one, other| {
            let place =
                |part: &RoomPart| super::SECTIONS.iter().position(|it| it.0 == part.section);
            (&one.room_id, place(one)).cmp(&(&other.room_id, place(other)))
        });
        let asked = OwnAsked {
            user_id: asked.user_id.to_owned(),
            device_nid: asked.device_nid,
            since: asked.since.map(str::to_owned),
            received_at: asked.received_at,
        };
        Ok((poll, Self { reply, asked, rooms }))
    }

    /// How many rooms it lists, one that it lists twice counted twice.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Reads rooms from the one of this number on; gives them, and the number of the one after them. `None` when there are
    /// none.
    pub(crate) fn batch(&self, first: usize) -> Result<Option<(Batch, usize)>, PartError> {
        if first >= self.rooms.len() {
            return Ok(None);
        }
        let mut next = first;
        let mut poll = Poll::default();
        let mut seen = HashMap::new();
        let mut bytes = 0;
        while let Some(part) = self.rooms.get(next) {
            let is_full = next >= first + ROOMS || bytes >= BYTES;
            // What is said of one room comes together.
            if is_full && (part.room_id.is_none() || self.rooms[next - 1].room_id != part.room_id) {
                break;
            }
            let held = read(&self.reply, part.span)?;
            let raw = json(&held)?;
            match &part.room_id {
                Some(room_id) => {
                    let asked = self.asked.borrow();
                    add_room(&mut poll, &mut seen, asked, part.section, room_id, raw);
                }
                None => quarantine(&mut poll, "a room ID that is no text", raw),
            }
            bytes += part.span.len();
            next += 1;
        }
        let Poll { rooms, quarantined, .. } = poll;
        Ok(Some((Batch { rooms, quarantined, ..Batch::default() }, next)))
    }
}

fn read(reply: &Large, span: Span) -> Result<Vec<u8>, PartError> {
    Ok(reply.read(span.start, span.end)?)
}

fn json(bytes: &[u8]) -> Result<&RawValue, ReplyError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ReplyError::NotUtf8)?;
    serde_json::from_str(text).map_err(ReplyError::NotAnObject)
}

#[cfg(test)]
mod fuzz;
