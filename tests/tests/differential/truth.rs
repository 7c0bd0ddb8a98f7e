//! The true order of the events that the user may see, and whether a device was told them truthfully.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::filters::Filter;
use crate::model::{Heard, text};

/// Each room's events, oldest first, as an observer heard them who misses nothing.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    rooms: BTreeMap<String, Vec<Known>>,
    /// Users who were ignored for a while: whether a device hears what they say depends on when it asks.
    ignored: BTreeSet<String>,
}

#[derive(Debug)]
struct Known {
    event_id: String,
    event_type: String,
    sender: String,
}

impl Truth {
    /// Takes in what the observer heard. A room that is joined again begins anew with events that may be known
    /// already, and with some from the time between: those go where they belong.
    pub(crate) fn learn(&mut self, heard: &Heard) {
        let known = self.rooms.entry(heard.room_id.clone()).or_default();
        let place_of = |known: &[Known], event: &Value| {
            known.iter().position(|known| event["event_id"] == known.event_id)
        };
        let first_known = heard.events.iter().find_map(|event| place_of(known, event));
        let mut place = first_known.unwrap_or(known.len());
        for event in &heard.events {
            match place_of(known, event) {
                Some(at) => place = at + 1,
                None => {
                    let [event_id, event_type, sender] =
                        ["event_id", "type", "sender"].map(|key| text(&event[key]));
                    known.insert(place, Known { event_id, event_type, sender });
                    place += 1;
                }
            }
        }
    }

    /// Somebody is ignored from now on.
    pub(crate) fn ignore(&mut self, user_id: &str) {
        self.ignored.insert(user_id.to_owned());
    }

    /// Whom the user ever ignored.
    pub(crate) const fn ignored(&self) -> &BTreeSet<String> {
        &self.ignored
    }

    /// A room's events as a filter shows them, but for those of users who were ever ignored.
    pub(crate) fn shown(&self, room_id: &str, filter: &Filter) -> Vec<&str> {
        let events = self.rooms.get(room_id).into_iter().flatten();
        events
            .filter(|known| filter.admits_in_timeline(&known.event_type))
            .filter(|known| !self.ignored.contains(&known.sender))
            .map(|known| known.event_id.as_str())
            .collect()
    }

    /// What is untrue in what a device heard. `stayed` says whether the user never left the room in between.
    pub(crate) fn lies(&self, heard: &Heard, filter: &Filter, stayed: bool) -> Vec<String> {
        let shown = self.shown(&heard.room_id, filter);
        let place = |event_id: &str| shown.iter().position(|known| *known == event_id);
        let mut lies = Vec::new();
        let mut places = Vec::new();
        let audible = |event: &&Value| !self.ignored.contains(&text(&event["sender"]));
        for event in heard.events.iter().filter(audible) {
            match place(&text(&event["event_id"])) {
                Some(at) => places.push(at),
                None => lies.push(format!(
                    "told of {} {}, which is not in the room's timeline",
                    event["type"], event["event_id"]
                )),
            }
        }
        if places.windows(2).any(|pair| pair[1] != pair[0] + 1) {
            lies.push(format!("a timeline has holes or is out of order: {places:?}"));
        }
        let (Some(first), true) = (places.first().copied(), lies.is_empty()) else { return lies };
        let before = heard.newest_before.as_deref().and_then(place);
        let expected = match before {
            Some(before) if heard.was_joined => Some(before + 1),
            None if heard.was_joined && heard.newest_before.is_none() => Some(0),
            _ => None,
        };
        match expected {
            Some(expected) if !heard.limited && first != expected => lies
                .push(format!("not limited, and yet it goes on at {first} instead of {expected}")),
            Some(expected)
                if heard.limited && stayed && filter.whole_timelines() && first <= expected =>
            {
                lies.push(format!(
                    "limited, and yet it goes on at {first} after {expected} was due"
                ));
            }
            _ => {}
        }
        lies
    }
}
