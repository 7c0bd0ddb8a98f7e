//! Comparing the store with the model.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{
    DeviceNid, Event, Place, Position, RoomNid, StateEvent, StateKeys, StateQuery, StateSelection,
    TimelineQuery,
};

use super::super::model::{Key, Model, State, is_member};
use super::{Room, World};
use crate::polls::Feed;

/// How many pairs of places are compared for each room.
const PAIRS: usize = 40;
/// More than there is of anything.
const ALL: usize = 10_000;

/// What is compared of a state: body and `unsigned` by key.
type Read = BTreeMap<Key, (Bytes, Option<Bytes>)>;

impl World {
    /// Checks that everything read from the store agrees with the models.
    pub(in super::super) async fn agrees(&mut self, feed: &Feed) {
        for number in 0..self.rooms.len() {
            let Some(model) = &self.rooms[number].model else { continue };
            let steps = model.steps.len();
            let mut pairs = Vec::new();
            for _ in 0..PAIRS {
                let mut step =
                    || usize::try_from(self.random.between(0, steps as u64 - 1)).unwrap();
                let (one, other) = (step(), step());
                pairs.push((one.min(other), one.max(other)));
            }
            let room = &self.rooms[number];
            let reader =
                Reader { feed, nid: feed.room_nid(&room.room_id).await, model, now: self.pos };
            reader.head_agrees(room).await;
            reader.timeline_agrees(room).await;
            for (place, state) in &model.steps {
                reader.state_agrees(*place, state).await;
            }
            for (since, at) in pairs {
                reader.delta_agrees(since, at).await;
                reader.member_changes_agree(since, at).await;
            }
        }
    }
}

struct Reader<'a> {
    feed: &'a Feed,
    nid: RoomNid,
    model: &'a Model,
    now: Position,
}

