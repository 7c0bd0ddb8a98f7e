//! What happens in a room between two polls, and how the account is told.

use store::{Event, RoomUpdate, Section, StateBlock};

use super::super::model::{Key, Model, State, is_member, key_of, member_key};
use super::World;
use crate::polls::{member, message, redaction, room, state};

/// What the account is told of a room.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that polls tell")]
pub(super) struct Told {
    pub(super) section: Section,
    /// It comes (back) into the room.
    pub(super) joins: bool,
    /// Upstream's stream begins anew: the room comes whole, without a join.
    pub(super) anew: bool,
    pub(super) limited: bool,
    /// The block is the state after the timeline.
    pub(super) state_after: bool,
    pub(super) block: Vec<Event>,
    pub(super) timeline: Vec<Event>,
}

const MEMBERSHIPS: &[&str] = &["join", "join", "join", "leave", "invite", "ban"];

impl World {
    /// The next piece of the story of a room, with what the account is told of it.
    pub(super) fn tell(&mut self, number: usize) -> (RoomUpdate, Told) {
        let joined = self.rooms[number].standing == Some(Section::Join);
        let mut joins_anew = None;
        let told = if !joined || self.chance(1, 15) {
            let (told, join) = self.joins(number);
            joins_anew = Some(join);
            told
        } else {
            let leaves = self.chance(1, 8);
            let mut told = self.goes_on(number, leaves);
            if !leaves
                && self.chance(1, 8)
                && !told.timeline.iter().any(|event| self.is_mine(event))
            {
                // The account's own join is told again.
                let own = self.rooms[number].truth[&member_key(&self.me)].clone();
                joins_anew = Some(own.event_id.clone());
                told.block.retain(|event| !self.is_mine(event));
                told.block.push(own);
            }
            told
        };
        let block = told.block.clone();
        let update = RoomUpdate {
            section: told.section,
            limited: told.limited,
            joins_anew,
            state: if told.state_after {
                StateBlock::AfterTimeline(block)
            } else {
                StateBlock::BeforeTimeline(block)
            },
            timeline: told.timeline.clone(),
            ..room(&self.rooms[number].room_id)
        };
        (update, told)
    }

    /// The account joins, or has left and joined between two polls.
    fn joins(&mut self, number: usize) -> (Told, String) {
        let mut truth = self.rooms[number].truth.clone();
        for _ in 0..self.between(3, 9) {
            let event = self.happens();
            truth.insert(key_of(&event).unwrap(), event);
        }
        let me = self.me.clone();
        let join = self.new_event(|id| member(id, &me, "join"));
        let in_timeline = self.chance(1, 2);
        if !in_timeline {
            truth.insert(member_key(&me), join.clone());
        }
        let start = truth.clone();
        let mut timeline = self.plays(&mut truth);
        if in_timeline {
            truth.insert(member_key(&me), join.clone());
            timeline.push(join.clone());
            timeline.extend(self.plays(&mut truth));
        }
        let state_after = self.chance(1, 2);
        let touched: Vec<Key> = timeline.iter().filter_map(key_of).collect();
        if state_after {
            for key in &touched {
                if self.chance(1, 5) && *key != member_key(&me) {
                    let event = self.new_value(key);
                    truth.insert(key.clone(), event);
                }
            }
        }
        let mut block = Vec::new();
        for (key, event) in if state_after { &truth } else { &start } {
            let own_or_touched = key.1 == me || (state_after && touched.contains(key));
            if !is_member(key) || own_or_touched || self.chance(1, 3) {
                block.push(event.clone());
            }
        }
        let limited = self.chance(1, 2);
        self.rooms[number].truth = truth;
        let told = Told {
            section: Section::Join,
            joins: true,
            anew: false,
            limited,
            state_after,
            block,
            timeline,
        };
        (told, join.event_id)
    }

    /// A poll without a since tells a room whole, members as far as they matter.
    pub(super) fn begins_anew(&mut self, number: usize) -> (RoomUpdate, Told) {
        let mut truth = self.rooms[number].truth.clone();
        for _ in 0..self.between(0, 4) {
            let event = self.happens();
            truth.insert(key_of(&event).unwrap(), event);
        }
        let me = member_key(&self.me);
        let start = truth.clone();
        let timeline = self.plays(&mut truth);
        let mut block = Vec::new();
        for (key, event) in &start {
            if !is_member(key) || *key == me || self.chance(1, 3) {
                block.push(event.clone());
            }
        }
        self.rooms[number].truth = truth;
        let update = RoomUpdate {
            limited: true,
            state: StateBlock::BeforeTimeline(block.clone()),
            timeline: timeline.clone(),
            ..room(&self.rooms[number].room_id)
        };
        let section = Section::Join;
        let told = Told {
            section,
            joins: true,
            anew: true,
            limited: true,
            state_after: false,
            block,
            timeline,
        };
        (update, told)
    }

