//! The rooms that a session has got, and how far each has been told. The content of a set of the session.

use std::collections::{BTreeMap, BTreeSet};

use store::{Position, RoomNid};

use crate::{
    error::Error,
    token::{Reader, TokenError, put_varint},
};

/// How a room has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    /// It is followed; told up to where the stream is.
    Active,
    /// It is followed, and was told up to a position that the stream has yet to reach.
    ActiveUpTo(Position),
    /// It came once, up to this position, because something in it notified.
    Sent(Position),
}

/// The rooms that have been told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told(BTreeMap<RoomNid, As>);

impl Told {
    /// How a room has been told, if it has.
    pub(super) fn get(&self, room: RoomNid) -> Option<As> {
        self.0.get(&room).copied()
    }

    /// Up to which position a room has been told, if it has: by a stream that is at `pos`.
    pub(super) fn up_to(&self, room: RoomNid, pos: Position) -> Option<Position> {
        Some(match self.get(room)? {
            As::Active => pos,
            As::ActiveUpTo(up_to) | As::Sent(up_to) => up_to,
        })
    }

    /// Whether a room is followed.
    pub(super) fn follows(&self, room: RoomNid) -> bool {
        matches!(self.get(room), Some(As::Active | As::ActiveUpTo(_)))
    }

    /// The rooms that are followed.
    pub(super) fn active(&self) -> impl Iterator<Item = RoomNid> {
        self.0.keys().copied().filter(|room| self.follows(*room))
    }

    /// A room has been told.
    pub(super) fn put(&mut self, room: RoomNid, told: As) {
        self.0.insert(room, told);
    }

    /// Rooms have been told on pages.
    pub(super) fn add(&mut self, rooms: &BTreeSet<RoomNid>) {
        for room in rooms.iter().filter(|room| !self.follows(**room)).copied().collect::<Vec<_>>() {
            self.put(room, As::Active);
        }
    }

    /// A room is the client's no more.
    pub(super) fn drop(&mut self, room: RoomNid) {
        self.0.remove(&room);
    }

    /// Rooms that came once are as good as new: other state is asked for, which they came without.
    pub(super) fn drop_sent(&mut self) {
        self.0.retain(|_, told| !matches!(told, As::Sent(_)));
    }

    /// The stream has reached `pos`.
    pub(super) fn reach(&mut self, pos: Position) {
        for told in self.0.values_mut() {
            if matches!(told, As::ActiveUpTo(up_to) if *up_to <= pos) {
                *told = As::Active;
            }
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the content of a set.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.0.len() * 3);
        let mut last = 0;
        for (room, told) in &self.0 {
            // In ascending order differences are small.
            put_varint(&mut content, room.0.abs_diff(last));
            last = room.0;
            let (kind, up_to) = match told {
                As::Active => (0, None),
                As::ActiveUpTo(up_to) => (1, Some(up_to)),
                As::Sent(up_to) => (2, Some(up_to)),
            };
            content.push(kind);
            if let Some(up_to) = up_to {
                put_varint(&mut content, up_to.0.unsigned_abs());
            }
        }
        content
    }

    /// Reads what [`Told::encode`] wrote; what it did not write is no set of ours.
    pub(super) fn decode(content: &[u8]) -> Result<Self, Error> {
        let read = |mut reader: Reader<'_>| -> Result<Self, TokenError> {
            let mut rooms = BTreeMap::new();
            let mut last = 0_i64;
            while !reader.is_empty() {
                last = last.checked_add(reader.id()?).ok_or(TokenError::Malformed)?;
                let told = match reader.varint()? {
                    0 => As::Active,
                    1 => As::ActiveUpTo(Position(reader.id()?)),
                    2 => As::Sent(Position(reader.id()?)),
                    _ => return Err(TokenError::Malformed),
                };
                rooms.insert(RoomNid(last), told);
            }
            Ok(Self(rooms))
        };
        read(Reader::new(content)).map_err(|_| Error::UnknownSyncSession)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rooms: &[(i64, As)]) -> Told {
        Told(rooms.iter().map(|(nid, told)| (RoomNid(*nid), *told)).collect())
    }

    #[test]
    fn it_round_trips() {
        let (up_to, sent) = (As::ActiveUpTo(Position(500)), As::Sent(Position(3)));
        for rooms in
            [told(&[]), told(&[(1, As::Active), (300, up_to), (301, sent), (i64::MAX, As::Active)])]
        {
            assert_eq!(Told::decode(&rooms.encode()).unwrap(), rooms);
        }
        for damaged in [&[1][..], &[1, 7], &[1, 1]] {
            assert!(Told::decode(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn what_the_stream_reaches_is_told_up_to_there() {
        let mut rooms = told(&[(1, As::ActiveUpTo(Position(5))), (2, As::ActiveUpTo(Position(9)))]);
        rooms.put(RoomNid(3), As::Sent(Position(2)));
        rooms.reach(Position(5));
        assert_eq!(rooms.up_to(RoomNid(1), Position(5)), Some(Position(5)));
        assert_eq!(rooms.up_to(RoomNid(2), Position(5)), Some(Position(9)));
        assert_eq!(rooms.up_to(RoomNid(3), Position(5)), Some(Position(2)));
        assert_eq!(rooms.get(RoomNid(1)), Some(As::Active));
        assert_eq!(rooms.active().collect::<Vec<_>>(), [RoomNid(1), RoomNid(2)]);
        rooms.drop(RoomNid(1));
        assert_eq!(rooms.get(RoomNid(1)), None);
    }
}
