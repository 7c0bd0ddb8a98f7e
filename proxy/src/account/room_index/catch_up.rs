//! Asking the store for what an index is made of, and for what changed since.

use std::collections::HashMap;

use store::{Position, RoomHead, RoomNid, Section, Store};

use super::{Changes, DirectRooms, Facts, RoomIndex};
use crate::{
    account::Account,
    error::Error,
    json::Object,
    views::facts::{self, Avatars, RoomFacts},
};

/// How many rooms' facts are loaded at once: what they are made of is larger than they are.
const AT_ONCE: usize = 500;

/// A new index, without facts.
pub(super) async fn begin(store: &Store, account: &Account) -> Result<RoomIndex, Error> {
    let list = store.room_list(account.account_id).await?;
    let direct = list.direct.map(|(event, pos)| DirectRooms::read(&event, pos));
    Ok(RoomIndex::new(list.as_of, list.rooms, direct.unwrap_or_else(DirectRooms::none)))
}

/// What polls changed since the index.
pub(super) async fn changes(
    store: &Store,
    account: &Account,
    index: &RoomIndex,
) -> Result<Changes, Error> {
    let account_id = account.account_id;
    let list = store.room_list_changes(account_id, index.as_of).await?;
    let listed = list.rooms.iter().filter(|room| room.section != Section::Leave);
    let nids: Vec<RoomNid> = listed.map(|room| room.room_nid).collect();
    let mut known = HashMap::new();
    if index.has_facts && !nids.is_empty() {
        let rooms = store.room_changes(account_id, index.as_of, list.as_of, Some(&nids)).await?;
        let heads: Vec<&RoomHead> = rooms.iter().map(|change| &change.room.head).collect();
        known = facts_of(store, account, &heads, list.as_of).await?;
    }
    Ok(Changes {
        as_of: list.as_of,
        rooms: list.rooms,
        direct: list.direct.map(|(event, pos)| DirectRooms::read(&event, pos)),
        facts: known,
    })
}

/// The facts of every room that is listed.
pub(super) async fn all_facts(
    store: &Store,
    account: &Account,
    at: Position,
) -> Result<HashMap<RoomNid, Facts>, Error> {
    let sections = [Section::Join, Section::Invite, Section::Knock];
    let heads = store.rooms_in(account.account_id, &sections).await?;
    facts_of(store, account, &heads.iter().collect::<Vec<_>>(), at).await
}

async fn facts_of(
    store: &Store,
    account: &Account,
    rooms: &[&RoomHead],
    at: Position,
) -> Result<HashMap<RoomNid, Facts>, Error> {
    let mut found = HashMap::with_capacity(rooms.len());
    for rooms in rooms.chunks(AT_ONCE) {
        let facts = facts::load(store, account, rooms, at, Avatars::LeftOut).await?;
        found.extend(facts.into_iter().map(|(nid, facts)| (nid, Facts::from_view(facts, at))));
    }
    Ok(found)
}

impl Facts {
    fn from_view(facts: RoomFacts, changed: Position) -> Self {
        let tags = facts.tags.as_deref().and_then(Object::read);
        let names = tags.iter().flat_map(Object::members).map(|(tag, _)| tag.into_owned());
        Self {
            name: facts.name,
            room_type: facts.room_type,
            is_encrypted: facts.is_encrypted,
            tags: names.collect(),
            changed,
        }
    }
}
