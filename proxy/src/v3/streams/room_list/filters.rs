//! Which rooms are listed. Pure: filters are read, and asked about rooms.

use serde_json::{Map, Value, json};

use crate::{
    account::room_index::IndexedRoom, error::Error, v3::fields::Fields, views::facts::RoomFacts,
};

/// How many entries a list of a filter may have.
const MOST: usize = 100;

/// What all must hold of a room that is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    is_dm: Option<bool>,
    is_encrypted: Option<bool>,
    is_invite: Option<bool>,
    room_types: Option<Vec<Option<String>>>,
    not_room_types: Option<Vec<Option<String>>>,
    tags: Option<Vec<String>>,
    not_tags: Option<Vec<String>>,
    room_name_like: Option<String>,
}

impl Filters {
    /// Reads them; keys that we do not know are ignored.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let flag = |key: &str| -> Result<Option<bool>, Error> {
            fields.get(key).map(|_| fields.flag(key, false)).transpose()
        };
        Ok(Self {
            is_dm: flag("is_dm")?,
            is_encrypted: flag("is_encrypted")?,
            is_invite: flag("is_invite")?,
            room_types: room_types(fields, "room_types")?,
            not_room_types: room_types(fields, "not_room_types")?,
            tags: tags(fields, "tags")?,
            not_tags: tags(fields, "not_tags")?,
            room_name_like: fields.text("room_name_like")?.map(str::to_owned),
        })
    }

    /// As they are read again.
    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(key.to_owned(), value);
            }
        };
        put("is_dm", self.is_dm.map(Value::Bool));
        put("is_encrypted", self.is_encrypted.map(Value::Bool));
        put("is_invite", self.is_invite.map(Value::Bool));
        put("room_types", self.room_types.as_ref().map(|types| json!(types)));
        put("not_room_types", self.not_room_types.as_ref().map(|types| json!(types)));
        put("tags", self.tags.as_ref().map(|tags| json!(tags)));
        put("not_tags", self.not_tags.as_ref().map(|tags| json!(tags)));
        put("room_name_like", self.room_name_like.as_ref().map(|text| json!(text)));
        Value::Object(object)
    }

    /// Whether invites are listed, and not the rooms that the user is in.
    pub(super) fn lists_invites(&self) -> bool {
        self.is_invite == Some(true)
    }

    /// Whether it takes more than the index always knows.
    pub(super) fn need_facts(&self) -> bool {
        self.look_at_state() || self.look_at_tags()
    }

    /// Whether what they say of a room depends on its state.
    pub(super) fn look_at_state(&self) -> bool {
        self.is_encrypted.is_some()
            || self.room_types.is_some()
            || self.not_room_types.is_some()
            || self.room_name_like.is_some()
    }

    /// Whether it depends on its tags.
    pub(super) fn look_at_tags(&self) -> bool {
        self.tags.is_some() || self.not_tags.is_some()
    }

    /// Whether it depends on `m.direct`.
    pub(super) fn look_at_direct(&self) -> bool {
        self.is_dm.is_some()
    }

    /// Whether a room passes.
    pub(super) fn admit(&self, room: &IndexedRoom) -> bool {
        if self.is_dm.is_some_and(|wanted| wanted != room.is_dm) {
            return false;
        }
        if !self.need_facts() {
            return true;
        }
        // They were asked for; a room without any is one that nothing is known of.
        let Some(facts) = &room.facts else { return false };
        let has = |tags: &[String]| tags.iter().any(|tag| facts.tags.contains(tag));
        self.tags.as_deref().is_none_or(has)
            && !self.not_tags.as_deref().is_some_and(has)
            && self.admit_state(facts.is_encrypted, facts.room_type.as_deref(), &facts.name)
    }

    /// Whether a room passed, as far as its state goes, when that was `facts`.
    pub(super) fn admitted(&self, facts: &RoomFacts) -> bool {
        self.admit_state(facts.is_encrypted, facts.room_type.as_deref(), &facts.name)
    }

    fn admit_state(&self, is_encrypted: bool, room_type: Option<&str>, name: &str) -> bool {
        let has = |types: &[Option<String>]| types.iter().any(|one| one.as_deref() == room_type);
        let like = |text: &str| name.to_lowercase().contains(&text.to_lowercase());
        self.is_encrypted.is_none_or(|wanted| wanted == is_encrypted)
            && self.room_types.as_deref().is_none_or(has)
            && !self.not_room_types.as_deref().is_some_and(has)
            && self.room_name_like.as_deref().is_none_or(like)
    }
}

