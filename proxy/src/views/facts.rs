//! What a list shows of rooms, and filters them by: name, avatar, heroes, type, encryption, tags.
//!
//! Loaded for many rooms at once, by key: what else their state holds is not read. A room that the user is not in has only
//! the stripped state that came with the invite or the knock.

mod read;

use std::collections::HashMap;

use bytes::Bytes;
use store::{Place, Position, RoomHead, RoomNid, Section, StateEvent, StateKeys, Store};

use self::read::State;
use super::room_name::{self, Candidate, HEROES};
use crate::{account::Account, error::Error};

/// What a list shows of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RoomFacts {
    /// Its name by the specification's algorithm, in English.
    pub(crate) name: String,
    /// `content.url` of `m.room.avatar`.
    pub(crate) avatar_url: Option<String>,
    /// Those whom `name` is made of, where the room has neither name nor alias.
    pub(crate) heroes: Vec<Hero>,
    /// Whether it has `m.room.encryption`.
    pub(crate) is_encrypted: bool,
    /// `type` of `m.room.create`.
    pub(crate) room_type: Option<String>,
    /// The object `content.tags` of `m.tag`; `None` without one.
    pub(crate) tags: Option<Bytes>,
}

/// A member that a room's name is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hero {
    /// Who.
    pub(crate) user_id: String,
    /// `content.displayname` of the member event.
    pub(crate) displayname: Option<String>,
    /// `content.avatar_url` of the member event.
    pub(crate) avatar_url: Option<String>,
}

/// Whether avatars are asked for: what rooms are sorted and filtered by has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Avatars {
    /// They are.
    Wanted,
    /// `avatar_url` stays empty, and their events are not read.
    LeftOut,
}

/// What lists show of these rooms as of the poll `at`. What polls replace without a trace (heroes, counts of members,
/// tags) may be newer.
pub(crate) async fn load(
    store: &Store,
    account: &Account,
    rooms: &[&RoomHead],
    at: Position,
    avatars: Avatars,
) -> Result<HashMap<RoomNid, RoomFacts>, Error> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    let keys = match avatars {
        Avatars::Wanted => KEYS,
        Avatars::LeftOut => State::KEYS_WITHOUT_AVATAR,
    };
    let in_state: Vec<(RoomNid, Place)> = rooms
        .iter()
        .filter(|head| offered(head).is_none())
        .map(|head| (head.room_nid, Place::after(at)))
        .collect();
    let all: Vec<RoomNid> = rooms.iter().map(|head| head.room_nid).collect();
    let values = async {
        store.selected_states(account.account_id, &in_state, keys).await.map_err(Error::from)
    };
    let (values, mut tags) = tokio::try_join!(values, tags(store, account, &all))?;
    let draft = Draft::of(account, rooms, at, &values);
    let heroes: Vec<(RoomNid, Place, String)> = draft.heroes().collect();
    let members = async {
        if heroes.is_empty() {
            return Ok(HashMap::new());
        }
        store.members_at(account.account_id, &heroes).await.map_err(Error::from)
    };
    let (members, first) = tokio::try_join!(members, draft.first_members(store, account))?;
    Ok(draft.finish(&members, first, &mut tags))
}

