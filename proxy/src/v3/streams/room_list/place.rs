//! Places: how far the list has been told, and where a page begins.

use serde_json::Value;
use store::{Position, RoomNid, Section};

use super::NUMBER;
use crate::{
    fingerprint::fingerprint,
    token::{Reader, TokenError, put_varint},
    v3::{page_token::PageTokens, sets::SetId},
};

/// The length of a digest: enough to tell the parameters of one session apart.
const DIGEST_BYTES: usize = 8;

/// Stands for parameters: others have another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// That of these.
    pub(super) fn of(params: &Value) -> Self {
        Self(fingerprint(params.to_string().as_bytes()))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, TokenError> {
        let bytes = reader.bytes(DIGEST_BYTES)?;
        bytes.try_into().map(Self).map_err(|_| TokenError::Malformed)
    }
}

/// How far the list has been told, and as which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Everything up to and with this poll has been told.
    pub(super) pos: Position,
    /// The list.
    pub(super) list: Digest,
    /// How many rooms a page had.
    pub(super) limit: usize,
    /// The state that came with rooms.
    pub(super) state: Digest,
    /// The rooms that have been told; `None` if there are none.
    pub(super) told: Option<SetId>,
    /// How often the list has begun anew in the session or let go of rooms, so that the places before and after differ: what
    /// the client had got before, it has not got from there.
    pub(super) generation: u64,
}

impl Place {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut place = Vec::with_capacity(40);
        put_varint(&mut place, self.pos.0.unsigned_abs());
        place.extend_from_slice(&self.list.0);
        put_varint(&mut place, self.limit as u64);
        place.extend_from_slice(&self.state.0);
        if let Some(told) = self.told {
            told.put(&mut place);
        }
        if self.generation > 0 {
            put_varint(&mut place, self.generation);
        }
        place
    }

    pub(super) fn decode(place: &[u8]) -> Option<Self> {
        let read = |mut reader: Reader<'_>| -> Result<Self, TokenError> {
            Ok(Self {
                pos: Position(reader.id()?),
                list: Digest::read(&mut reader)?,
                limit: usize::try_from(reader.varint()?).map_err(|_| TokenError::Malformed)?,
                state: Digest::read(&mut reader)?,
                // Longer than any number that stands behind it.
                told: SetId::read(&mut reader).ok(),
                generation: if reader.is_empty() { 0 } else { reader.varint()? },
            })
        };
        read(Reader::new(place)).ok()
    }

    /// What pages are remembered by that are read from here.
    pub(super) fn pages(&self) -> SetId {
        SetId::of_pages(&self.encode())
    }

    /// What is left of the place when the client drops the stream: it is no place.
    pub(super) fn dropped(&self) -> Vec<u8> {
        let mut left = Vec::new();
        put_varint(&mut left, self.generation.saturating_add(1));
        left
    }

    /// The number of a place, or of what is left of one.
    pub(super) fn generation(place: &[u8]) -> u64 {
        match Self::decode(place) {
            Some(place) => place.generation,
            None => Reader::new(place).varint().unwrap_or_default(),
        }
    }
}

/// Where a page begins, in a list as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    /// The moment.
    pub(super) snapshot: Position,
    /// The list: a set of the session.
    pub(super) list: SetId,
    /// How many rooms stand before the page.
    pub(super) offset: usize,
    /// Whether it is a list of invites.
    pub(super) invites: bool,
}

impl PageToken {
    /// For the client.
    pub(super) fn seal(&self, pages: PageTokens<'_>) -> String {
        let mut rest = Vec::with_capacity(16);
        self.list.put(&mut rest);
        put_varint(&mut rest, u64::from(self.invites));
        put_varint(&mut rest, self.offset as u64);
        pages.seal(NUMBER, self.snapshot, &rest)
    }

    /// Reads a page token of the account.
    pub(super) fn open(pages: PageTokens<'_>, token: &str) -> Option<Self> {
        let (snapshot, rest) = pages.open(NUMBER, token)?;
        let mut reader = Reader::new(&rest);
        let list = SetId::read(&mut reader).ok()?;
        let invites = reader.varint().ok()? != 0;
        let offset = usize::try_from(reader.varint().ok()?).ok()?;
        reader.is_empty().then_some(Self { snapshot, list, offset, invites })
    }

    /// Where the rooms of the list were listed.
    pub(super) fn section(&self) -> Section {
        if self.invites { Section::Invite } else { Section::Join }
    }
}

/// A list as the content of a set.
pub(super) fn encode_list(rooms: &[RoomNid]) -> Vec<u8> {
    let mut content = Vec::with_capacity(rooms.len() * 3);
    for room in rooms {
        put_varint(&mut content, room.0.unsigned_abs());
    }
    content
}

/// Reads what [`encode_list`] wrote.
pub(super) fn decode_list(content: &[u8]) -> Option<Vec<RoomNid>> {
    let mut reader = Reader::new(content);
    let mut rooms = Vec::new();
    while !reader.is_empty() {
        rooms.push(RoomNid(reader.id().ok()?));
    }
    Some(rooms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::AccountId;

    use super::*;
    use crate::{
        token::Tokens,
        v3::sets::{NewRoomSet, Purpose},
    };

    #[test]
    fn places_round_trip() {
        let set = NewRoomSet::new(Purpose::Told, vec![1, 2]);
        for (told, generation) in
            [(None, 0), (Some(set.id), 0), (None, 1), (Some(set.id), u64::MAX)]
        {
            let place = Place {
                pos: Position(700),
                list: Digest::of(&json!([1])),
                limit: 1000,
                state: Digest::of(&json!([2])),
                told,
                generation,
            };
            assert_eq!(Place::decode(&place.encode()), Some(place));
            assert_eq!(Place::generation(&place.encode()), generation);
            assert_eq!(Place::decode(&place.dropped()), None);
            assert_eq!(Place::generation(&place.dropped()), generation.saturating_add(1));
        }
        assert_eq!(Place::decode(&[1, 2, 3]), None);
    }

    #[test]
    fn page_tokens_and_lists_round_trip() {
        let tokens = Tokens::new(&[1; 32]);
        let pages = |account| PageTokens::new(&tokens, AccountId(account), Position(0));
        let rooms = [RoomNid(300), RoomNid(1), RoomNid(i64::MAX)];
        assert_eq!(decode_list(&encode_list(&rooms)).as_deref(), Some(&rooms[..]));
        assert_eq!(decode_list(&[0x80]), None);
        let set = NewRoomSet::new(Purpose::Pages, encode_list(&rooms));
        let page = PageToken { snapshot: Position(9), list: set.id, offset: 200, invites: true };
        let sealed = page.seal(pages(1));
        assert_eq!(PageToken::open(pages(1), &sealed), Some(page));
        assert_eq!(PageToken::open(pages(2), &sealed), None);
    }
}