    /// Somebody redacts an event that was told before, and that no room's state is made of any more. Gives its ID.
    pub(super) fn redacts(
        &mut self,
        rooms: &mut [RoomUpdate],
        told: &mut [(usize, Told)],
    ) -> Option<String> {
        if told.is_empty() || !self.chance(1, 3) {
            return None;
        }
        let (number, story) = told.first_mut()?;
        let room = &self.rooms[*number];
        let model = room.model.as_ref().filter(|_| !story.joins)?;
        let stands = |id: &str| {
            let states = [&room.truth, model.now()];
            let block = story.block.iter().any(|event| event.event_id == id);
            block || states.iter().any(|state| state.values().any(|event| event.event_id == id))
        };
        let past: Vec<String> = model
            .timeline
            .iter()
            .map(|(_, event)| event)
            .filter(|event| event.event_type != "m.room.member" && !Model::is_redacted(event))
            .map(|event| event.event_id.clone())
            .filter(|id| !stands(id))
            .collect();
        let (first, rest) = past.split_first()?;
        let target = rest.last().unwrap_or(first).clone();
        let event = self.new_event(|id| redaction(id, &target));
        story.timeline.push(event.clone());
        rooms[0].timeline.push(event);
        Some(target)
    }

    /// Things happen while the account is in the room; perhaps it leaves at the end.
    fn goes_on(&mut self, number: usize, leaves: bool) -> Told {
        let mut truth = self.rooms[number].truth.clone();
        let limited = self.chance(1, 3);
        let mut in_gap: Vec<Key> = Vec::new();
        if limited {
            for _ in 0..self.between(0, 4) {
                let event = self.happens();
                in_gap.extend(key_of(&event));
                truth.insert(key_of(&event).unwrap(), event);
            }
        }
        let start = truth.clone();
        let mut timeline = self.plays(&mut truth);
        if leaves {
            let me = self.me.clone();
            let leave = self.new_event(|id| member(id, &me, "leave"));
            truth.insert(member_key(&me), leave.clone());
            timeline.push(leave);
        }
        let state_after = self.chance(1, 2);
        let touched: Vec<Key> = timeline.iter().filter_map(key_of).collect();
        let known = self.rooms[number].model.as_ref().unwrap().now().clone();
        if state_after {
            self.resolves(&mut truth, &touched, &known);
        }
        let mut block = Vec::new();
        for (key, event) in if state_after { &truth } else { &start } {
            let told_before = known.get(key);
            let news = told_before.is_none_or(|told| told.body != event.body);
            let must = if state_after && touched.contains(key) {
                // What ends as it began need not be told.
                news
            } else {
                // Homeservers do not load lazily what changed in a gap.
                in_gap.contains(key)
            };
            // Lazy loading tells some members along, known or not. A complete room has none that are unknown.
            let along = is_member(key) && !touched.contains(key) && self.chance(1, 4);
            if must || along {
                block.push(event.clone());
            }
        }
        self.rooms[number].truth = truth;
        let section = if leaves { Section::Leave } else { Section::Join };
        Told { section, joins: false, anew: false, limited, state_after, block, timeline }
    }

    /// State resolution decides against some events of the timeline.
    fn resolves(&mut self, truth: &mut State, touched: &[Key], known: &State) {
        for key in touched {
            if key.1 == self.me || !self.chance(1, 4) {
                continue;
            }
            let value = match known.get(key) {
                Some(before) if self.chance(1, 2) => before.clone(),
                _ => self.new_value(key),
            };
            truth.insert(key.clone(), value);
        }
    }

    /// A timeline of messages and state events.
    fn plays(&mut self, truth: &mut State) -> Vec<Event> {
        let mut timeline = Vec::new();
        for _ in 0..self.between(0, 5) {
            if self.chance(1, 3) {
                timeline.push(self.new_event(message));
            } else {
                let event = self.happens();
                truth.insert(key_of(&event).unwrap(), event.clone());
                timeline.push(event);
            }
        }
        timeline
    }

    /// Some state event of somebody else.
    fn happens(&mut self) -> Event {
        let named =
            |event_type: &str, state_key: &str| (event_type.to_owned(), state_key.to_owned());
        let mut keys = vec![named("m.room.name", ""), named("t", "a"), named("t", "b")];
        keys.extend((0..7).map(|n| member_key(&format!("@user-{n}:x"))));
        let key = self.pick(&keys);
        self.new_value(&key)
    }

    fn new_value(&mut self, key: &Key) -> Event {
        if is_member(key) {
            let choice = self.random.between(0, MEMBERSHIPS.len() as u64 - 1);
            let membership = MEMBERSHIPS[usize::try_from(choice).unwrap()];
            self.new_event(|id| member(id, &key.1, membership))
        } else {
            self.new_event(|id| state(id, &key.0, &key.1))
        }
    }

    fn new_event(&mut self, make: impl FnOnce(&str) -> Event) -> Event {
        self.events += 1;
        let mut event = make(&format!("${}", self.events));
        if self.chance(1, 2) {
            event.unsigned = Some(format!(r#"{{"told":{}}}"#, self.events).into());
            event.bare_unsigned.clone_from(&event.unsigned);
        }
        event
    }

    fn is_mine(&self, event: &Event) -> bool {
        key_of(event) == Some(member_key(&self.me))
    }
}
