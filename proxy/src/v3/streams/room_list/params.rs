//! What a session asks of the list: read strictly, negotiated, and written back as it sticks.

use serde_json::{Map, Value, json};
use store::StateKeys;

use super::{
    filters::Filters,
    place::{Digest, PageToken},
    sort::Sort,
};
use crate::{
    error::Error,
    v3::{
        fields::Fields,
        page_token::{FIRST_PAGE, PageTokens},
    },
};

/// How many rooms a page has where the client does not say.
const DEFAULT_LIMIT: u64 = 20;

/// How many it has at most.
const MOST: u64 = 1000;

/// How many pairs of `state_events`, and how many spaces, there may be.
const MOST_NAMED: usize = 100;

/// Stands for any state key.
const ANY: &str = "*";

/// The list as a session asks for it.
pub(super) struct Params {
    /// How many rooms a page has; 0 for no page.
    pub(super) limit: usize,
    /// Its order.
    pub(super) sort: Sort,
    /// The state that comes with each room: type and state key, `*` for any.
    pub(super) state_events: Vec<(String, String)>,
    /// And the members who speak, and the heroes.
    pub(super) lazy_load_members: bool,
    /// Only the children of these are listed.
    pub(super) spaces: Vec<String>,
    /// Only rooms that pass these are listed.
    pub(super) filters: Filters,
    /// Whether notifications outside the active set are told.
    pub(super) track_notifications: bool,
    /// The client asked for another limit or order: the reply says so even with nothing to tell.
    pub(super) negotiated: bool,
    /// The page that is asked for.
    pub(super) page: Option<Asked>,
}

/// Which page is asked for.
pub(super) enum Asked {
    /// The first, as of now.
    First,
    /// The one after another.
    Next(PageToken),
}

impl Params {
    /// Reads them.
    pub(super) fn read(fields: &Fields<'_>, pages: PageTokens<'_>) -> Result<Self, Error> {
        let mut params = Self {
            limit: usize::try_from(DEFAULT_LIMIT).unwrap_or(usize::MAX),
            sort: Sort::default(),
            state_events: state_events(fields)?,
            lazy_load_members: fields.flag("lazy_load_members", true)?,
            spaces: distinct(fields.room_ids("spaces", MOST_NAMED)?),
            filters: fields
                .object("filters")?
                .map_or_else(|| Ok(Filters::default()), |filters| Filters::read(&filters))?,
            track_notifications: fields.flag("track_notifications", true)?,
            negotiated: false,
            page: None,
        };
        if let Some(p) = fields.object("p")? {
            params.read_page(&p, pages)?;
        }
        Ok(params)
    }

    fn read_page(&mut self, p: &Fields<'_>, pages: PageTokens<'_>) -> Result<(), Error> {
        let limit = p.limit_or_none("limit", DEFAULT_LIMIT, MOST)?;
        self.limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.negotiated = p.lowers("limit", MOST)?;
        if let Some(names) = p.texts("sort")? {
            // An order that we do not know is left out, and the reply says so.
            self.sort = Sort::of(&names);
            self.negotiated |= self.sort.names() != names;
        }
        if self.sort.by_space_order() && self.spaces.is_empty() {
            return Err(p.invalid("sort", "by_space_order needs spaces"));
        }
        self.page = match p.text("since")? {
            None => None,
            Some(FIRST_PAGE) => Some(Asked::First),
            Some(token) => {
                let token = PageToken::open(pages, token)
                    .ok_or_else(|| p.invalid("since", "is not a page of this list"))?;
                Some(Asked::Next(token))
            }
        };
        Ok(())
    }

    /// What sticks of them.
    pub(super) fn sticky(&self) -> Map<String, Value> {
        let mut sticky = self.list();
        sticky.remove("sort");
        let p = json!({ "limit": self.limit, "sort": self.sort.names() });
        sticky.insert("p".to_owned(), p);
        sticky.extend(self.shown());
        sticky.insert("track_notifications".to_owned(), json!(self.track_notifications));
        sticky
    }

    /// What makes the list the list that it is.
    pub(super) fn list_digest(&self) -> Digest {
        Digest::of(&Value::Object(self.list()))
    }

    /// What decides which state comes with a room.
    pub(super) fn state_digest(&self) -> Digest {
        Digest::of(&Value::Object(self.shown()))
    }

    /// The state that comes with each room.
    pub(super) fn state_keys(&self) -> Vec<StateKeys<'_>> {
        // The store can hold none of these, nor be asked for them.
        let is_odd = |text: &str| text.contains('\0');
        self.state_events
            .iter()
            .filter(|(event_type, state_key)| !is_odd(event_type) && !is_odd(state_key))
            .map(|(event_type, state_key)| StateKeys {
                event_type,
                state_key: (state_key != ANY).then_some(state_key.as_str()),
            })
            .collect()
    }

    /// Whether this state comes with each room.
    pub(super) fn shows_state(&self, event_type: &str, state_key: &str) -> bool {
        self.state_events
            .iter()
            .any(|(wanted, key)| wanted == event_type && (key == ANY || key == state_key))
    }

    /// Whether there is an active set at all.
    pub(super) fn follows_rooms(&self) -> bool {
        self.limit > 0 || !self.spaces.is_empty()
    }

    fn list(&self) -> Map<String, Value> {
        Map::from_iter([
            ("sort".to_owned(), json!(self.sort.names())),
            ("filters".to_owned(), self.filters.to_json()),
            ("spaces".to_owned(), json!(self.spaces)),
        ])
    }

    fn shown(&self) -> Map<String, Value> {
        Map::from_iter([
            ("state_events".to_owned(), json!(self.state_events)),
            ("lazy_load_members".to_owned(), json!(self.lazy_load_members)),
        ])
    }
}

