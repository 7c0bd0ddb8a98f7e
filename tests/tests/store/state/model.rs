//! The naive model of what an account knows of a room: the full state after every step, since the last join.

use std::collections::BTreeMap;

use store::{Event, Place, Position};

use crate::redactions::REDACTION_RULES;

/// Type and state key.
pub(super) type Key = (String, String);

/// A full state.
pub(super) type State = BTreeMap<Key, Event>;

/// What was told of a room since the last join.
#[derive(Debug)]
pub(super) struct Model {
    /// The state at each place, oldest first. A place is before the event that stands there.
    pub(super) steps: Vec<(Place, State)>,
    pub(super) changes: Vec<Change>,
    pub(super) timeline: Vec<(Place, Event)>,
    /// Every member is known.
    pub(super) complete: bool,
}

/// That a key was set, at a place.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) place: Place,
    pub(super) key: Key,
    /// Which of the steps is the state before; the next one is the state after.
    pub(super) step: usize,
}

/// The key of a state event.
pub(super) fn key_of(event: &Event) -> Option<Key> {
    Some((event.event_type.clone(), event.state_key.clone()?))
}

/// The key of a user's membership.
pub(super) fn member_key(user_id: &str) -> Key {
    ("m.room.member".to_owned(), user_id.to_owned())
}

pub(super) fn is_member(key: &Key) -> bool {
    key.0 == "m.room.member"
}

impl Model {
    /// The account joins: nothing that it knew before counts.
    pub(super) fn joined(pos: Position, state: &[Event], timeline: &[Event]) -> Self {
        let mut model = Self {
            steps: vec![(Place { pos, ord: 0 }, by_key(state))],
            changes: Vec::new(),
            timeline: Vec::new(),
            complete: false,
        };
        model.plays(pos, timeline);
        model.ends(pos, &State::new());
        model
    }

    /// The account joins, and is told the state after the timeline: what it was before is not known.
    pub(super) fn joined_with_state_after(
        pos: Position,
        after: &[Event],
        timeline: &[Event],
    ) -> Self {
        let mut model = Self::joined(pos, &[], timeline);
        let mut now = model.now().clone();
        now.extend(by_key(after));
        model.steps = vec![(Place::after(pos), now)];
        model.changes.clear();
        model
    }

    /// A poll with the state before its timeline.
    pub(super) fn told(
        &mut self,
        pos: Position,
        limited: bool,
        state: &[Event],
        timeline: &[Event],
    ) {
        self.gap(pos, limited, state.iter());
        self.plays(pos, timeline);
        self.ends(pos, &State::new());
    }

    /// A poll with the state after its timeline: for keys that the timeline touches it is the truth about the end, also
    /// where it does not mention them.
    pub(super) fn told_with_state_after(
        &mut self,
        pos: Position,
        limited: bool,
        after: &[Event],
        timeline: &[Event],
    ) {
        let touched: Vec<Key> = timeline.iter().filter_map(key_of).collect();
        let is_touched = |event: &&Event| key_of(event).is_some_and(|key| touched.contains(&key));
        self.gap(pos, limited, after.iter().filter(|event| !is_touched(event)));
        let began = self.now().clone();
        self.plays(pos, timeline);
        let mut end: State = began.into_iter().filter(|(key, _)| touched.contains(key)).collect();
        end.extend(
            after.iter().filter(is_touched).map(|event| (key_of(event).unwrap(), event.clone())),
        );
        self.ends(pos, &end);
    }

    /// A member event that holds at the end of the poll `at` and was not known: it held before as well.
    pub(super) fn learns(&mut self, at: Position, event: &Event) {
        let key = key_of(event).unwrap();
        let known_from = self.steps.iter().position(|(_, state)| state.contains_key(&key));
        if known_from.is_some_and(|step| self.steps[step].0 <= Place::after(at)) {
            return;
        }
        let unknown_until = known_from.unwrap_or(self.steps.len());
        for (_, state) in &mut self.steps[..unknown_until] {
            state.insert(key.clone(), event.clone());
        }
    }

    /// An event was redacted: it says no more, and said no more in the past.
    pub(super) fn redact(&mut self, event_id: &str) {
        let states = self.steps.iter_mut().flat_map(|(_, state)| state.values_mut());
        let events = self.timeline.iter_mut().map(|(_, event)| event);
        for event in states.chain(events).filter(|event| event.event_id == event_id) {
            if let Some(pruned) = (REDACTION_RULES.prune)(None, &event.body) {
                event.body = pruned;
            }
        }
    }

    /// Whether an event says no more.
    pub(super) fn is_redacted(event: &Event) -> bool {
        (REDACTION_RULES.prune)(None, &event.body).is_none()
    }

    /// The state after the last step.
    pub(super) fn now(&self) -> &State {
        &self.steps.last().unwrap().1
    }

    fn gap<'a>(&mut self, pos: Position, limited: bool, told: impl Iterator<Item = &'a Event>) {
        self.steps.push((Place { pos, ord: -1 }, self.now().clone()));
        let mut next = self.now().clone();
        for event in told {
            let key = key_of(event).unwrap();
            // Lazy loading shows members that were there all along.
            if !next.contains_key(&key) && is_member(&key) && !limited && !self.complete {
                self.learns(pos, event);
                next.insert(key, event.clone());
            } else {
                self.set(&mut next, Place { pos, ord: -1 }, event);
            }
        }
        self.steps.push((Place { pos, ord: 0 }, next));
    }

    fn plays(&mut self, pos: Position, timeline: &[Event]) {
        for (event, ord) in timeline.iter().zip(0..) {
            let mut next = self.now().clone();
            if event.state_key.is_some() {
                self.set(&mut next, Place { pos, ord }, event);
            }
            self.timeline.push((Place { pos, ord }, event.clone()));
            self.steps.push((Place { pos, ord: ord + 1 }, next));
        }
    }

    fn ends(&mut self, pos: Position, corrections: &State) {
        let place = self.steps.last().unwrap().0;
        let mut next = self.now().clone();
        for event in corrections.values() {
            self.set(&mut next, place, event);
        }
        self.steps.push((Place::after(pos), next));
    }

    fn set(&mut self, state: &mut State, place: Place, event: &Event) {
        let key = key_of(event).unwrap();
        let old = state.insert(key.clone(), event.clone());
        if old.is_none_or(|old| old.body != event.body) {
            self.changes.push(Change { place, key, step: self.steps.len() - 1 });
        }
    }
}

fn by_key(events: &[Event]) -> State {
    events.iter().filter_map(|event| Some((key_of(event)?, event.clone()))).collect()
}
