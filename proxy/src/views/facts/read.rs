//! Reading what facts are made of out of raw events. Pure, and lenient: what cannot be read is not there.

use std::borrow::Cow;

use bytes::Bytes;
use store::StateKeys;

use super::Hero;
use crate::{
    ignored,
    json::{self, Object},
    views::{
        EventFields,
        room_name::{Basis, Candidate, HEROES},
    },
};

/// What the state of a room says of it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Its name and alias; of stripped state its members as well.
    pub(super) basis: Basis,
    /// `content.url` of `m.room.avatar`.
    pub(super) avatar_url: Option<String>,
    /// Whether it has `m.room.encryption`.
    pub(super) is_encrypted: bool,
    /// `type` of `m.room.create`.
    pub(super) room_type: Option<String>,
}

const fn of_type(event_type: &'static str) -> StateKeys<'static> {
    StateKeys { event_type, state_key: Some("") }
}

impl State {
    /// The events that it is read from.
    pub(super) const KEYS: &[StateKeys<'static>] = &[
        of_type("m.room.name"),
        of_type("m.room.canonical_alias"),
        of_type("m.room.encryption"),
        of_type("m.room.create"),
        of_type("m.room.avatar"),
    ];

    /// The same but for the avatar, which is the last.
    pub(super) const KEYS_WITHOUT_AVATAR: &[StateKeys<'static>] = Self::KEYS.split_at(4).0;

    /// Reads events of [`State::KEYS`], given by type.
    pub(super) fn read<'a>(events: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut state = Self::default();
        for (event_type, event) in events {
            state.add(event_type, event);
        }
        state
    }

    /// Reads `invite_state` or `knock_state`. Who is in it is all that is known of the members, and where nobody is, who
    /// invited the user.
    pub(super) fn read_stripped(stripped_state: &[u8], own_user_id: &str) -> Self {
        let mut state = Self::default();
        let events = Object::read(stripped_state)
            .and_then(|stripped| json::list(stripped.get("events")?))
            .unwrap_or_default();
        let mut heroes: Vec<Candidate> = Vec::new();
        for raw in events {
            let event = raw.get().as_bytes();
            let fields = EventFields::read(event);
            match (fields.event_type.as_str(), fields.state_key) {
                ("m.room.member", Some(user_id)) if user_id != own_user_id => {
                    heroes.retain(|known| known.hero.user_id != user_id);
                    heroes.push(candidate(user_id, Some(event)));
                }
                (event_type, Some(state_key)) if state_key.is_empty() => {
                    state.add(event_type, event);
                }
                _ => {}
            }
        }
        heroes.retain(|member| !member.is_gone);
        if heroes.is_empty() {
            let inviter = ignored::inviter(stripped_state, own_user_id);
            let inviter = inviter.filter(|user_id| is_another(user_id, own_user_id));
            heroes.extend(inviter.map(|user_id| candidate(user_id, None)));
        }
        state.basis.heroes = heroes;
        state
    }

    fn add(&mut self, event_type: &str, event: &[u8]) {
        let content = Object::read(event).and_then(|event| event.object("content"));
        let text = |key| content.as_ref().and_then(|content| text(content, key));
        match event_type {
            "m.room.name" => self.basis.name = text("name"),
            "m.room.canonical_alias" => self.basis.alias = text("alias"),
            "m.room.avatar" => self.avatar_url = text("url"),
            "m.room.create" => self.room_type = text("type"),
            "m.room.encryption" => self.is_encrypted = true,
            _ => {}
        }
    }
}

/// The users of `m.heroes`, but for the user, who ought not to be there.
pub(super) fn user_ids(heroes: &[u8], own_user_id: &str) -> Vec<String> {
    let Ok(list) = serde_json::from_slice(heroes) else { return Vec::new() };
    let mut users: Vec<String> = Vec::new();
    for raw in json::list(list).unwrap_or_default() {
        let user_id = json::text(raw).map(Cow::into_owned);
        let user_id = user_id.filter(|user_id| is_another(user_id, own_user_id));
        users.extend(user_id.filter(|user_id| !users.contains(user_id)));
    }
    users.truncate(HEROES);
    users
}

/// A member, as its member event says if there is one.
pub(super) fn candidate(user_id: String, event: Option<&[u8]>) -> Candidate {
    let content = event.and_then(Object::read).and_then(|event| event.object("content"));
    let text = |key| content.as_ref().and_then(|content| text(content, key));
    let membership = text("membership");
    Candidate {
        is_gone: membership.is_some_and(|it| it != "join" && it != "invite"),
        hero: Hero { user_id, displayname: text("displayname"), avatar_url: text("avatar_url") },
    }
}

/// The object `content.tags` of an event `m.tag`.
pub(super) fn tags(event: &[u8]) -> Option<Bytes> {
    let raw = Object::read(event)?.object("content")?.get("tags")?;
    raw.get().starts_with('{').then(|| Bytes::copy_from_slice(raw.get().as_bytes()))
}

/// A string of a content. An empty one says as little as none.
fn text(content: &Object<'_>, key: &str) -> Option<String> {
    content.get(key).and_then(json::text).filter(|text| !text.is_empty()).map(Cow::into_owned)
}

fn is_another(user_id: &str, own_user_id: &str) -> bool {
    !user_id.is_empty() && user_id != own_user_id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(events: &[(&str, &str)]) -> State {
        State::read(events.iter().map(|(event_type, event)| (*event_type, event.as_bytes())))
    }

    #[test]
    fn state_is_read_by_type() {
        let read = state(&[
            ("m.room.name", r#"{"content":{"name":"Den"}}"#),
            ("m.room.canonical_alias", r##"{"content":{"alias":"#den:x"}}"##),
            ("m.room.avatar", r#"{"content":{"url":"mxc://x/1","info":{}}}"#),
            ("m.room.create", r#"{"content":{"type":"m.space"}}"#),
            ("m.room.encryption", r#"{"content":{}}"#),
        ]);
        assert_eq!(read.basis.name.as_deref(), Some("Den"));
        assert_eq!(read.basis.alias.as_deref(), Some("#den:x"));
        assert_eq!(read.avatar_url.as_deref(), Some("mxc://x/1"));
        assert_eq!(read.room_type.as_deref(), Some("m.space"));
        assert!(read.is_encrypted);
        let nothing = state(&[]);
        assert!(!nothing.is_encrypted && nothing.basis.is_made_of_members());
    }

    #[test]
    fn what_cannot_be_read_is_not_there() {
        let check = |name: &str, expected: Option<&str>| {
            let read = state(&[("m.room.name", name)]);
            assert_eq!(read.basis.name.as_deref(), expected, "{name}");
        };
        check(r#"{"content":{"name":"a\"b"}}"#, Some("a\"b"));
        check(r#"{"content":{"name":"N\u0000l"}}"#, Some("N\0l"));
        check(r#"{"content":{"name":"\ud83d\ude00"}}"#, Some("😀"));
        check(r#"{"content":{"name":"a","name":"b"}}"#, Some("b"));
        check(r#"{"content":{"name":"\ud800"}}"#, None);
        check(r#"{"content":{"name":""}}"#, None);
        check(r#"{"content":{"name":null}}"#, None);
        check(r#"{"content":{"name":["a"]}}"#, None);
        check(r#"{"content":{"\ud800":1}}"#, None);
        check(r#"{"content":"x"}"#, None);
        check("[]", None);
        check("\u{0}", None);
    }

    #[test]
    fn heroes_are_other_users_each_once() {
        let check = |heroes: &str, expected: &[&str]| {
            assert_eq!(user_ids(heroes.as_bytes(), "@me:x"), expected, "{heroes}");
        };
        check(r#"["@b:x","@a:x"]"#, &["@b:x", "@a:x"]);
        check(r#"["@me:x","@a:x","@a:x",5,null,"","\ud800",{}]"#, &["@a:x"]);
        check(r#"["1","2","3","4","5","6"]"#, &["1", "2", "3", "4", "5"]);
        check("[]", &[]);
        check("{}", &[]);
        check("x", &[]);
    }

    #[test]
    fn a_member_event_says_how_a_hero_looks() {
        let check = |event: Option<&str>, is_gone: bool, displayname: Option<&str>| {
            let found = candidate("@a:x".into(), event.map(str::as_bytes));
            let displayname = displayname.map(str::to_owned);
            let hero = Hero { user_id: "@a:x".into(), displayname, avatar_url: None };
            assert_eq!(found, Candidate { hero, is_gone }, "{event:?}");
        };
        check(None, false, None);
        check(Some(r#"{"content":{"membership":"join","displayname":"A"}}"#), false, Some("A"));
        check(Some(r#"{"content":{"membership":"invite","displayname":""}}"#), false, None);
        check(Some(r#"{"content":{"membership":"leave","displayname":"A"}}"#), true, Some("A"));
        check(Some(r#"{"content":{"membership":"ban","displayname":5}}"#), true, None);
        let pictured = br#"{"content":{"membership":"join","avatar_url":"mxc://x/1"}}"#;
        let found = candidate("@a:x".into(), Some(pictured));
        assert_eq!(found.hero.avatar_url.as_deref(), Some("mxc://x/1"));
    }

    #[test]
    fn tags_are_an_object() {
        let check = |event: &str, expected: Option<&str>| {
            assert_eq!(tags(event.as_bytes()).as_deref(), expected.map(str::as_bytes), "{event}");
        };
        let raw = r#"{ "m.favourite":{"order":0.10}}"#;
        check(&format!(r#"{{"type":"m.tag","content":{{"tags": {raw} }}}}"#), Some(raw));
        check(r#"{"content":{"tags":{}}}"#, Some("{}"));
        check(r#"{"content":{"tags":[]}}"#, None);
        check(r#"{"content":{}}"#, None);
        check("x", None);
    }

    /// The name that stripped state makes for `@me:x`.
    fn offered_name(events: &str) -> String {
        let stripped_state = format!(r#"{{"events":[{events}]}}"#);
        State::read_stripped(stripped_state.as_bytes(), "@me:x").basis.into_name().0
    }

    fn member(user_id: &str, sender: &str, content: &str) -> String {
        format!(
            r#"{{"type":"m.room.member","state_key":"{user_id}","sender":"{sender}","content":{{{content}}}}}"#
        )
    }

    #[test]
    fn an_invite_is_named_by_its_stripped_state() {
        let name = r#"{"type":"m.room.name","state_key":"","content":{"name":"Den"}}"#;
        let no_state = r#"{"type":"m.room.name","content":{"name":"Den"}}"#;
        let invite = member("@me:x", "@a:x", r#""membership":"invite","displayname":"Me""#);
        let alice = member("@a:x", "@a:x", r#""membership":"join","displayname":"Alice""#);
        let gone = member("@b:x", "@b:x", r#""membership":"leave","displayname":"Bob""#);
        let knock = member("@me:x", "@me:x", r#""membership":"knock""#);

        assert_eq!(offered_name(&format!("{name},{invite},{alice}")), "Den");
        assert_eq!(offered_name(&format!("{invite},{alice}")), "Alice");
        assert_eq!(offered_name(&format!("{invite},{alice},{alice}")), "Alice");
        assert_eq!(offered_name(&format!("{no_state},{invite},{gone}")), "@a:x");
        assert_eq!(offered_name(&knock), "Empty room");
        assert_eq!(offered_name(""), "Empty room");
        let unreadable = State::read_stripped(b"\xff", "@me:x");
        assert_eq!(unreadable.basis.into_name().0, "Empty room");
    }

    #[test]
    fn an_invite_has_the_other_facts_as_well() {
        let state = br#"{"events":[
            {"type":"m.room.create","state_key":"","content":{"type":"m.space"}},
            {"type":"m.room.avatar","state_key":"","content":{"url":"mxc://x/1"}},
            {"type":"m.room.encryption","state_key":"","content":{}}
        ]}"#;
        let read = State::read_stripped(state, "@me:x");
        assert_eq!(read.room_type.as_deref(), Some("m.space"));
        assert_eq!(read.avatar_url.as_deref(), Some("mxc://x/1"));
        assert!(read.is_encrypted);
    }
}
