//! Sets of rooms that belong to a session: too large for its tokens, so tokens carry their names and the store keeps what
//! is in them.
//!
//! A set is named by what is in it. So it never changes, an old token finds its own, and the same reply, asked for
//! again, names the same sets. What is in a set is the affair of the stream that made it.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use store::{NewSet, RoomNid, StoredSet};

use crate::{
    error::Error,
    fingerprint::fingerprint,
    token::{Reader, TokenError, put_varint},
};

/// The length of a name: no two sets of one session share one, as far as chance allows.
const NAME_BYTES: usize = 12;

/// The name of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SetId([u8; NAME_BYTES]);

/// What a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Rooms that a stream has told the session of.
    Told,
    /// A list of rooms that pages are cut from.
    Pages,
    /// Rooms of pages that were read from a token: who goes on from that very token has got them. Its name begins with
    /// [`SetId::of_pages`] of the token's place.
    Read,
}

impl Purpose {
    /// Its number in the store. Never changed.
    fn number(self) -> i16 {
        match self {
            Self::Told => 0,
            Self::Pages => 1,
            Self::Read => 2,
        }
    }
}

/// A set, to be kept with the reply that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRoomSet {
    /// Its name.
    pub(crate) id: SetId,
    /// What the store calls it.
    name: Vec<u8>,
    purpose: Purpose,
    content: Vec<u8>,
}

impl NewRoomSet {
    /// The set with this content.
    pub(crate) fn new(purpose: Purpose, content: Vec<u8>) -> Self {
        let mut named = purpose.number().to_be_bytes().to_vec();
        named.extend_from_slice(&content);
        let id = fingerprint(&named);
        Self { id: SetId(id), name: id.to_vec(), purpose, content }
    }

    /// The rooms of the pages that were read from a token with the place that `pages` stands for.
    pub(crate) fn read_from(pages: SetId, rooms: &BTreeSet<RoomNid>) -> Self {
        let set = Self::new(Purpose::Read, encode_rooms(rooms));
        let name = [pages.as_bytes(), set.id.as_bytes()].concat();
        Self { name, ..set }
    }

    /// Whether it is kept although no place names it: pages do.
    pub(crate) fn is_for_pages(&self) -> bool {
        self.purpose != Purpose::Told
    }

    /// As the store wants it.
    pub(crate) fn row(&self) -> NewSet<'_> {
        NewSet { set_id: &self.name, purpose: self.purpose.number(), content: &self.content }
    }
}

impl SetId {
    /// What the names of the sets begin with whose pages are read from a token with this place of a stream. Of the whole
    /// place: what a set of it holds may come to be the same again, of which those pages are no part.
    pub(crate) fn of_pages(place: &[u8]) -> Self {
        Self(fingerprint(place))
    }

    /// For tokens.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    /// Reads what [`SetId::put`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, TokenError> {
        let bytes = reader.bytes(NAME_BYTES)?;
        bytes.try_into().map(Self).map_err(|_| TokenError::Malformed)
    }

    /// As the store wants it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The sets that the places and the page tokens of a request name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    named: HashMap<Vec<u8>, Bytes>,
    /// Of the kind [`Purpose::Read`], with their names.
    read: Vec<(Vec<u8>, Bytes)>,
}

impl Sets {
    /// Those that the store still had.
    pub(crate) fn new(found: Vec<StoredSet>) -> Self {
        let found = found.into_iter().map(|set| (set.set_id, set.content));
        let (named, read): (Vec<_>, Vec<_>) = found.partition(|(name, _)| name.len() == NAME_BYTES);
        Self { named: named.into_iter().collect(), read }
    }

    /// The rooms of pages that were read from a token with the place that `pages` stands for.
    pub(crate) fn read_from(&self, pages: SetId) -> Result<BTreeSet<RoomNid>, Error> {
        let mut rooms = BTreeSet::new();
        for (_, content) in self.read.iter().filter(|(name, _)| name.starts_with(&pages.0)) {
            rooms.extend(decode_rooms(content)?);
        }
        Ok(rooms)
    }

    /// A set that the next token of the session will name.
    pub(crate) fn add(&mut self, set: &NewRoomSet) {
        self.named.insert(set.id.as_bytes().to_vec(), Bytes::copy_from_slice(&set.content));
    }

    /// Forgets those for which `keep` does not hold.
    pub(crate) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        self.named.retain(|id, _| keep(id));
    }

    /// What is in a set that a page token names, if it is still there.
    pub(crate) fn get(&self, id: SetId) -> Option<&Bytes> {
        self.named.get(id.as_bytes())
    }

    /// What is in a set that the session's own token names. The token is of no use without it.
    pub(crate) fn told(&self, id: SetId) -> Result<&Bytes, Error> {
        self.get(id).ok_or(Error::UnknownSyncSession)
    }
}

/// Rooms as the content of a set.
pub(crate) fn encode_rooms(rooms: &BTreeSet<RoomNid>) -> Vec<u8> {
    let mut content = Vec::with_capacity(rooms.len() * 3);
    let mut last = 0;
    for room in rooms {
        // In ascending order differences are small.
        put_varint(&mut content, room.0.abs_diff(last));
        last = room.0;
    }
    content
}

/// Reads what [`encode_rooms`] wrote; what it did not write is no set of ours.
pub(crate) fn decode_rooms(content: &[u8]) -> Result<BTreeSet<RoomNid>, Error> {
    let mut reader = Reader::new(content);
    let mut rooms = BTreeSet::new();
    let mut last = 0_i64;
    while !reader.is_empty() {
        let step = reader.id().map_err(|_| Error::UnknownSyncSession)?;
        last = last.checked_add(step).ok_or(Error::UnknownSyncSession)?;
        rooms.insert(RoomNid(last));
    }
    Ok(rooms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_round_trip() {
        for rooms in [vec![], vec![1], vec![1, 2, 300, i64::MAX]] {
            let rooms: BTreeSet<RoomNid> = rooms.into_iter().map(RoomNid).collect();
            assert_eq!(decode_rooms(&encode_rooms(&rooms)).unwrap(), rooms);
        }
        assert!(decode_rooms(&[0x80]).is_err());
    }

    #[test]
    fn a_set_is_named_by_what_is_in_it() {
        let set = |purpose, content: &[u8]| NewRoomSet::new(purpose, content.to_vec()).id;
        assert_eq!(set(Purpose::Told, b"a"), set(Purpose::Told, b"a"));
        assert_ne!(set(Purpose::Told, b"a"), set(Purpose::Told, b"b"));
        assert_ne!(set(Purpose::Told, b"a"), set(Purpose::Pages, b"a"));
        let id = set(Purpose::Told, b"");
        let mut bytes = Vec::new();
        id.put(&mut bytes);
        assert_eq!(SetId::read(&mut Reader::new(&bytes)), Ok(id));
    }

    #[test]
    fn without_its_set_a_token_is_of_no_session() {
        let (kept, gone) = (
            NewRoomSet::new(Purpose::Told, b"kept".to_vec()),
            NewRoomSet::new(Purpose::Told, b"gone".to_vec()),
        );
        let mut sets = Sets::default();
        sets.add(&kept);
        sets.add(&gone);
        sets.retain(|id| id == kept.id.as_bytes());
        assert_eq!(sets.told(kept.id).unwrap(), "kept");
        assert!(matches!(sets.told(gone.id), Err(Error::UnknownSyncSession)));
        assert_eq!(sets.get(gone.id), None);
    }
}
