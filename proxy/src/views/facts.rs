//! What a list shows of rooms, and filters them by: name, avatar, heroes, type, encryption, tags.
//!
//! Loaded for many rooms at once, by key: what else their state holds is not read. A room that the user is not in has only
//! the stripped state that came with the invite or the knock.

mod read;

use std::collections::HashMap;

use bytes::Bytes;
use store::{Place, Position, RoomHead, RoomNid, Section, Store};

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
        Avatars::Wanted => State::KEYS,
        Avatars::LeftOut => State::KEYS_WITHOUT_AVATAR,
    };
    let place = Place::after(at);
    let in_state: Vec<(RoomNid, Place)> = rooms
        .iter()
        .filter(|head| offered(head).is_none())
        .map(|head| (head.room_nid, place))
        .collect();
    let all: Vec<RoomNid> = rooms.iter().map(|head| head.room_nid).collect();
    let values = async {
        store.selected_states(account.account_id, &in_state, keys).await.map_err(Error::from)
    };
    let (values, mut tags) = tokio::try_join!(values, tags(store, account, &all))?;
    let mut states = HashMap::with_capacity(rooms.len());
    let mut nameless = Vec::new();
    for head in rooms {
        let state = match offered(head) {
            Some(stripped_state) => State::read_stripped(stripped_state, &account.user_id),
            None => {
                let events = values.get(&head.room_nid).into_iter().flatten();
                let state = State::read(events.map(|event| (&*event.event_type, &event.body[..])));
                if state.basis.is_made_of_members() {
                    nameless.push(*head);
                }
                state
            }
        };
        states.insert(head.room_nid, state);
    }
    let mut heroes = heroes_of(store, account, &nameless, place).await?;
    for head in nameless {
        if let Some(state) = states.get_mut(&head.room_nid) {
            state.basis.heroes = heroes.remove(&head.room_nid).unwrap_or_default();
            state.basis.members = members(head);
        }
    }
    let facts = states
        .into_iter()
        .map(|(nid, state)| (nid, RoomFacts { tags: tags.remove(&nid), ..facts_of(state) }));
    Ok(facts.collect())
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

/// The heroes of rooms at a place: those whom the homeserver told, or else those who are known.
async fn heroes_of(
    store: &Store,
    account: &Account,
    rooms: &[&RoomHead],
    place: Place,
) -> Result<HashMap<RoomNid, Vec<Candidate>>, Error> {
    let mut told = HashMap::new();
    let mut untold = Vec::new();
    let mut wanted = Vec::new();
    for head in rooms {
        let users = head.heroes.as_deref().map(|json| read::user_ids(json, &account.user_id));
        match users.filter(|users| !users.is_empty()) {
            Some(users) => {
                wanted.extend(users.iter().map(|user_id| (head.room_nid, place, user_id.clone())));
                told.insert(head.room_nid, users);
            }
            None => untold.push((head.room_nid, place)),
        }
    }
    let members = async {
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        store.members_at(account.account_id, &wanted).await
    };
    let first = async {
        if untold.is_empty() {
            return Ok(HashMap::new());
        }
        store.first_members(account.account_id, &untold, &account.user_id, HEROES).await
    };
    let (members, first) = tokio::try_join!(members, first)?;
    let mut heroes = HashMap::with_capacity(rooms.len());
    for (nid, users) in told {
        let events = members.get(&nid).map_or(&[][..], Vec::as_slice);
        let candidate = |user_id: String| {
            let event = events.iter().find(|event| event.state_key == user_id);
            read::candidate(user_id, event.map(|event| &event.body[..]))
        };
        heroes.insert(nid, users.into_iter().map(candidate).collect());
    }
    for (nid, members) in first {
        let candidates: Vec<Candidate> = members
            .into_iter()
            .map(|(user_id, event)| read::candidate(user_id, Some(&event)))
            .collect();
        heroes.insert(nid, room_name::those_here(candidates));
    }
    Ok(heroes)
}
