//! What users wrote while they were ignored.
//!
//! Upstream withholds the events and invites of ignored users from polls, so the store has holes when such a
//! user is no longer ignored. The newest events of every joined room are fetched once more; where some of the
//! user's are missing, the room's timeline begins anew, with them, as after a gap.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::value::RawValue;
use store::{
    Event, Place, Position, RoomHead, RoomNid, RoomUpdate, Section, StateBlock, TimelineQuery,
};

use crate::{
    clock::now_ms,
    event_json::{Unsigned, write_event},
    ignored::{self, Ignored},
    ingest::parse_event,
    json,
    views::EventFields,
};

use super::{Failure, MOST_OVERTAKEN, Poller, short_lists};

/// Events a room: as many as a client can get of it at once.
const TIMELINE_LIMIT: usize = 100;

/// How much of a stored timeline is compared: what came meanwhile stands beside what is fetched.
const COMPARED: usize = 4 * TIMELINE_LIMIT;

/// What upstream had of some rooms at one time.
struct Fetched {
    /// Where the stream stood before upstream was asked.
    asked_at: Position,
    rooms: Vec<RoomUpdate>,
}

impl Poller {
    /// Fetches what is missing of users who are not ignored any more.
    pub(super) async fn settle_unignored(&self) -> Result<(), Failure> {
        let (store, account_id) = (&self.state.store, self.account.account_id);
        let current = self.account.ignored.get(store, account_id).await?;
        let known: BTreeSet<String> =
            store.upkeep(account_id).await?.once_ignored.into_iter().collect();
        let mut once = known.clone();
        once.extend(self.account.upkeep.once_ignored().iter().cloned());
        once.extend(current.users().cloned());
        if once != known {
            self.keep_once_ignored(&once).await?;
        }
        let back: HashSet<String> =
            once.into_iter().filter(|user_id| !current.contains(user_id)).collect();
        if back.is_empty() {
            return Ok(());
        }
        tracing::info!(users = back.len(), "fetching what users wrote while they were ignored");
        let room_ids: Vec<String> =
            self.joined_rooms().await?.into_iter().map(|(_, room_id)| room_id).collect();
        let mut filters: Vec<String> =
            short_lists(&room_ids).into_iter().map(|list| filter(Some(list))).collect();
        if filters.is_empty() {
            // Invites come with any list of rooms but the empty one. Who is in no room may well ask for all.
            filters.push(filter(None));
        }
        for filter in filters {
            let asked_at = self.account.pos();
            let rooms = self.ask_rooms(&filter).await?;
            self.take_missing(&Fetched { asked_at, rooms }, &back).await?;
        }
        self.account.upkeep.once_ignored().retain(|user_id| !back.contains(user_id));
        self.keep_once_ignored(&current_users(&current)).await
    }

    async fn keep_once_ignored(&self, users: &BTreeSet<String>) -> Result<(), Failure> {
        let users: Vec<String> = users.iter().cloned().collect();
        Ok(self.state.store.put_once_ignored(self.account.account_id, &users).await?)
    }

    /// Stores what is missing of `back`'s events and invites.
    async fn take_missing(&self, fetched: &Fetched, back: &HashSet<String>) -> Result<(), Failure> {
        let of_interest = fetched.rooms.iter().any(|room| self.may_lack(room, back));
        if !of_interest {
            return Ok(());
        }
        // After a poll that began later, what is fetched and not stored is what was withheld.
        if !self.account.fresh_main_poll(&self.state, &self.device).await {
            return Err(Failure::Overtaken);
        }
        for _ in 0..MOST_OVERTAKEN {
            let token = self.upstream_token().await?;
            let rooms = self.missing(fetched, back).await?;
            if rooms.is_empty() || self.store_rooms(&token, rooms).await? {
                return Ok(());
            }
        }
        Err(Failure::Overtaken)
    }

    /// Whether any of `back` has a part in a room as it was fetched.
    fn may_lack(&self, room: &RoomUpdate, back: &HashSet<String>) -> bool {
        match room.section {
            Section::Join => room.timeline.iter().any(|event| is_of(event, back)),
            Section::Invite => self.is_invite_of(room, back),
            Section::Knock | Section::Leave => false,
        }
    }