/// The state that facts are read from.
pub(crate) const KEYS: &[StateKeys<'static>] = State::KEYS;

/// Facts in the making: the state of rooms is read, and who their names are made of is known. How those are called
/// is not.
pub(crate) struct Draft {
    place: Place,
    states: HashMap<RoomNid, State>,
    /// Rooms with heroes whom the homeserver told.
    told: Vec<(RoomNid, Vec<String>)>,
    /// Rooms whose heroes are those who are known.
    untold: Vec<(RoomNid, Place)>,
}

impl Draft {
    /// Reads the state of rooms as of the poll `at`: of those that the user is in, these events, which may be more than
    /// facts are made of.
    pub(crate) fn of(
        account: &Account,
        rooms: &[&RoomHead],
        at: Position,
        events: &HashMap<RoomNid, Vec<StateEvent>>,
    ) -> Self {
        let place = Place::after(at);
        let states = HashMap::with_capacity(rooms.len());
        let mut draft = Self { place, states, told: Vec::new(), untold: Vec::new() };
        for head in rooms {
            let nid = head.room_nid;
            let state = match offered(head) {
                Some(stripped_state) => State::read_stripped(stripped_state, &account.user_id),
                None => {
                    let events = events.get(&nid).into_iter().flatten();
                    let events = events.filter(|event| event.state_key.is_empty());
                    let mut state =
                        State::read(events.map(|event| (&*event.event_type, &event.body[..])));
                    if state.basis.is_made_of_members() {
                        state.basis.members = members(head);
                        draft.made_of_members(head, &account.user_id);
                    }
                    state
                }
            };
            draft.states.insert(nid, state);
        }
        draft
    }

    fn made_of_members(&mut self, head: &RoomHead, own_user_id: &str) {
        let users = head.heroes.as_deref().map(|json| read::user_ids(json, own_user_id));
        match users.filter(|users| !users.is_empty()) {
            Some(users) => self.told.push((head.room_nid, users)),
            None => self.untold.push((head.room_nid, self.place)),
        }
    }

    /// The members whose events say how they are called.
    pub(crate) fn heroes(&self) -> impl Iterator<Item = (RoomNid, Place, String)> {
        self.told.iter().flat_map(|(nid, users)| {
            users.iter().map(|user_id| (*nid, self.place, user_id.clone()))
        })
    }

    /// Those who are known, of rooms of which the homeserver told no heroes: users and their events.
    pub(crate) async fn first_members(
        &self,
        store: &Store,
        account: &Account,
    ) -> Result<HashMap<RoomNid, Vec<(String, Bytes)>>, Error> {
        if self.untold.is_empty() {
            return Ok(HashMap::new());
        }
        let (account_id, user_id) = (account.account_id, &account.user_id);
        Ok(store.first_members(account_id, &self.untold, user_id, HEROES).await?)
    }

    /// The facts, with the events of [`Draft::heroes`], which may be among others, and [`Draft::first_members`]. Takes the
    /// rooms' tags out of `tags`.
    pub(crate) fn finish(
        self,
        members: &HashMap<RoomNid, Vec<StateEvent>>,
        first: HashMap<RoomNid, Vec<(String, Bytes)>>,
        tags: &mut HashMap<RoomNid, Bytes>,
    ) -> HashMap<RoomNid, RoomFacts> {
        let mut states = self.states;
        for (nid, users) in self.told {
            let events = members.get(&nid).map_or(&[][..], Vec::as_slice);
            let candidate = |user_id: String| {
                let event = events.iter().find(|event| event.state_key == user_id);
                read::candidate(user_id, event.map(|event| &event.body[..]))
            };
            if let Some(state) = states.get_mut(&nid) {
                state.basis.heroes = users.into_iter().map(candidate).collect();
            }
        }
        for (nid, members) in first {
            let candidates: Vec<Candidate> = members
                .into_iter()
                .map(|(user_id, event)| read::candidate(user_id, Some(&event)))
                .collect();
            if let Some(state) = states.get_mut(&nid) {
                state.basis.heroes = room_name::those_here(candidates);
            }
        }
        let facts = states
            .into_iter()
            .map(|(nid, state)| (nid, RoomFacts { tags: tags.remove(&nid), ..facts_of(state) }));
        facts.collect()
    }
}

/// The tags of these rooms: the object `content.tags` of `m.tag`, of those that have one. As they are now.
pub(crate) async fn tags(
    store: &Store,
    account: &Account,
    rooms: &[RoomNid],
) -> Result<HashMap<RoomNid, Bytes>, Error> {
    if rooms.is_empty() {
        return Ok(HashMap::new());
    }
    let events = store.room_account_data_of(account.account_id, rooms, "m.tag").await?;
    Ok(events.iter().filter_map(|(nid, event)| Some((*nid, read::tags(event)?))).collect())
}

/// The stripped state of a room that the user has not joined.
fn offered(head: &RoomHead) -> Option<&[u8]> {
    let is_offered = matches!(head.section, Section::Invite | Section::Knock);
    head.stripped_state.as_deref().filter(|_| is_offered)
}

/// How many members are joined or invited, as far as that was told.
fn members(head: &RoomHead) -> Option<i64> {
    Some(head.joined_member_count?.saturating_add(head.invited_member_count.unwrap_or(0)))
}

fn facts_of(state: State) -> RoomFacts {
    let State { basis, avatar_url, is_encrypted, room_type } = state;
    let (name, heroes) = basis.into_name();
    RoomFacts { name, avatar_url, heroes, is_encrypted, room_type, tags: None }
}
