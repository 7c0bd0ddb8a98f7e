//! The rooms of an account in order: what lists of rooms are sorted and filtered by, kept current as polls arrive.
//!
//! It is made from the store when a client first asks for a list, and brought up to date with what polls changed since;
//! each request looks at one moment of it. Losing it loses nothing. It must not know how a list is told.

mod catch_up;
mod direct;
mod name_key;
mod order;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use store::{ListedRoom, Position, RoomNid, Section};
use tokio::{sync::Mutex, time::Instant};

use self::{direct::DirectRooms, name_key::NameKey, order::Order};
use super::Account;
use crate::{error::Error, metrics::labels::Cache, state::State, unread::Unread};

/// How long an index is kept that no client looks at.
const KEEP: Duration = Duration::from_mins(10);

/// How many orders are kept current at once.
const ORDERS: usize = 8;

/// What an order goes by. Orders are applied in turn as tie-breaks; the last tie-break is the room ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SortBy {
    /// The room that stirred last first.
    Recency,
    /// By name, as the Unicode Collation Algorithm has it, without regard to case.
    Name,
    /// The most notifications first, threads included.
    NotificationCount,
    /// The most highlights first, threads included.
    HighlightCount,
}

/// What of the index a request needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexNeeds {
    /// [`Facts`] as well. An order by name needs them in any case.
    pub(crate) facts: bool,
    /// The order that it reads rooms in, if it does.
    pub(crate) order: Option<Vec<SortBy>>,
}

impl IndexNeeds {
    fn facts(&self) -> bool {
        self.facts || self.order.as_ref().is_some_and(|order| order.contains(&SortBy::Name))
    }
}

/// A room as lists sort and filter it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IndexedRoom {
    /// Its number.
    pub(crate) room_nid: RoomNid,
    /// Its Matrix ID.
    pub(crate) room_id: Arc<str>,
    /// Where it is listed.
    pub(crate) section: Section,
    /// When it last stirred, in milliseconds.
    pub(crate) recency: i64,
    /// How much is unread, threads included.
    pub(crate) unread: Unread,
    /// Whether `m.direct` names it.
    pub(crate) is_dm: bool,
    /// When that last changed. Where it is not known, no earlier than it can have been.
    pub(crate) dm_changed: Position,
    /// What costs more to know. There if it was asked for.
    pub(crate) facts: Option<Facts>,
}

/// What of a room its state and its account data say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Its name by the specification's algorithm.
    pub(crate) name: String,
    /// `type` of `m.room.create`.
    pub(crate) room_type: Option<String>,
    /// Whether it has `m.room.encryption`.
    pub(crate) is_encrypted: bool,
    /// Its tags.
    pub(crate) tags: BTreeSet<String>,
    /// When any of this last changed. Where it is not known, no earlier than it can have been.
    pub(crate) changed: Position,
}

/// The rooms of an account as of one poll.
#[derive(Clone, Debug)]
pub(crate) struct RoomIndex {
    /// The poll.
    pub(crate) as_of: Position,
    rooms: HashMap<RoomNid, Arc<Entry>>,
    orders: Vec<Order>,
    direct: Arc<DirectRooms>,
    /// Whether every room has its facts.
    has_facts: bool,
}

/// A room as the index holds it.
#[derive(Debug)]
struct Entry {
    room: IndexedRoom,
    /// What its name is sorted by, worked out once.
    name_key: NameKey,
}

impl Entry {
    fn new(room: IndexedRoom) -> Self {
        let name = room.facts.as_ref().map_or("", |facts| facts.name.as_str());
        Self { name_key: NameKey::of(name), room }
    }
}

/// What polls changed.
#[derive(Debug)]
struct Changes {
    /// The poll up to which this goes.
    as_of: Position,
    /// Rooms as they are now, left ones among them.
    rooms: Vec<ListedRoom>,
    /// The rooms that are direct, if that changed.
    direct: Option<DirectRooms>,
    /// What is now known of rooms, dated as of then.
    facts: HashMap<RoomNid, Facts>,
}