    fn is_invite_of(&self, room: &RoomUpdate, back: &HashSet<String>) -> bool {
        let state = room.stripped_state.as_deref();
        let inviter = state.and_then(|state| ignored::inviter(state, &self.account.user_id));
        inviter.is_some_and(|inviter| back.contains(&inviter))
    }

    /// The rooms that are to be told anew.
    async fn missing(
        &self,
        fetched: &Fetched,
        back: &HashSet<String>,
    ) -> Result<Vec<RoomUpdate>, Failure> {
        let (store, account_id) = (&self.state.store, self.account.account_id);
        let (now, moved) = store.changed_rooms(account_id, fetched.asked_at).await?;
        let moved: HashSet<String> = moved.into_iter().map(|room| room.head.room_id).collect();
        let sections = [Section::Join, Section::Invite, Section::Knock];
        let heads: HashMap<String, RoomHead> = store
            .rooms_in(account_id, &sections)
            .await?
            .into_iter()
            .map(|head| (head.room_id.clone(), head))
            .collect();
        let mut missing = Vec::new();
        let mut compared = Vec::new();
        for room in fetched.rooms.iter().filter(|room| self.may_lack(room, back)) {
            match (room.section, heads.get(&room.room_id)) {
                (Section::Join, Some(head))
                    if head.section == Section::Join && head.segment_pos <= fetched.asked_at =>
                {
                    compared.push((room, head));
                }
                // An invite that is known already was hidden only when it was read.
                (Section::Invite, None) if !moved.contains(&room.room_id) => {
                    missing.push(room.clone());
                }
                _ => {}
            }
        }
        let queries: Vec<TimelineQuery> = compared
            .iter()
            .map(|(_, head)| TimelineQuery {
                room_nid: head.room_nid,
                after: Position(head.segment_pos.0.saturating_sub(1)),
                before: Place::after(now),
            })
            .collect();
        let device = self.device.device_nid;
        let mut stored: HashMap<RoomNid, Vec<store::TimelineEvent>> =
            store.timelines(account_id, device, &queries, COMPARED).await?;
        for (room, head) in compared {
            let mut events = stored.remove(&head.room_nid).unwrap_or_default();
            events.reverse();
            missing.extend(told_anew(room, &events, fetched.asked_at, back));
        }
        Ok(missing)
    }
}

/// The room with a timeline that begins anew, if what is `stored` of it (oldest first) lacks events of `back`.
fn told_anew(
    room: &RoomUpdate,
    stored: &[store::TimelineEvent],
    asked_at: Position,
    back: &HashSet<String>,
) -> Option<RoomUpdate> {
    let known: HashSet<String> =
        stored.iter().map(|event| EventFields::read(&event.body).event_id).collect();
    let lacks = |event: &Event| is_of(event, back) && !known.contains(&event.event_id);
    if !room.timeline.iter().any(lacks) {
        return None;
    }
    let told: HashSet<&str> = room.timeline.iter().map(|event| event.event_id.as_str()).collect();
    // What polls brought after upstream was asked, and what was fetched does not hold, is newer than that.
    let newer: Vec<Event> = stored
        .iter()
        .filter(|event| event.place.pos > asked_at)
        .filter_map(restored)
        .filter(|event| !told.contains(event.event_id.as_str()))
        .collect();
    let state = match &room.state {
        StateBlock::BeforeTimeline(state) => StateBlock::BeforeTimeline(state.clone()),
        StateBlock::AfterTimeline(state) => StateBlock::AfterTimeline(
            state.iter().filter(|event| !is_changed_by(event, &newer)).cloned().collect(),
        ),
    };
    Some(RoomUpdate {
        limited: true,
        prev_batch: room.prev_batch.clone(),
        timeline: room.timeline.iter().cloned().chain(newer).collect(),
        state,
        ..RoomUpdate::empty(room.room_id.clone(), Section::Join)
    })
}

