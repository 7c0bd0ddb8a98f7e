//! How far `invites` has been answered.

use std::collections::BTreeSet;

use store::{Position, RoomNid};

use crate::{
    fingerprint::fingerprint,
    ignored::Ignored,
    token::{Reader, put_varint},
    v3::sets::{NewRoomSet, Purpose, SetId, encode_rooms},
};

/// How much of a hash tells lists of ignored users apart.
const HASH_BYTES: usize = 8;

/// What names a list of ignored users.
pub(super) type Fingerprint = [u8; HASH_BYTES];

/// Told up to a poll: every room that stood open then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The poll.
    pub(super) pos: Position,
    /// Whom the user ignored.
    pub(super) ignored: Fingerprint,
    /// The rooms that stood open and were not told; `None` if there are none.
    pub(super) untold: Option<SetId>,
}

impl Place {
    /// For the token.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut place = Vec::new();
        put_varint(&mut place, self.pos.0.unsigned_abs());
        place.extend_from_slice(&self.ignored);
        if let Some(untold) = self.untold {
            untold.put(&mut place);
        }
        place
    }

    /// Reads what [`Place::encode`] wrote.
    pub(super) fn decode(place: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(place);
        let pos = Position(reader.id().ok()?);
        let ignored = reader.bytes(HASH_BYTES).ok()?.try_into().ok()?;
        let untold = if reader.is_empty() { None } else { Some(SetId::read(&mut reader).ok()?) };
        Some(Self { pos, ignored, untold })
    }
}

/// Names a list of ignored users.
pub(super) fn name_of(ignored: &Ignored) -> Fingerprint {
    let users: BTreeSet<&String> = ignored.users().collect();
    let mut named = Vec::new();
    for user_id in users {
        put_varint(&mut named, user_id.len() as u64);
        named.extend_from_slice(user_id.as_bytes());
    }
    fingerprint(&named)
}

/// The rooms that were not told, to be kept with the session: they may be too many for a token.
pub(super) fn untold_set(untold: &BTreeSet<RoomNid>) -> Option<NewRoomSet> {
    (!untold.is_empty()).then(|| NewRoomSet::new(Purpose::Told, encode_rooms(untold)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip() {
        let some = untold_set(&BTreeSet::from([RoomNid(3), RoomNid(900)])).map(|set| set.id);
        for untold in [None, some] {
            let place = Place { pos: Position(300), ignored: [7; HASH_BYTES], untold };
            assert_eq!(Place::decode(&place.encode()), Some(place));
        }
        assert!(some.is_some());
        assert_eq!(Place::decode(&[5, 1, 2]), None);
        assert_eq!(untold_set(&BTreeSet::new()), None);
    }

    #[test]
    fn lists_of_ignored_users_are_told_apart() {
        let of = |users: &str| {
            let event = format!(r#"{{"content":{{"ignored_users":{{{users}}}}}}}"#);
            name_of(&Ignored::read(event.as_bytes()))
        };
        let both = of(r#""@a:x":{},"@b:x":{}"#);
        assert_eq!(both, of(r#""@b:x":{},"@a:x":{}"#));
        for other in ["", r#""@a:x":{}"#, r#""@a:x@b:x":{}"#] {
            assert_ne!(both, of(other), "{other}");
        }
    }
}