impl RoomIndex {
    fn new(as_of: Position, rooms: Vec<ListedRoom>, direct: DirectRooms) -> Self {
        let mut index = Self {
            as_of,
            rooms: HashMap::with_capacity(rooms.len()),
            orders: Vec::new(),
            direct: Arc::new(direct),
            has_facts: false,
        };
        index.apply(Changes { as_of, rooms, direct: None, facts: HashMap::new() });
        index
    }

    /// A room that the account has to do with.
    pub(crate) fn get(&self, room_nid: RoomNid) -> Option<&IndexedRoom> {
        self.rooms.get(&room_nid).map(|entry| &entry.room)
    }

    /// The rooms of a section in an order that was asked for when the index was viewed.
    pub(crate) fn in_order(
        &self,
        section: Section,
        order: &[SortBy],
    ) -> impl Iterator<Item = &IndexedRoom> {
        let order = self.orders.iter().find(|known| known.by() == order);
        let entries = order.map_or(&[][..], |order| order.section(section));
        entries.iter().map(|entry| &entry.room)
    }

    /// Whether an order by name has two rooms as equal.
    pub(crate) fn are_called_alike(&self, one: RoomNid, other: RoomNid) -> bool {
        let key = |room_nid| self.rooms.get(&room_nid).map(|entry| &entry.name_key);
        key(one) == key(other)
    }

    /// The rooms whose `is_dm` changed after a poll, as far as is known.
    pub(crate) fn dm_changed_after(&self, since: Position) -> impl Iterator<Item = &IndexedRoom> {
        let rooms = (self.direct.pos > since).then(|| self.rooms.values());
        let rooms = rooms.into_iter().flatten().map(|entry| &entry.room);
        rooms.filter(move |room| room.dm_changed > since)
    }

    /// Takes in what polls changed.
    fn apply(&mut self, mut changes: Changes) {
        self.as_of = changes.as_of;
        for listed in std::mem::take(&mut changes.rooms) {
            let facts = changes.facts.remove(&listed.room_nid);
            self.apply_room(listed, facts);
        }
        if let Some(direct) = changes.direct {
            self.apply_direct(direct);
        }
    }

    fn apply_room(&mut self, listed: ListedRoom, facts: Option<Facts>) {
        let nid = listed.room_nid;
        if listed.section == Section::Leave {
            self.replace(nid, None);
            return;
        }
        let known = self.get(nid);
        let known_facts = known.and_then(|known| known.facts.clone());
        let room = IndexedRoom {
            is_dm: self.direct.contains(&listed.room_id),
            dm_changed: known.map_or(self.direct.pos, |known| known.dm_changed),
            facts: match facts {
                Some(facts) => Some(dated(facts, known_facts)),
                None => known_facts,
            },
            room_id: known
                .map_or_else(|| Arc::from(listed.room_id), |known| Arc::clone(&known.room_id)),
            room_nid: nid,
            section: listed.section,
            recency: listed.recency,
            unread: Unread::total(
                listed.notification_count,
                listed.highlight_count,
                listed.thread_counts.as_deref(),
            ),
        };
        self.replace(nid, Some(Entry::new(room)));
    }

    /// Takes in the facts of all rooms, which had none before.
    fn add_facts(&mut self, facts: HashMap<RoomNid, Facts>) {
        for (nid, facts) in facts {
            if let Some(known) = self.rooms.get(&nid) {
                let room = IndexedRoom { facts: Some(facts), ..known.room.clone() };
                self.replace(nid, Some(Entry::new(room)));
            }
        }
        self.has_facts = true;
    }

    fn apply_direct(&mut self, direct: DirectRooms) {
        let other = self.rooms.values().filter(|entry| {
            let room = &entry.room;
            direct.contains(&room.room_id) != room.is_dm
        });
        let changed = other.map(|entry| {
            let is_dm = !entry.room.is_dm;
            let room = IndexedRoom { is_dm, dm_changed: direct.pos, ..entry.room.clone() };
            (room.room_nid, Entry::new(room))
        });
        for (nid, entry) in changed.collect::<Vec<_>>() {
            self.replace(nid, Some(entry));
        }
        self.direct = Arc::new(direct);
    }

