//! Whether two devices know the same, where they must.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde_json::json;

use crate::filters::Filter;
use crate::model::{Model, ReceiptKey, Room, StateKey};

/// What need not agree, and why.
#[derive(Debug)]
pub(crate) struct Leeway<'a> {
    pub(crate) filter: &'a Filter,
    /// What is true. Where Synapse forgot to tell its client of something, the proxy's client may know better.
    pub(crate) observer: &'a Model,
    /// Rooms that the user left and came back to. With lazy loading a client keeps members from before, and nobody
    /// tells it that they changed.
    pub(crate) rejoined: &'a BTreeSet<String>,
    /// Receipts from a time when the user was not in the room.
    pub(crate) unseen_receipts: &'a BTreeSet<(String, ReceiptKey)>,
}

/// The differences between what `one`, who listens to Synapse, and `other`, who listens to the proxy, know.
pub(crate) fn differences(one: &Model, other: &Model, leeway: &Leeway<'_>) -> Vec<String> {
    let mut found = Vec::new();
    differ(&mut found, "global account data", &one.account_data, &other.account_data);
    differ(&mut found, "to-device messages", &one.to_device, &other.to_device);
    differ(&mut found, "one-time keys", &one.key_counts, &other.key_counts);
    differ(&mut found, "fallback keys", &one.fallback_keys, &other.fallback_keys);
    for (room_id, room) in &one.rooms {
        if let Some(counterpart) = other.rooms.get(room_id)
            && room.section == counterpart.section
            && leeway.filter.admits_room(room_id)
        {
            let differences = in_room(room_id, room, counterpart, leeway);
            found.extend(
                differences.into_iter().map(|what| format!("{} {room_id}: {what}", room.section)),
            );
        }
    }
    found
}

/// Users whose devices changed as the observer was told, and the proxy's client was not. Too many are only work for a client,
/// and Synapse tells too many itself: everyone whose membership a reply repeats, as with `full_state`, redundant members
/// and the user's own. That is why the observer, who asks for nothing of the kind, is the measure.
pub(crate) fn unheard_device_lists(observer: &Model, proxied: &Model, me: &str) -> Vec<String> {
    let changed = |model: &Model, user: &str| model.device_lists.get(user) == Some(&true);
    let users = observer.device_lists.keys().filter(|user| user.as_str() != me);
    users
        .filter(|user| changed(observer, user) && !changed(proxied, user))
        .map(|user| format!("proxy: never told that the devices of {user} changed"))
        .collect()
}

/// Where the proxy's client believes rooms to be, compared with what the observer knows. Synapse's own client need not be
/// right: when a filter hides the event by which the user left, Synapse never tells that the room is left, and asked for
/// full state it tells of joined rooms that the filter leaves out.
pub(crate) fn misplaced(observer: &Model, proxied: &Model, filter: &Filter) -> Vec<String> {
    let mut found = Vec::new();
    for section in ["join", "invite", "knock"] {
        let admitted = |model: &Model| admitted(model, section, filter);
        differ(&mut found, section, &admitted(observer), &admitted(proxied));
    }
    for room_id in proxied.in_section("join") {
        if !filter.admits_room(room_id) {
            found.push(format!("told of {room_id}, which the filter leaves out"));
        }
    }
    found
}

/// The rooms in a section, as far as the filter admits them.
fn admitted(model: &Model, section: &str, filter: &Filter) -> BTreeSet<String> {
    let rooms = model.in_section(section).into_iter();
    rooms.filter(|room_id| filter.admits_room(room_id)).map(str::to_owned).collect()
}

/// The differences between two fresh looks, which besides list the same rooms.
pub(crate) fn fresh_differences(one: &Model, other: &Model, leeway: &Leeway<'_>) -> Vec<String> {
    let mut found = differences(one, other, leeway);
    // In an initial sync, Synapse tells of bans from rooms that the filter leaves out.
    for section in ["invite", "knock", "leave"] {
        let admitted = |model: &Model| admitted(model, section, leeway.filter);
        differ(&mut found, section, &admitted(one), &admitted(other));
    }
    found
}