/// Types of rooms, `null` for none.
fn room_types(fields: &Fields<'_>, key: &str) -> Result<Option<Vec<Option<String>>>, Error> {
    let Some(value) = fields.get(key) else { return Ok(None) };
    let wrong = || fields.wrong_type(key, "a list of strings and nulls");
    let types: Vec<Option<String>> = value
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .map(|one| match one {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(wrong()),
        })
        .collect::<Result<_, _>>()?;
    few_enough(fields, key, types).map(Some)
}

fn tags(fields: &Fields<'_>, key: &str) -> Result<Option<Vec<String>>, Error> {
    let Some(tags) = fields.texts(key)? else { return Ok(None) };
    few_enough(fields, key, tags.into_iter().map(str::to_owned).collect()).map(Some)
}

fn few_enough<T>(fields: &Fields<'_>, key: &str, list: Vec<T>) -> Result<Vec<T>, Error> {
    if list.len() > MOST {
        return Err(fields.invalid(key, &format!("has more than {MOST} entries")));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use store::{Position, RoomNid, Section};

    use super::*;
    use crate::{account::room_index::Facts, unread::Unread};

    fn filters(json: Value) -> Result<Filters, String> {
        let Value::Object(object) = json else { panic!("an object") };
        Filters::read(&Fields::new("room_list.filters", &object)).map_err(|error| match error {
            Error::BadJson(text) | Error::InvalidParam(text) => text,
            other => other.to_string(),
        })
    }

    fn room() -> IndexedRoom {
        IndexedRoom {
            room_nid: RoomNid(1),
            room_id: "!a:b".into(),
            section: Section::Join,
            recency: 0,
            unread: Unread::default(),
            is_dm: true,
            dm_changed: Position(0),
            facts: Some(Facts {
                name: "Groß und Klein".to_owned(),
                room_type: Some("m.space".to_owned()),
                is_encrypted: false,
                tags: ["m.favourite".to_owned(), "u.work".to_owned()].into(),
                changed: Position(0),
            }),
        }
    }

    #[test]
    fn all_must_hold() {
        let check = |json: Value, passes: bool| {
            let filters = filters(json.clone()).unwrap();
            assert_eq!(filters.admit(&room()), passes, "{json}");
            assert_eq!(filters.to_json(), json);
        };
        check(json!({}), true);
        check(json!({"is_dm": true}), true);
        check(json!({"is_dm": false}), false);
        check(json!({"is_encrypted": false}), true);
        check(json!({"is_encrypted": true}), false);
        check(json!({"room_types": ["m.space"]}), true);
        check(json!({"room_types": [null]}), false);
        check(json!({"room_types": []}), false);
        check(json!({"not_room_types": [null]}), true);
        check(json!({"room_types": ["m.space"], "not_room_types": ["m.space"]}), false);
        check(json!({"tags": ["u.work", "u.other"]}), true);
        check(json!({"tags": ["u.other"]}), false);
        check(json!({"not_tags": ["u.other"]}), true);
        check(json!({"tags": ["u.work"], "not_tags": ["m.favourite"]}), false);
        check(json!({"room_name_like": "UND k"}), true);
        check(json!({"room_name_like": "other"}), false);
        check(json!({"is_dm": true, "tags": ["u.other"]}), false);
    }

    #[test]
    fn only_costly_filters_need_facts() {
        let bare = IndexedRoom { facts: None, ..room() };
        assert!(filters(json!({"is_dm": true, "is_invite": false})).unwrap().admit(&bare));
        assert!(!filters(json!({"tags": ["x"]})).unwrap().admit(&bare));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |json: Value, expected: &str| {
            assert_eq!(filters(json).unwrap_err(), expected);
        };
        let flag = "must be true or false";
        check(json!({"is_invite": null}), &format!("room_list.filters.is_invite: {flag}"));
        check(
            json!({"room_types": [1]}),
            "room_list.filters.room_types: must be a list of strings and nulls",
        );
        check(json!({"tags": [null]}), "room_list.filters.tags: must be a list of strings");
        check(
            json!({"not_tags": vec!["t"; 101]}),
            "room_list.filters.not_tags: has more than 100 entries",
        );
        check(json!({"room_name_like": 1}), "room_list.filters.room_name_like: must be a string");
        assert!(filters(json!({"unheard_of": 1})).is_ok());
    }
}
