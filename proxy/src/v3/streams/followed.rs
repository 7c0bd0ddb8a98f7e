//! The rooms that a stream follows: named by the client, or the active set of `room_list`; and those of them that a
//! session has been told of.
//!
//! What is told of a room is the affair of the streams `room` and `receipts`, which share this.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use store::{RoomHead, RoomNid, Section};

use crate::{
    error::Error,
    token::{Reader, TokenError, put_varint},
    v3::{
        fields::Fields,
        sets::{NewRoomSet, Purpose, SetId, Sets, decode_rooms, encode_rooms},
        view::View,
    },
};

/// How many rooms a list may name.
const MOST_NAMED: usize = 1000;

/// How many rooms are told in a token itself. More are a set.
const MOST_IN_TOKEN: usize = 8;

/// What stands for the active set of `room_list`.
const ROOM_LIST: &str = "room_list";

/// The parameter's name.
const KEY: &str = "room_id";

/// Which rooms a stream follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// One room.
    One(String),
    /// A list of rooms, each of them once.
    Each(Vec<String>),
    /// The active set of `room_list`.
    RoomList,
}

impl Followed {
    /// Reads the parameter `room_id`.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        match fields.get(KEY) {
            None => Err(fields.missing(KEY)),
            Some(Value::String(text)) if text == ROOM_LIST => Ok(Self::RoomList),
            Some(Value::String(_)) => Ok(Self::One(fields.room_id(KEY)?.to_owned())),
            Some(Value::Array(_)) => {
                let mut seen = BTreeSet::new();
                let named = fields.room_ids(KEY, MOST_NAMED)?.into_iter();
                Ok(Self::Each(named.filter(|id| seen.insert(*id)).map(str::to_owned).collect()))
            }
            Some(_) => {
                Err(fields.wrong_type(KEY, "a room ID, a list of room IDs, or \"room_list\""))
            }
        }
    }

    /// As it sticks.
    pub(super) fn sticky(&self) -> (String, Value) {
        let value = match self {
            Self::One(room_id) => json!(room_id),
            Self::Each(room_ids) => json!(room_ids),
            Self::RoomList => json!(ROOM_LIST),
        };
        (KEY.to_owned(), value)
    }

    /// The rooms that it names.
    pub(super) fn named(&self) -> Vec<&str> {
        match self {
            Self::One(room_id) => vec![room_id],
            Self::Each(room_ids) => room_ids.iter().map(String::as_str).collect(),
            Self::RoomList => Vec::new(),
        }
    }

    /// Whether it is the active set of `room_list`.
    pub(super) fn is_room_list(&self) -> bool {
        *self == Self::RoomList
    }

    /// The rooms as of now. The user may have left those that are in `told`; any other is refused then.
    pub(super) async fn rooms(
        &self,
        view: &View<'_>,
        told: &BTreeSet<RoomNid>,
    ) -> Result<BTreeSet<RoomNid>, Error> {
        if self.is_room_list() {
            return Ok(view.active().await.iter().copied().collect());
        }
        let number = |room_id: &str| {
            let known = view.rooms.even_left(room_id)?;
            if told.contains(&known.room_nid) {
                return Ok(known.room_nid);
            }
            view.rooms.get(room_id).map(|head| head.room_nid)
        };
        self.named().into_iter().map(number).collect()
    }

    /// Those of these rooms that the user is in, as they stand.
    pub(super) async fn joined(
        &self,
        view: &View<'_>,
        rooms: &BTreeSet<RoomNid>,
    ) -> Result<Vec<RoomHead>, Error> {
        if rooms.is_empty() {
            return Ok(Vec::new());
        }
        let heads: Vec<RoomHead> = if self.is_room_list() {
            let rooms: Vec<RoomNid> = rooms.iter().copied().collect();
            view.heads(&rooms).await?
        } else {
            let named = self.named().into_iter().map(|room_id| view.rooms.even_left(room_id));
            let heads: Vec<&RoomHead> = named.collect::<Result<_, _>>()?;
            heads.into_iter().filter(|head| rooms.contains(&head.room_nid)).cloned().collect()
        };
        Ok(heads.into_iter().filter(|head| head.section == Section::Join).collect())
    }
}

/// The rooms that a session has been told of, as a place says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// These.
    Few(BTreeSet<RoomNid>),
    /// Those of a set.
    Many(SetId),
}

impl Told {
    /// These rooms; with the set that has to be kept, if they are one.
    pub(super) fn of(rooms: BTreeSet<RoomNid>) -> (Self, Option<NewRoomSet>) {
        if rooms.len() <= MOST_IN_TOKEN {
            return (Self::Few(rooms), None);
        }
        let set = NewRoomSet::new(Purpose::Told, encode_rooms(&rooms));
        (Self::Many(set.id), Some(set))
    }