impl Reader<'_> {
    async fn head_agrees(&self, room: &Room) {
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let head = store.room_head(account_id, self.nid).await.unwrap().unwrap();
        assert_eq!(Some(head.section), room.standing);
        assert_eq!(head.segment_pos, room.cut);
        assert_eq!(head.members_complete, self.model.complete);
    }

    async fn timeline_agrees(&self, room: &Room) {
        let query = TimelineQuery {
            room_nid: self.nid,
            after: Position(room.joined_at.0 - 1),
            before: Place::after(self.now),
        };
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let found = store.timelines(account_id, DeviceNid(0), &[query], ALL).await.unwrap();
        let mut read: Vec<(Place, Bytes)> = found
            .get(&self.nid)
            .into_iter()
            .flatten()
            .map(|event| (event.place, event.body.clone()))
            .collect();
        read.reverse();
        let told: Vec<(Place, Bytes)> =
            self.model.timeline.iter().map(|(place, event)| (*place, event.body.clone())).collect();
        assert_eq!(read, told);
    }

    async fn state_agrees(&self, place: Place, state: &State) {
        let query = StateQuery { room_nid: self.nid, at: place, since: None };
        assert_eq!(self.read(query, StateSelection::All).await, told(state), "at {place:?}");
        let mut others = state.clone();
        others.retain(|key, _| !is_member(key));
        let read = self.read(query, StateSelection::WithoutMembers).await;
        assert_eq!(read, told(&others), "at {place:?}");
        self.members_agree(place, state).await;
        self.selection_agrees(place, state).await;
        self.first_members_agree(place, state).await;
        self.values_agree(place, others).await;
    }

    /// Every other key by itself, and the members as a whole type.
    async fn selection_agrees(&self, place: Place, state: &State) {
        let mut wanted = state.clone();
        let mut number = 0;
        wanted.retain(|key, _| {
            number += 1;
            is_member(key) || number % 2 == 0
        });
        let members = StateKeys { event_type: "m.room.member", state_key: None };
        let unknown = StateKeys { event_type: "unknown", state_key: Some("") };
        let single =
            wanted.keys().map(|key| StateKeys { event_type: &key.0, state_key: Some(&key.1) });
        let keys: Vec<StateKeys<'_>> = single.chain([members, unknown]).collect();
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let found = store.selected_states(account_id, &[(self.nid, place)], &keys).await.unwrap();
        assert_eq!(read(found.get(&self.nid).into_iter().flatten()), told(&wanted), "at {place:?}");
    }

    /// `state` is without members.
    async fn values_agree(&self, place: Place, mut state: State) {
        state.retain(|key, _| key.1.is_empty());
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let types = ["m.room.name", "t", "m.room.create", "unknown"];
        let keys = types.map(|event_type| StateKeys { event_type, state_key: Some("") });
        let found = store.selected_states(account_id, &[(self.nid, place)], &keys).await.unwrap();
        let read = read(found.get(&self.nid).into_iter().flatten());
        state.retain(|key, _| types.contains(&key.0.as_str()));
        assert_eq!(read, told(&state), "at {place:?}");
    }

    async fn first_members_agree(&self, place: Place, state: &State) {
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let rooms = [(self.nid, place)];
        let found = store.first_members(account_id, &rooms, "@user-1:x", ALL).await.unwrap();
        let read: BTreeMap<_, _> = found.into_values().flatten().collect();
        let told = state.iter().filter(|(key, event)| {
            is_member(key)
                && key.1 != "@user-1:x"
                && matches!(event.membership.as_deref(), Some("join" | "invite" | "leave" | "ban"))
        });
        let told = told.map(|(key, event)| (key.1.clone(), event.body.clone())).collect();
        assert_eq!(read, told, "at {place:?}");
    }

    async fn members_agree(&self, place: Place, state: &State) {
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        for memberships in [&["join"][..], &["invite", "ban"]] {
            let members = store.members(account_id, self.nid, place, memberships).await.unwrap();
            let read: BTreeMap<_, _> = members
                .into_iter()
                .map(|member| (member.user_id, (member.membership, member.displayname)))
                .collect();
            let told = state.iter().filter_map(|(key, event)| {
                let membership = event.membership.clone()?;
                memberships
                    .contains(&membership.as_str())
                    .then(|| (key.1.clone(), (membership, event.displayname.clone())))
            });
            assert_eq!(read, told.collect(), "{memberships:?} at {place:?}");
        }
        let users = (0..7).map(|n| (self.nid, place, format!("@user-{n}:x")));
        let found = store.members_at(account_id, &users.collect::<Vec<_>>()).await.unwrap();
        let mut members = state.clone();
        members.retain(|key, _| is_member(key) && key.1.starts_with("@user-"));
        assert_eq!(
            read(found.get(&self.nid).into_iter().flatten()),
            told(&members),
            "at {place:?}"
        );
    }

    /// What changed between two steps, as it is at the second.
    async fn delta_agrees(&self, since: usize, at: usize) {
        let [(since, _), (at, state)] = [&self.model.steps[since], &self.model.steps[at]];
        let changed = self.model.changes.iter().filter(|it| (*since..*at).contains(&it.place));
        let expected: State = changed.map(|it| (it.key.clone(), state[&it.key].clone())).collect();
        let query = StateQuery { room_nid: self.nid, at: *at, since: Some(*since) };
        let read = self.read(query, StateSelection::All).await;
        assert_eq!(read, told(&expected), "from {since:?} to {at:?}");
    }

    async fn member_changes_agree(&self, since: usize, at: usize) {
        let after = self.model.steps[since].0;
        let until = self.model.steps[at].0.pos;
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let found = store.member_changes(account_id, self.nid, after, until, ALL).await.unwrap();
        let read: Vec<_> = found
            .into_iter()
            .map(|it| {
                (it.place, it.user_id, it.old_membership, it.membership, it.body, it.unsigned)
            })
            .collect();
        let mut told: Vec<_> = self
            .model
            .changes
            .iter()
            .filter(|it| is_member(&it.key) && it.place > after && it.place.pos <= until)
            .map(|it| {
                let before = self.model.steps[it.step].1.get(&it.key);
                let now: &Event = &self.model.steps[it.step + 1].1[&it.key];
                let old_membership = before.and_then(|event| event.membership.clone());
                let (membership, body) = (now.membership.clone(), now.body.clone());
                (it.place, it.key.1.clone(), old_membership, membership, body, now.unsigned.clone())
            })
            .collect();
        told.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        assert_eq!(read, told, "after {after:?} until {until:?}");
    }

    async fn read(&self, query: StateQuery, selection: StateSelection) -> Read {
        let (store, account_id) = (&self.feed.store, self.feed.account_id);
        let states = store.states(account_id, &[query], selection).await.unwrap();
        read(states.get(&self.nid).into_iter().flatten())
    }
}

fn read<'a>(events: impl Iterator<Item = &'a StateEvent>) -> Read {
    let mut read = Read::new();
    for event in events {
        let key = (event.event_type.clone(), event.state_key.clone());
        let doubled = read.insert(key, (event.body.clone(), event.unsigned.clone()));
        assert!(doubled.is_none(), "{event:?} is there twice");
    }
    read
}

fn told(state: &State) -> Read {
    state
        .iter()
        .map(|(key, event)| (key.clone(), (event.body.clone(), event.unsigned.clone())))
        .collect()
}
