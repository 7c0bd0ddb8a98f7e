//! What a main poll tells beyond what upstream said in it: gaps where rooms were left out of the question, rooms that have
//! vanished, typing that is over, and keys that changed while the stream was broken off.
//!
//! A poll may come in parts. Each is shown to [`Additions::add`], and what none of them had a place for comes at the end.
//! Pure but for the log; who makes them up asks the store and upstream.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use store::{Batch, Poll, RoomUpdate, Section};

use super::{Poller, key_changes::Missed, upkeep::may_be_new};
use crate::upstream::AccessToken;

const NOBODY: &[u8] = br#"{"user_ids":[]}"#;

/// What is still to be added to a poll.
#[derive(Clone, Debug, Default)]
pub(super) struct Additions {
    /// Rooms that were left out, because replies with news of them cannot be read.
    left_out: Vec<String>,
    /// Those of them that the poll has not told of all the same.
    gaps: BTreeSet<String>,
    /// Rooms that the account was in, and of which the poll, which should list all, has not told.
    vanished: BTreeSet<String>,
    /// Rooms in which nobody types any longer, unless the poll tells otherwise.
    quiet: HashSet<String>,
    keys: Missed,
}

impl Additions {
    /// Adds to rooms of the poll what concerns them.
    pub(super) fn add(&mut self, rooms: &mut [RoomUpdate]) {
        for room in rooms {
            // What upstream says of a room that it was not asked for, an invite or a leave say, stands.
            if self.left_out.contains(&room.room_id) {
                self.gaps.remove(&room.room_id);
                room.limited |= room.section == Section::Join;
            }
            self.vanished.remove(&room.room_id);
            if self.quiet.remove(&room.room_id) && room.section == Section::Join {
                room.typing = room.typing.take().or(Some(Bytes::from_static(NOBODY)));
            }
            self.keys.hear(room);
        }
    }

    /// Takes the device lists out of a poll that comes in parts: they come at the end, with what is added to them.
    pub(super) fn take_device_lists(&mut self, poll: &mut Poll) {
        self.keys.changed.extend(std::mem::take(&mut poll.device_lists_changed));
        self.keys.left.append(&mut poll.device_lists_left);
    }

    /// What is left, after all rooms of the poll.
    pub(super) fn rest(mut self) -> Batch {
        let mut rooms: Vec<RoomUpdate> = Vec::new();
        for room_id in std::mem::take(&mut self.gaps) {
            rooms.push(RoomUpdate { limited: true, ..RoomUpdate::empty(room_id, Section::Join) });
        }
        for room_id in std::mem::take(&mut self.vanished) {
            tracing::info!(%room_id, "the room is no longer listed: taken as left");
            rooms.push(RoomUpdate { limited: true, ..RoomUpdate::empty(room_id, Section::Leave) });
        }
        self.add(&mut rooms);
        rooms.extend(self.quiet.into_iter().map(|room_id| RoomUpdate {
            typing: Some(Bytes::from_static(NOBODY)),
            ..RoomUpdate::empty(room_id, Section::Join)
        }));
        let reason = |room_id| format!("replies with news of {room_id} could not be read");
        let spoilt = self.left_out.iter().map(|room| (reason(room), Bytes::from_static(b"null")));
        Batch {
            rooms,
            device_lists_changed: self.keys.changed.into_iter().collect(),
            device_lists_left: self.keys.left,
            quarantined: spoilt.collect(),
        }
    }
}

/// What a poll brought, in numbers, and what of it leaves something to be done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brought {
    pub(super) rooms: usize,
    /// In timelines.
    pub(super) events: usize,
    pub(super) quarantined: usize,
    /// A timeline has a gap before it.
    pub(super) gaps: bool,
    /// A room may be newly joined.
    pub(super) new_rooms: bool,
}

impl Brought {
    /// Counts more of it.
    pub(super) fn add(&mut self, rooms: &[RoomUpdate], quarantined: usize) {
        self.rooms += rooms.len();
        self.events += rooms.iter().map(|room| room.timeline.len()).sum::<usize>();
        self.quarantined += quarantined;
        self.gaps |= rooms.iter().any(|room| room.limited);
        self.new_rooms |= rooms.iter().any(may_be_new);
    }
}

impl Poller {
    /// What there is to be added to a poll that upstream has answered.
    pub(super) async fn additions(
        &self,
        token: &AccessToken,
        poll: &Poll,
        after_outage: bool,
    ) -> Result<Additions, store::Error> {
        let left_out = self.poison().rooms().to_vec();
        let mut additions = Additions { left_out, ..Additions::default() };
        if poll.asked_since.is_some() {
            additions.gaps = additions.left_out.iter().cloned().collect();
        } else {
            let known = [Section::Join, Section::Invite, Section::Knock];
            let known = self.state.store.rooms_in(self.account.account_id, &known).await?;
            let known = known.into_iter().map(|room| room.room_id);
            let left_out = &additions.left_out;
            additions.vanished = known.filter(|room_id| !left_out.contains(room_id)).collect();
            additions.keys = self.missed_key_changes(token, &poll.next_batch).await?;
        }
        additions.quiet = self.quiet_rooms(after_outage).await?;
        Ok(additions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<T: FromIterator<String>>(names: &[&str]) -> T {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn told(rooms: &[RoomUpdate]) -> Vec<(&str, Section, bool, bool)> {
        let told = |room: &RoomUpdate| room.typing.is_some();
        let mut all: Vec<_> = rooms
            .iter()
            .map(|room| (&*room.room_id, room.section, room.limited, told(room)))
            .collect();
        all.sort_by_key(|room| room.0.to_owned());
        all
    }

    #[test]
    fn a_room_is_told_once_however_the_poll_is_parted() {
        let additions = Additions {
            left_out: set(&["!bad", "!kicked"]),
            gaps: set(&["!bad", "!kicked"]),
            vanished: set(&["!gone", "!here"]),
            quiet: set(&["!bad", "!gone", "!here", "!left", "!quiet"]),
            keys: Missed::default(),
        };
        let poll = [
            RoomUpdate::empty("!kicked".to_owned(), Section::Leave),
            RoomUpdate::empty("!here".to_owned(), Section::Join),
            RoomUpdate::empty("!left".to_owned(), Section::Leave),
        ];
        for size in [1, 2, 3] {
            let mut additions = additions.clone();
            let mut rooms = poll.to_vec();
            rooms.chunks_mut(size).for_each(|part| additions.add(part));
            let rest = additions.rest();
            rooms.extend(rest.rooms);
            assert_eq!(
                told(&rooms),
                [
                    ("!bad", Section::Join, true, true),
                    ("!gone", Section::Leave, true, false),
                    ("!here", Section::Join, false, true),
                    ("!kicked", Section::Leave, false, false),
                    ("!left", Section::Leave, false, false),
                    ("!quiet", Section::Join, false, true),
                ]
            );
            assert_eq!(rest.quarantined.len(), 2);
        }
    }
}
