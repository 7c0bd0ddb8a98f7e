//! How a poll's state changes a room's head, and what undoes it: the pure part of storing a poll.
//!
//! It knows neither Postgres nor JSON: it is given the head as far as the poll touches it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::{Event, RoomUpdate, StateBlock};
use crate::BodyId;

/// Type and state key.
pub(super) type StateKey = (String, String);

/// What a state key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeadEntry {
    pub(super) body_id: BodyId,
    pub(super) unsigned: Option<Bytes>,
}

/// A change of the head and what it replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) ord: i32,
    pub(super) key: StateKey,
    pub(super) old: Option<HeadEntry>,
}

/// How the block's state relates to the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The block holds what changed.
    Delta {
        /// The head holds every member: one that is missing there is new, not merely unseen.
        members_complete: bool,
    },
    /// The block holds everything: what the head has beyond it is gone, or (members) unknown.
    Replace,
}

/// What to write.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) set: BTreeMap<StateKey, HeadEntry>,
    /// Never a key that is also in `set`.
    pub(super) remove: BTreeSet<StateKey>,
}

/// Where changes in the gap before a timeline are recorded.
const IN_GAP: i32 = -1;
const MEMBER: &str = "m.room.member";

/// Plans the changes of one room. `head` holds the current entries of every key that `room` mentions
/// (with [`Mode::Replace`]: of every key there is). What is `superseded` is not set again by a block
/// before an unbroken timeline: it is the state of a branch that the head has left.
pub(super) fn plan<E>(
    room: &RoomUpdate,
    mode: Mode,
    head: HashMap<StateKey, HeadEntry>,
    superseded: &HashSet<BodyId>,
    body_id: impl Fn(&Event) -> Result<BodyId, E>,
) -> Result<Plan, E> {
    let mut planner = Planner { mode, limited: room.limited, before: head, plan: Plan::default() };
    let timeline = entries(&room.timeline, &body_id)?;
    match &room.state {
        StateBlock::BeforeTimeline(state) => {
            let block = entries(state, &body_id)?;
            planner.drop_what_is_not_in(&block);
            // Synapse, when it loads members lazily, tells a speaker's membership before a timeline that
            // holds that very event: it happened there, not in the gap.
            let shown: HashSet<BodyId> =
                timeline.iter().map(|(_, _, entry)| entry.body_id).collect();
            for (_, key, entry) in block {
                let left_behind = matches!(mode, Mode::Delta { .. })
                    && !room.limited
                    && superseded.contains(&entry.body_id);
                if !shown.contains(&entry.body_id) && !left_behind {
                    planner.set_in_gap(key, entry);
                }
            }
            for (ord, key, entry) in timeline {
                planner.set(ord, key, entry);
            }
        }
        StateBlock::AfterTimeline(state) => {
            planner.apply_state_after(room, entries(state, &body_id)?, timeline);
        }
    }
    Ok(planner.plan)
}

type Entry = (i32, StateKey, HeadEntry);

/// The state events of a list, each with its place in it.
fn entries<E>(
    events: &[Event],
    body_id: impl Fn(&Event) -> Result<BodyId, E>,
) -> Result<Vec<Entry>, E> {
    let mut entries = Vec::new();
    for (ord, event) in events.iter().enumerate() {
        if let Some(state_key) = &event.state_key {
            let unsigned = event.bare_unsigned.clone();
            let entry = HeadEntry { body_id: body_id(event)?, unsigned };
            let ord = i32::try_from(ord).unwrap_or(i32::MAX);
            entries.push((ord, (event.event_type.clone(), state_key.clone()), entry));
        }
    }
    Ok(entries)
}

struct Planner {
    mode: Mode,
    limited: bool,
    /// The head before this poll.
    before: HashMap<StateKey, HeadEntry>,
    plan: Plan,
}

impl Planner {
    fn current(&self, key: &StateKey) -> Option<&HeadEntry> {
        if self.plan.remove.contains(key) {
            return None;
        }
        self.plan.set.get(key).or_else(|| self.before.get(key))
    }

    fn set(&mut self, ord: i32, key: StateKey, entry: HeadEntry) {
        let old = self.current(&key).cloned();
        if old.as_ref().is_some_and(|old| old.body_id == entry.body_id) {
            return;
        }
        self.plan.changes.push(Change { ord, key: key.clone(), old });
        self.plan.remove.remove(&key);
        self.plan.set.insert(key, entry);
    }

    /// Sets what the block before the timeline says, telling what changed from what was merely learnt.
    fn set_in_gap(&mut self, key: StateKey, entry: HeadEntry) {
        if self.current(&key).is_some() {
            return self.set(IN_GAP, key, entry);
        }
        let learnt = match self.mode {
            // Nobody can ask for the state before the user was there.
            Mode::Replace => true,
            Mode::Delta { members_complete } => {
                key.0 == MEMBER && !members_complete && !self.limited
            }
        };
        if learnt {
            self.plan.set.insert(key, entry);
        } else {
            self.set(IN_GAP, key, entry);
        }
    }

    fn drop_what_is_not_in(&mut self, block: &[Entry]) {
        if self.mode != Mode::Replace {
            return;
        }
        let kept: HashSet<&StateKey> = block.iter().map(|(_, key, _)| key).collect();
        for (key, old) in &self.before {
            if !kept.contains(key) {
                let change = Change { ord: IN_GAP, key: key.clone(), old: Some(old.clone()) };
                self.plan.changes.push(change);
                self.plan.remove.insert(key.clone());
            }
        }
    }

    /// `state_after` tells the end; where each change happened follows from the timeline. A key whose
    /// last event in the timeline is not its value at the end was decided against by state
    /// resolution: the correction is recorded after the timeline.
    fn apply_state_after(&mut self, room: &RoomUpdate, after: Vec<Entry>, timeline: Vec<Entry>) {
        let end = i32::try_from(room.timeline.len()).unwrap_or(i32::MAX);
        let touched: BTreeSet<StateKey> = timeline.iter().map(|(_, key, _)| key.clone()).collect();
        let mut known: Vec<Entry> = after.clone();
        known.extend(timeline.iter().cloned());
        self.drop_what_is_not_in(&known);
        let (corrections, gap): (Vec<Entry>, Vec<Entry>) =
            after.into_iter().partition(|(_, key, _)| touched.contains(key));
        for (_, key, entry) in gap {
            self.set_in_gap(key, entry);
        }
        let unchanged: Vec<(StateKey, Option<HeadEntry>)> = touched
            .into_iter()
            .filter(|key| !corrections.iter().any(|(_, corrected, _)| corrected == key))
            .map(|key| {
                let before = self.current(&key).cloned();
                (key, before)
            })
            .collect();
        for (ord, key, entry) in timeline {
            self.set(ord, key, entry);
        }
        for (_, key, entry) in corrections {
            self.set(end, key, entry);
        }
        // What state_after does not mention ends as it began. Without a value before there is nothing
        // to go back to: the timeline's is then the best there is.
        for (key, before) in unchanged {
            if let Some(before) = before {
                self.set(end, key, before);
            }
        }
    }
}

#[cfg(test)]
mod micro;

#[cfg(test)]
mod tests;