fn state_events(fields: &Fields<'_>) -> Result<Vec<(String, String)>, Error> {
    let Some(value) = fields.get("state_events") else { return Ok(Vec::new()) };
    let wrong = || fields.wrong_type("state_events", "a list of pairs [type, state_key]");
    let pairs = value.as_array().ok_or_else(wrong)?;
    if pairs.len() > MOST_NAMED {
        return Err(fields.invalid("state_events", &format!("has more than {MOST_NAMED} pairs")));
    }
    pairs
        .iter()
        .map(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(event_type), Value::String(state_key)]) => {
                Ok((event_type.clone(), state_key.clone()))
            }
            _ => Err(wrong()),
        })
        .collect()
}

fn distinct(room_ids: Vec<&str>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::with_capacity(room_ids.len());
    for room_id in room_ids {
        if !kept.iter().any(|other| other == room_id) {
            kept.push(room_id.to_owned());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use store::{AccountId, Position};

    use super::*;
    use crate::token::Tokens;

    fn read(json: Value) -> Result<Params, String> {
        let tokens = Tokens::new(&[1; 32]);
        let pages = PageTokens::new(&tokens, AccountId(1), Position(0));
        let Value::Object(object) = json else { panic!("an object") };
        Params::read(&Fields::new("room_list", &object), pages).map_err(|error| match error {
            Error::BadJson(text) => format!("bad: {text}"),
            Error::InvalidParam(text) => format!("invalid: {text}"),
            other => other.to_string(),
        })
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let params = read(json!({})).ok().unwrap();
        let sticky = json!({
            "p": {"limit": 20, "sort": ["by_recency"]},
            "state_events": [], "lazy_load_members": true, "spaces": [], "filters": {},
            "track_notifications": true,
        });
        assert_eq!(Value::Object(params.sticky()), sticky);
        assert!(!params.negotiated && params.page.is_none());
    }

    #[test]
    fn what_sticks_is_read_as_it_was() {
        let asked = json!({
            "p": {"limit": 0, "sort": ["by_name", "by_space_order"]},
            "state_events": [["m.room.topic", ""], ["m.room.member", "*"]],
            "lazy_load_members": false, "spaces": ["!a:b"],
            "filters": {"is_dm": false, "room_types": ["m.space", null]},
            "track_notifications": false,
        });
        let params = read(asked.clone()).ok().unwrap();
        assert_eq!(Value::Object(params.sticky()), asked);
        let again = read(Value::Object(params.sticky())).ok().unwrap();
        assert_eq!(again.list_digest(), params.list_digest());
        assert_eq!(again.state_digest(), params.state_digest());
        assert!(params.shows_state("m.room.member", "@a:b"));
        assert!(!params.shows_state("m.room.topic", "x"));
    }

    #[test]
    fn what_is_beyond_us_is_negotiated() {
        let check = |p: Value, expected: Value, negotiated: bool| {
            let params = read(json!({ "p": p })).ok().unwrap();
            assert_eq!(params.sticky()["p"], expected);
            assert_eq!(params.negotiated, negotiated, "{expected}");
        };
        check(json!({"limit": 5000}), json!({"limit": 1000, "sort": ["by_recency"]}), true);
        check(
            json!({"sort": ["by_magic", "by_name"]}),
            json!({"limit": 20, "sort": ["by_name"]}),
            true,
        );
        check(json!({"sort": ["by_magic"]}), json!({"limit": 20, "sort": ["by_recency"]}), true);
        check(json!({"sort": ["by_name"]}), json!({"limit": 20, "sort": ["by_name"]}), false);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let check = |json: Value, expected: &str| {
            assert_eq!(read(json).err().as_deref(), Some(expected));
        };
        let pairs = "bad: room_list.state_events: must be a list of pairs [type, state_key]";
        check(json!({"state_events": {}}), pairs);
        check(json!({"state_events": ["m.room.name"]}), pairs);
        check(json!({"state_events": [["m.room.name"]]}), pairs);
        check(json!({"state_events": [["m.room.name", null]]}), pairs);
        check(json!({"state_events": [["a", "b", "c"]]}), pairs);
        check(
            json!({"state_events": vec![["t", ""]; 101]}),
            "invalid: room_list.state_events: has more than 100 pairs",
        );
        check(json!({"spaces": ["x"]}), "invalid: room_list.spaces: \"x\" is not a room ID");
        check(
            json!({"p": {"sort": ["by_space_order"]}}),
            "invalid: room_list.p.sort: by_space_order needs spaces",
        );
        check(
            json!({"p": {"sort": "by_name"}}),
            "bad: room_list.p.sort: must be a list of strings",
        );
        check(json!({"p": {"limit": -1}}), "invalid: room_list.p.limit: must not be negative");
        check(
            json!({"p": {"since": "2"}}),
            "invalid: room_list.p.since: is not a page of this list",
        );
        check(
            json!({"filters": {"is_dm": 1}}),
            "bad: room_list.filters.is_dm: must be true or false",
        );
        check(json!({"filters": []}), "bad: room_list.filters: must be an object");
        check(
            json!({"track_notifications": "no"}),
            "bad: room_list.track_notifications: must be true or false",
        );
    }
}