    /// Puts a room in the place of what was known of it, everywhere; `None` takes it away.
    fn replace(&mut self, nid: RoomNid, entry: Option<Entry>) {
        let entry = entry.map(Arc::new);
        let known = self.rooms.get(&nid);
        for order in &mut self.orders {
            if let Some(known) = known {
                order.remove(known);
            }
            if let Some(entry) = &entry {
                order.insert(entry);
            }
        }
        match entry {
            Some(entry) => self.rooms.insert(nid, entry),
            None => self.rooms.remove(&nid),
        };
    }

    fn has_order(&self, by: &[SortBy]) -> bool {
        self.orders.iter().any(|order| order.by() == by)
    }

    fn add_order(&mut self, by: &[SortBy]) {
        self.orders.push(Order::of(by, self.rooms.values()));
    }

    fn drop_order(&mut self, by: &[SortBy]) {
        self.orders.retain(|order| order.by() != by);
    }
}

/// Facts as they are now: unless they are those that were known, they have changed.
fn dated(facts: Facts, known: Option<Facts>) -> Facts {
    let Some(known) = known else { return facts };
    let changed = facts.changed;
    let facts = Facts { changed: known.changed, ..facts };
    if facts == known { known } else { Facts { changed, ..facts } }
}

/// The index of an account, once somebody has asked for it.
#[derive(Debug, Default)]
pub(crate) struct SharedRoomIndex(Mutex<Option<Held>>);

#[derive(Debug)]
struct Held {
    index: Arc<RoomIndex>,
    /// The orders of the index, the one last asked for first.
    asked: Vec<Vec<SortBy>>,
    viewed: Instant,
}

impl SharedRoomIndex {
    /// The index, no older than the last poll that is stored.
    pub(crate) async fn view(
        &self,
        State { store, metrics, .. }: &State,
        account: &Account,
        needs: &IndexNeeds,
    ) -> Result<Arc<RoomIndex>, Error> {
        // Held while the store is asked: whoever else looks meanwhile would only ask the same. Who is cancelled leaves an
        // index as of the poll that it says.
        let mut shared = self.0.lock().await;
        let held = match &mut *shared {
            Some(held) if held.index.as_of >= account.retained_from() => {
                metrics.looked_up(Cache::RoomIndex, true);
                held
            }
            stale => {
                metrics.looked_up(Cache::RoomIndex, false);
                stale.insert(Held::new(catch_up::begin(store, account).await?))
            }
        };
        held.viewed = Instant::now();
        if held.index.as_of < account.pos() {
            let changes = catch_up::changes(store, account, &held.index).await?;
            Arc::make_mut(&mut held.index).apply(changes);
        }
        if needs.facts() && !held.index.has_facts {
            let facts = catch_up::all_facts(store, account, held.index.as_of).await?;
            Arc::make_mut(&mut held.index).add_facts(facts);
        }
        if let Some(order) = &needs.order {
            held.sort(order);
        }
        Ok(Arc::clone(&held.index))
    }

    /// The user has forgotten a room, of which the homeserver may say nothing more: an invite is listed no longer.
    pub(crate) async fn forget(&self, room: RoomNid) {
        if let Some(held) = &mut *self.0.lock().await
            && held.index.get(room).is_some_and(|room| room.section != Section::Join)
        {
            Arc::make_mut(&mut held.index).replace(room, None);
        }
    }

    /// Drops an index that no client has looked at for long.
    pub(crate) fn sweep(&self) {
        // Who has it locked is looking at it.
        if let Ok(mut shared) = self.0.try_lock() {
            shared.take_if(|held| held.viewed.elapsed() >= KEEP);
        }
    }
}

impl Held {
    fn new(index: RoomIndex) -> Self {
        Self { index: Arc::new(index), asked: Vec::new(), viewed: Instant::now() }
    }

    /// Sees to it that the index has an order. The one that nobody has asked for the longest goes for it.
    fn sort(&mut self, order: &[SortBy]) {
        self.asked.retain(|asked| asked != order);
        self.asked.insert(0, order.to_vec());
        if self.index.has_order(order) {
            return;
        }
        let index = Arc::make_mut(&mut self.index);
        for forgotten in self.asked.drain(ORDERS.min(self.asked.len())..) {
            index.drop_order(&forgotten);
        }
        index.add_order(order);
    }
}

#[cfg(test)]
mod micro;

#[cfg(test)]
mod tests;
