//! A small homeserver: three rooms in which random things happen, told to one account with lazily loaded members, and
//! compared with what the store makes of it.

mod agree;
mod story;

use std::collections::BTreeMap;

use store::{Poll, Position, Section};
use tests::random::Random;

use self::story::Told;
use super::model::{Key, Model, State, is_member};
use crate::polls::Feed;

/// The rooms and the account that hears of them.
pub(crate) struct World {
    random: Random,
    me: String,
    rooms: Vec<Room>,
    events: u64,
    pos: Position,
}

/// A room as it really is, and as the account knows it.
struct Room {
    room_id: String,
    truth: State,
    /// The truth at the end of each poll that the account was in for.
    history: BTreeMap<Position, State>,
    /// Where the account is now; `None` before its first join.
    standing: Option<Section>,
    joined_at: Position,
    /// The last beginning was that of upstream's stream, and not a join.
    began_anew: bool,
    /// The last hard cut.
    cut: Position,
    /// `None` before the first join.
    model: Option<Model>,
}

impl World {
    pub(crate) fn new(seed: u64, feed: &Feed) -> Self {
        let room = |name| Room {
            room_id: format!("!{name}-{seed}:x"),
            truth: State::new(),
            history: BTreeMap::new(),
            standing: None,
            joined_at: Position(0),
            began_anew: false,
            cut: Position(0),
            model: None,
        };
        Self {
            random: Random::seeded(seed),
            me: format!("@me-{seed}:x"),
            rooms: ["one", "two", "three"].map(room).into(),
            events: feed.account_id.0.unsigned_abs() * 1_000_000,
            pos: Position(0),
        }
    }

    /// A poll that mentions some of the rooms.
    pub(crate) async fn poll(&mut self, feed: &mut Feed) {
        let anew = self.pos > Position(0) && self.chance(1, 15);
        let mut told = Vec::new();
        let mut rooms = Vec::new();
        for number in 0..self.rooms.len() {
            let joined = self.rooms[number].standing == Some(Section::Join);
            if if anew { joined } else { self.chance(2, 3) } {
                let (update, story) =
                    if anew { self.begins_anew(number) } else { self.tell(number) };
                rooms.push(update);
                told.push((number, story));
            }
        }
        let redacted = self.redacts(&mut rooms, &mut told);
        let mut poll = Poll { rooms, ..feed.next() };
        if anew {
            // Upstream has refused its own position.
            feed.store.forget_upstream_since(feed.account_id).await.unwrap();
            poll.asked_since = None;
        }
        let ingested = feed.store(&poll).await.unwrap();
        if !told.is_empty() {
            self.pos = Position(self.pos.0 + 1);
        }
        assert_eq!(ingested.pos, self.pos);
        for (number, story) in told {
            self.rooms[number].hears(self.pos, story);
        }
        if let Some(event_id) = redacted {
            self.rooms.iter_mut().filter_map(|room| room.model.as_mut()).for_each(|model| {
                model.redact(&event_id);
            });
        }
        for room in &mut self.rooms {
            room.history.insert(self.pos, room.truth.clone());
        }
    }

    /// Somebody wants all members of a room, as of some poll in the past.
    pub(crate) async fn complete_members_sometimes(&mut self, feed: &Feed) {
        for number in 0..self.rooms.len() {
            if self.rooms[number].model.is_none() || !self.chance(1, 6) {
                continue;
            }
            let at = self.some_poll_of(number);
            let room = &mut self.rooms[number];
            let Some(truth) = room.history.get(&at) else { continue };
            let members: Vec<_> = truth
                .iter()
                .filter(|(key, _)| is_member(key))
                .map(|(_, event)| event.clone())
                .collect();
            let nid = feed.room_nid(&room.room_id).await;
            feed.store.complete_members(feed.account_id, nid, at, &members).await.unwrap();
            if at >= room.joined_at {
                let model = room.model.as_mut().unwrap();
                for event in &members {
                    model.learns(at, event);
                }
                model.complete |= room.standing == Some(Section::Join);
            }
        }
    }

    /// Mostly one since the last join; sometimes the list is from before.
    fn some_poll_of(&mut self, number: usize) -> Position {
        let from = self.rooms[number].joined_at.0;
        let stale = !self.rooms[number].began_anew && self.chance(1, 4);
        let from = if stale { (from - 5).max(1) } else { from };
        Position(self.between(from, self.pos.0))
    }

    fn chance(&mut self, wins: u64, of: u64) -> bool {
        self.random.between(1, of) <= wins
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.random.between(0, high.abs_diff(low))).unwrap()
    }

    fn pick(&mut self, from: &[Key]) -> Key {
        let place = self.random.between(0, from.len() as u64 - 1);
        from[usize::try_from(place).unwrap()].clone()
    }
}

impl Room {
    /// The model hears what the store was told.
    fn hears(&mut self, pos: Position, story: Told) {
        let Told { section, joins, anew, limited, state_after, block, timeline } = story;
        self.standing = Some(section);
        if joins {
            self.joined_at = pos;
            self.began_anew = anew;
        }
        if joins || limited {
            self.cut = pos;
        }
        match (&mut self.model, joins, state_after) {
            (model, true, false) => *model = Some(Model::joined(pos, &block, &timeline)),
            (model, true, true) => {
                *model = Some(Model::joined_with_state_after(pos, &block, &timeline));
            }
            (Some(model), false, false) => model.told(pos, limited, &block, &timeline),
            (Some(model), false, true) => {
                model.told_with_state_after(pos, limited, &block, &timeline);
            }
            (None, false, _) => unreachable!("the first poll of a room is a join"),
        }
        if let Some(model) = &mut self.model {
            model.complete &= section == Section::Join;
        }
    }
}
