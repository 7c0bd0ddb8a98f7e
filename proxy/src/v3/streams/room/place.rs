//! The place in the stream: how far a session has been told, of which rooms, and how much of them. Pure.

use store::Position;

use super::asked::Asked;
use crate::{
    account::MemoryId,
    token::{Reader, TokenError, put_varint},
    v3::streams::followed::Told,
};

/// How far a session has been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Up to here.
    pub(super) pos: Position,
    /// How much of each room.
    pub(super) measure: Measure,
    /// Which members it knows.
    pub(super) members: MemoryId,
    /// Of these rooms.
    pub(super) told: Told,
}

/// How much has been told of each of the rooms, or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// A timeline of so many events.
    limit: u64,
    /// All members.
    all_members: bool,
    /// The types and the format.
    shape: u64,
}

impl Measure {
    /// What a client asks for now.
    pub(super) fn of(asked: &Asked) -> Self {
        Self { limit: asked.limit, all_members: !asked.lazy, shape: asked.shape() }
    }

    /// Whether rooms that were told so much have been told all that is `asked` for.
    pub(super) fn covers(&self, asked: &Self) -> bool {
        self.shape == asked.shape
            && self.limit >= asked.limit
            && (self.all_members || !asked.all_members)
    }

    /// What has been told of rooms of which some were told this, and some the other.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            limit: self.limit.min(other.limit),
            all_members: self.all_members && other.all_members,
            shape: other.shape,
        }
    }
}

impl Place {
    /// For tokens.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut place = Vec::new();
        put_varint(&mut place, self.pos.0.unsigned_abs());
        put_varint(&mut place, self.measure.limit);
        put_varint(&mut place, u64::from(self.measure.all_members));
        put_varint(&mut place, self.measure.shape);
        put_varint(&mut place, self.members.0);
        self.told.put(&mut place);
        place
    }

    /// Reads what [`Place::encode`] wrote.
    pub(super) fn decode(place: &[u8]) -> Option<Self> {
        let read = |reader: &mut Reader<'_>| -> Result<Self, TokenError> {
            Ok(Self {
                pos: Position(reader.id()?),
                measure: Measure {
                    limit: reader.varint()?,
                    all_members: reader.varint()? != 0,
                    shape: reader.varint()?,
                },
                members: MemoryId(reader.varint()?),
                told: Told::read(reader)?,
            })
        };
        read(&mut Reader::new(place)).ok()
    }
}

#[cfg(test)]
mod tests {
    use store::RoomNid;

    use super::*;

    fn measure(limit: u64, all_members: bool, shape: u64) -> Measure {
        Measure { limit, all_members, shape }
    }

    #[test]
    fn places() {
        for (count, shape) in [(0, 0), (3, u64::MAX), (100, 1 << 63)] {
            let (told, _set) = Told::of((0..count).map(RoomNid).collect());
            let place = Place {
                pos: Position(i64::MAX),
                measure: measure(100, count == 3, shape),
                members: MemoryId(u64::MAX),
                told,
            };
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        assert_eq!(Place::decode(b""), None);
        assert_eq!(Place::decode(&[1, 20, 0, 1]), None);
    }

    #[test]
    fn what_was_told_covers_what_is_asked() {
        let check = |told: Measure, asked: Measure, expected: bool| {
            assert_eq!(told.covers(&asked), expected, "{told:?} {asked:?}");
        };
        check(measure(20, false, 1), measure(20, false, 1), true);
        check(measure(20, true, 1), measure(5, false, 1), true);
        check(measure(20, false, 1), measure(21, false, 1), false);
        check(measure(20, false, 1), measure(20, true, 1), false);
        check(measure(20, true, 1), measure(20, true, 2), false);
    }

    #[test]
    fn of_different_rooms_the_least_counts() {
        let told = measure(50, true, 1).and(&measure(5, false, 1));
        assert_eq!(told, measure(5, false, 1));
        assert_eq!(measure(5, false, 1).and(&measure(50, true, 1)), measure(5, false, 1));
    }
}