    /// The rooms.
    pub(super) fn rooms(&self, sets: &Sets) -> Result<BTreeSet<RoomNid>, Error> {
        match self {
            Self::Few(rooms) => Ok(rooms.clone()),
            Self::Many(id) => decode_rooms(sets.told(*id)?),
        }
    }

    /// The set, if they are one.
    pub(super) fn set(&self) -> Option<SetId> {
        match self {
            Self::Few(_) => None,
            Self::Many(id) => Some(*id),
        }
    }

    /// For tokens.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Many(id) => {
                put_varint(out, 0);
                id.put(out);
            }
            Self::Few(rooms) => {
                let rooms = encode_rooms(rooms);
                put_varint(out, rooms.len() as u64 + 1);
                out.extend_from_slice(&rooms);
            }
        }
    }

    /// Reads what [`Told::put`] wrote.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, TokenError> {
        let len = usize::try_from(reader.varint()?).map_err(|_| TokenError::Malformed)?;
        let Some(len) = len.checked_sub(1) else { return SetId::read(reader).map(Self::Many) };
        let rooms = decode_rooms(reader.bytes(len)?).map_err(|_| TokenError::Malformed)?;
        Ok(Self::Few(rooms))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    /// Reads a `room_id` and gives what sticks of it, or the refusal.
    fn read(room_id: &Value) -> String {
        let object = Map::from_iter([(KEY.to_owned(), room_id.clone())]);
        match Followed::read(&Fields::new("s", &object)) {
            Ok(followed) => {
                let sticky = followed.sticky();
                let again = Map::from_iter([sticky.clone()]);
                assert_eq!(Followed::read(&Fields::new("s", &again)).unwrap(), followed);
                sticky.1.to_string()
            }
            Err(Error::BadJson(text)) => format!("bad: {text}"),
            Err(Error::InvalidParam(text)) => format!("invalid: {text}"),
            Err(other) => format!("{other}"),
        }
    }

    #[test]
    fn a_room_a_list_or_the_room_list() {
        assert_eq!(read(&json!("!a:b")), r#""!a:b""#);
        assert_eq!(read(&json!("room_list")), r#""room_list""#);
        assert_eq!(read(&json!(["!a:b"])), r#"["!a:b"]"#);
        assert_eq!(read(&json!(["!c:d", "!a:b", "!c:d"])), r#"["!c:d","!a:b"]"#);
        assert_eq!(read(&json!([])), "[]");
        let many: Vec<String> = (0..=MOST_NAMED).map(|n| format!("!{n}:b")).collect();
        assert!(read(&json!(many[..MOST_NAMED])).starts_with('['));
        assert_eq!(read(&json!(many)), "invalid: s.room_id: has more than 1000 room IDs");
        assert_eq!(read(&json!("room-list")), "invalid: s.room_id: is not a room ID");
        assert_eq!(
            read(&json!(["room_list"])),
            r#"invalid: s.room_id: "room_list" is not a room ID"#
        );
        assert_eq!(read(&json!(["!a:b", 5])), "bad: s.room_id: must be a list of strings");
        let expected = r#"bad: s.room_id: must be a room ID, a list of room IDs, or "room_list""#;
        for wrong in [json!(5), json!(null), json!({}), json!(true)] {
            assert_eq!(read(&wrong), expected);
        }
        let nothing = Map::new();
        let missing = Followed::read(&Fields::new("s", &nothing));
        assert!(matches!(missing, Err(Error::BadJson(text)) if text == "s.room_id: is missing"));
    }

    #[test]
    fn told_rooms_are_in_the_token_or_a_set() {
        for count in [0, 1, MOST_IN_TOKEN, MOST_IN_TOKEN + 1, 1000] {
            let numbers = (5..).step_by(77).map(RoomNid);
            let rooms: BTreeSet<RoomNid> = numbers.take(count).collect();
            let (told, set) = Told::of(rooms.clone());
            assert_eq!(set.is_some(), count > MOST_IN_TOKEN, "{count}");
            let mut token = Vec::new();
            told.put(&mut token);
            assert!(token.len() < 40, "{count} rooms are {} bytes of a token", token.len());
            let mut reader = Reader::new(&token);
            let read = Told::read(&mut reader).unwrap();
            assert_eq!(read, told);
            assert!(reader.is_empty());
            assert_eq!(read.set(), set.as_ref().map(|set| set.id));
            let mut sets = Sets::default();
            if let Some(set) = &set {
                assert!(read.rooms(&sets).is_err(), "the set is not there");
                sets.add(set);
            }
            assert_eq!(read.rooms(&sets).unwrap(), rooms);
        }
    }
}
