//! Places: how far changes have been told, and where a page begins. Both remember their list.

use store::{Position, RoomNid};

use super::{NUMBER, list::List};
use crate::{
    token::{Reader, TokenError, put_varint},
    v3::page_token::PageTokens,
};

/// How far the changes of a list have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The room.
    pub(super) room_nid: RoomNid,
    /// The list.
    pub(super) list: List,
    /// Everything up to and with this poll has been told.
    pub(super) pos: Position,
    /// And so many changes of members of the poll after it: one poll can bring more than one reply
    /// may have.
    pub(super) skip: usize,
}

impl Place {
    /// One more change has been told, or passed over, of the poll at `pos`.
    pub(super) fn step(&mut self, pos: Position) {
        let before = Position(pos.0 - 1);
        if before == self.pos {
            self.skip += 1;
        } else {
            self.pos = before;
            self.skip = 1;
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut place = self.list.encode().to_vec();
        put_varint(&mut place, self.room_nid.0.unsigned_abs());
        put_varint(&mut place, self.pos.0.unsigned_abs());
        put_varint(&mut place, self.skip as u64);
        place
    }

    pub(super) fn decode(place: &[u8]) -> Option<Self> {
        let read = |mut reader: Reader<'_>| -> Result<Option<Self>, TokenError> {
            let list = List::decode(reader.bytes(2)?);
            let room_nid = RoomNid(reader.id()?);
            let pos = Position(reader.id()?);
            let skip = usize::try_from(reader.varint()?).map_err(|_| TokenError::Malformed)?;
            Ok(list.map(|list| Self { room_nid, list, pos, skip }))
        };
        read(Reader::new(place)).ok().flatten()
    }
}

/// Where a page begins, in a list as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PagePlace {
    /// The list.
    pub(super) list: List,
    /// The moment.
    pub(super) snapshot: Position,
    /// How many members stand before the page.
    pub(super) offset: usize,
}

impl PagePlace {
    /// The page token.
    pub(super) fn seal(&self, pages: PageTokens<'_>, room_id: &str) -> String {
        let mut rest = self.list.encode().to_vec();
        put_varint(&mut rest, self.offset as u64);
        rest.extend_from_slice(room_id.as_bytes());
        pages.seal(NUMBER, self.snapshot, &rest)
    }

    /// Reads a page token of this room.
    pub(super) fn open(pages: PageTokens<'_>, token: &str, room_id: &str) -> Option<Self> {
        let (snapshot, rest) = pages.open(NUMBER, token)?;
        let rest = rest.strip_suffix(room_id.as_bytes())?;
        let mut reader = Reader::new(rest);
        let list = List::decode(reader.bytes(2).ok()?)?;
        let offset = usize::try_from(reader.varint().ok()?).ok()?;
        reader.is_empty().then_some(Self { list, snapshot, offset })
    }
}

#[cfg(test)]
mod tests {
    use store::AccountId;

    use super::*;
    use crate::token::Tokens;

    #[test]
    fn places_round_trip() {
        let list = List::default();
        for (nid, pos, skip) in [(1, 0, 0), (i64::MAX, i64::MAX, 70_000), (5, 300, 1)] {
            let place = Place { room_nid: RoomNid(nid), list, pos: Position(pos), skip };
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        assert_eq!(Place::decode(&[]), None);
        assert_eq!(Place::decode(&[0, 3, 1]), None);
    }

    #[test]
    fn steps_count_within_a_poll() {
        let mut place =
            Place { room_nid: RoomNid(1), list: List::default(), pos: Position(4), skip: 2 };
        let mut check = |pos: i64, expected: (i64, usize)| {
            place.step(Position(pos));
            assert_eq!((place.pos.0, place.skip), expected);
        };
        check(5, (4, 3));
        check(5, (4, 4));
        check(6, (5, 1));
        check(9, (8, 1));
        check(9, (8, 2));
    }

    #[test]
    fn pages_belong_to_their_room() {
        let tokens = Tokens::new(&[1; 32]);
        let pages = PageTokens::new(&tokens, AccountId(1), Position(0));
        let place = PagePlace { list: List::default(), snapshot: Position(9), offset: 300 };
        let token = place.seal(pages, "!a:b");
        assert_eq!(PagePlace::open(pages, &token, "!a:b"), Some(place));
        for other in ["!b:b", "!aa:b", "a:b", "", "!a:b.c"] {
            assert_eq!(PagePlace::open(pages, &token, other), None, "{other}");
        }
    }
}