fn is_of(event: &Event, users: &HashSet<String>) -> bool {
    event.state_key.is_none() && users.contains(&EventFields::read(&event.body).sender)
}

fn is_changed_by(event: &Event, newer: &[Event]) -> bool {
    newer.iter().any(|other| {
        other.state_key.is_some()
            && (&other.event_type, &other.state_key) == (&event.event_type, &event.state_key)
    })
}

/// A stored event as a poll would bring it.
fn restored(event: &store::TimelineEvent) -> Option<Event> {
    let now = now_ms();
    let unsigned = Unsigned {
        stored: event.unsigned.as_deref(),
        age: event.age_ts.map(|age_ts| now.saturating_sub(age_ts)),
        transaction_id: event.transaction_id.as_deref(),
        redacted_because: event.redacted_because.as_deref(),
    };
    let mut raw = Vec::with_capacity(event.body.len() + 64);
    write_event(&event.body, unsigned, &mut raw);
    let raw: &RawValue = serde_json::from_slice(&raw).ok()?;
    parse_event(raw, now).ok()
}

fn current_users(current: &Ignored) -> BTreeSet<String> {
    current.users().cloned().collect()
}

/// What is asked for, of these rooms or of all.
fn filter(room_ids: Option<&[String]>) -> String {
    let rooms = room_ids.map(|ids| format!(r#""rooms":{},"#, json::strings(ids)));
    let rooms = rooms.unwrap_or_default();
    format!(
        r#"{{"presence":{{"types":[]}},"account_data":{{"types":[]}},"room":{{{rooms}"ephemeral":{{"types":[]}},"account_data":{{"types":[]}},"state":{{"lazy_load_members":true}},"timeline":{{"limit":{TIMELINE_LIMIT}}}}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, sender: &str) -> Event {
        let raw = format!(r#"{{"type":"t","event_id":"{id}","sender":"{sender}","content":{{}}}}"#);
        parse_event(serde_json::from_str(&raw).expect("json"), 0).expect("an event")
    }

    fn stored(id: &str, pos: i64) -> store::TimelineEvent {
        store::TimelineEvent {
            place: Place { pos: Position(pos), ord: 0 },
            body: event(id, "@b:x").body,
            age_ts: None,
            unsigned: None,
            transaction_id: None,
            redacted_because: None,
        }
    }

    #[track_caller]
    fn check(fetched: &[(&str, &str)], known: &[(&str, i64)], expected: Option<&[&str]>) {
        let room = RoomUpdate {
            timeline: fetched.iter().map(|(id, sender)| event(id, sender)).collect(),
            ..RoomUpdate::empty("!r:x".to_owned(), Section::Join)
        };
        let known: Vec<_> = known.iter().map(|(id, pos)| stored(id, *pos)).collect();
        let back = HashSet::from(["@a:x".to_owned()]);
        let anew = told_anew(&room, &known, Position(5), &back);
        let ids = anew.map(|room| {
            assert!(room.limited);
            room.timeline.into_iter().map(|event| event.event_id).collect::<Vec<_>>()
        });
        assert_eq!(
            ids.as_deref(),
            expected.map(|ids| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>()).as_deref()
        );
    }

    #[test]
    fn a_timeline_begins_anew_only_where_something_is_missing() {
        let (a, b) = ("@a:x", "@b:x");
        check(&[("$1", b), ("$2", b)], &[("$1", 1), ("$2", 2)], None);
        check(&[("$1", a), ("$2", b)], &[("$1", 1), ("$2", 2)], None);
        check(&[("$1", b), ("$2", a)], &[("$1", 1)], Some(&["$1", "$2"]));
        // What came after the question stands after what was fetched, once.
        check(
            &[("$1", b), ("$2", a), ("$3", b)],
            &[("$1", 1), ("$3", 6), ("$4", 7)],
            Some(&["$1", "$2", "$3", "$4"]),
        );
        // What is older than what was fetched is behind the gap.
        check(&[("$2", a)], &[("$1", 1)], Some(&["$2"]));
        // Somebody else's event that is not stored is no reason.
        check(&[("$1", b)], &[], None);
    }
}