fn in_room(room_id: &str, one: &Room, other: &Room, leeway: &Leeway<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let unknown = Room::default();
    let truth = leeway.observer.rooms.get(room_id).unwrap_or(&unknown);
    // How much Synapse tells of a room that the user left without having been in it depends on when it is asked.
    if one.section == "leave" && !truth.joined_once {
        return found;
    }
    let rejoined = leeway.rejoined.contains(room_id);
    // With lazy loading Synapse keeps quiet about moves that a filter hides from the timeline; we tell of them.
    let untold_moves = leeway.filter.lazy() && !leeway.filter.admits_in_timeline("m.room.member");
    let state = |room: &Room, counterpart: &Room| -> BTreeMap<StateKey, String> {
        let told = room.state.iter().filter(|(key, _event)| {
            let known = counterpart.state.contains_key(*key);
            let loaded = key.0 != "m.room.member"
                || !leeway.filter.lazy()
                || (known && !rejoined && !untold_moves);
            leeway.filter.admits_as_state(&key.0) && loaded
        });
        told.map(|(key, event)| (key.clone(), event.to_string())).collect()
    };
    let true_state =
        truth.state.iter().map(|(key, event)| (key.clone(), event.to_string())).collect();
    differ_by_key(&mut found, "state", &state(one, other), &state(other, one), &true_state);
    let stripped = |room: &Room| -> BTreeMap<StateKey, String> {
        room.stripped.iter().map(|(key, event)| (key.clone(), event.to_string())).collect()
    };
    differ_by_key(&mut found, "stripped state", &stripped(one), &stripped(other), &stripped(truth));
    if one.section != "join" {
        return found;
    }
    differ(&mut found, "the newest event", &one.newest, &other.newest);
    differ_by_key(&mut found, "account data", &kept(one), &kept(other), &kept(truth));
    let receipts = |room: &Room| -> BTreeMap<ReceiptKey, String> {
        let mut receipts = room.receipts.clone();
        receipts
            .retain(|key, _| !leeway.unseen_receipts.contains(&(room_id.to_owned(), key.clone())));
        receipts
    };
    differ_by_key(&mut found, "receipts", &receipts(one), &receipts(other), &receipts(truth));
    if !rejoined {
        differ(&mut found, "typing", &one.typing, &other.typing);
    }
    // The last room account data brings the last counts along.
    if !leeway.filter.names_rooms() {
        differ(&mut found, "unread counts", &one.unread, &other.unread);
        differ(&mut found, "unread counts of threads", &one.threads, &other.threads);
    }
    for (name, value) in &one.summary {
        if let Some(counterpart) = other.summary.get(name)
            && !untold_moves
        {
            differ(&mut found, name, value, counterpart);
        }
    }
    found
}

/// Room account data. Tags that were all taken away are as good as none.
fn kept(room: &Room) -> BTreeMap<String, String> {
    let kept = room.account_data.iter();
    let kept =
        kept.filter(|(event_type, content)| *event_type != "m.tag" || content["tags"] != json!({}));
    kept.map(|(event_type, content)| (event_type.clone(), content.to_string())).collect()
}

fn differ<T: PartialEq + Debug>(found: &mut Vec<String>, what: &str, one: &T, other: &T) {
    if one != other {
        found.push(format!("{what}: {one:?} but {other:?}"));
    }
}

fn differ_by_key<K: Ord + Clone + Debug>(
    found: &mut Vec<String>,
    what: &str,
    one: &BTreeMap<K, String>,
    other: &BTreeMap<K, String>,
    truth: &BTreeMap<K, String>,
) {
    let keys: BTreeSet<&K> = one.keys().chain(other.keys()).collect();
    for key in keys {
        let (mine, theirs) = (one.get(key), other.get(key));
        let knows_better = theirs.is_some() && theirs == truth.get(key);
        if mine != theirs && !knows_better {
            found.push(format!("{what} {key:?}: {mine:?} but {theirs:?}"));
        }
    }
}
