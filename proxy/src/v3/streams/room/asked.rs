//! What a client asks for: the parameters of the stream. Pure.

use serde_json::{Map, Value, json};

use crate::{
    error::Error,
    filter::{EventFilter, EventFormat},
    fingerprint::fingerprint,
    v3::{fields::Fields, streams::followed::Followed},
};

/// How long a timeline is where the client does not say.
const DEFAULT_LIMIT: u64 = 20;

/// How long it is at most.
const MOST: u64 = 100;

/// How many types a list may have.
const MOST_TYPES: usize = 1000;

/// How many events a client may say that it holds.
const MOST_EARLIEST: usize = 100;

/// The parameters.
#[derive(Debug)]
pub(super) struct Asked {
    /// Which rooms.
    pub(super) followed: Followed,
    /// How many events a timeline may have.
    pub(super) limit: u64,
    /// The client asked for more: the reply says so even with nothing to tell.
    pub(super) lowered: bool,
    types: Option<Vec<String>>,
    not_types: Vec<String>,
    /// Members only as they matter to the timeline.
    pub(super) lazy: bool,
    /// The form of events.
    pub(super) format: EventFormat,
    /// Events from which on the client holds the timelines.
    pub(super) earliest: Vec<String>,
}

impl Asked {
    /// Reads the parameters.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let format = match fields.text("event_format")? {
            None | Some("client") => EventFormat::Client,
            Some("federation") => EventFormat::Federation,
            Some(_) => return Err(fields.invalid("event_format", "is client or federation")),
        };
        let earliest = list(fields, "earliest_timeline_event_ids", MOST_EARLIEST)?;
        let earliest = earliest.unwrap_or_default();
        if let Some(wrong) = earliest.iter().find(|id| !is_event_id(id)) {
            let problem = format!("{wrong:?} is not an event ID");
            return Err(fields.invalid("earliest_timeline_event_ids", &problem));
        }
        Ok(Self {
            followed: Followed::read(fields)?,
            limit: fields.limit_or_none("timeline_limit", DEFAULT_LIMIT, MOST)?,
            lowered: fields.lowers("timeline_limit", MOST)?,
            types: list(fields, "types", MOST_TYPES)?,
            not_types: list(fields, "not_types", MOST_TYPES)?.unwrap_or_default(),
            lazy: fields.flag("lazy_load_members", true)?,
            format,
            earliest,
        })
    }

    /// As they stick: what is not said is left out.
    pub(super) fn sticky(&self) -> Map<String, Value> {
        let mut sticky = Map::from_iter([
            self.followed.sticky(),
            ("timeline_limit".to_owned(), json!(self.limit)),
            ("lazy_load_members".to_owned(), json!(self.lazy)),
            ("event_format".to_owned(), json!(self.format_name())),
        ]);
        if let Some(types) = &self.types {
            sticky.insert("types".to_owned(), json!(types));
        }
        if !self.not_types.is_empty() {
            sticky.insert("not_types".to_owned(), json!(self.not_types));
        }
        if !self.earliest.is_empty() {
            sticky.insert("earliest_timeline_event_ids".to_owned(), json!(self.earliest));
        }
        sticky
    }

    /// Which events come into timelines.
    pub(super) fn timeline(&self) -> EventFilter {
        EventFilter::of_types(self.limit, self.types.as_deref(), &self.not_types)
    }

    /// Which state comes.
    pub(super) fn state(&self) -> EventFilter {
        let mut filter = self.timeline();
        filter.lazy_load_members = self.lazy;
        filter
    }

    /// A number for the types and the format: others have another one, as far as chance allows.
    pub(super) fn shape(&self) -> u64 {
        let shape = json!([self.types, self.not_types, self.format_name()]).to_string();
        u64::from_be_bytes(fingerprint(shape.as_bytes()))
    }

    fn format_name(&self) -> &'static str {
        match self.format {
            EventFormat::Client => "client",
            EventFormat::Federation => "federation",
        }
    }
}

/// A list of strings; `null` counts as left out.
fn list(fields: &Fields<'_>, key: &str, most: usize) -> Result<Option<Vec<String>>, Error> {
    if fields.get(key).is_some_and(Value::is_null) {
        return Ok(None);
    }
    let Some(texts) = fields.texts(key)? else { return Ok(None) };
    if texts.len() > most {
        return Err(fields.invalid(key, &format!("has more than {most} entries")));
    }
    Ok(Some(texts.into_iter().map(str::to_owned).collect()))
}

fn is_event_id(text: &str) -> bool {
    text.len() <= 255 && text.starts_with('$') && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Seen;

    fn read(mut params: Value) -> Result<Asked, Error> {
        if params.get("room_id").is_none() {
            params["room_id"] = json!("!a:b");
        }
        let asked = Asked::read(&Fields::new("room", params.as_object().unwrap()))?;
        let sticky = asked.sticky();
        let again = Asked::read(&Fields::new("room", &sticky))?;
        assert_eq!(again.sticky(), sticky, "what sticks is read as it was written");
        assert_eq!(again.shape(), asked.shape());
        Ok(asked)
    }

    #[track_caller]
    fn refused(params: Value, expected: &str) {
        let text = match read(params) {
            Err(Error::BadJson(text)) => format!("bad: {text}"),
            Err(Error::InvalidParam(text)) => format!("invalid: {text}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let asked = read(json!({})).unwrap();
        assert_eq!((asked.limit, asked.lowered, asked.lazy), (20, false, true));
        assert_eq!(asked.format, EventFormat::Client);
        assert!(asked.timeline().admits_everything_in("!a:b"));
        assert!(asked.state().lazy_load_members);
        let nulls = json!({"types": null, "not_types": null, "earliest_timeline_event_ids": null});
        assert_eq!(read(nulls).unwrap().sticky(), asked.sticky());
    }

    #[test]
    fn limits_are_lowered_and_0_is_one() {
        let limit = |limit: Value| {
            let asked = read(json!({"timeline_limit": limit})).unwrap();
            (asked.limit, asked.lowered)
        };
        assert_eq!(limit(json!(0)), (0, false));
        assert_eq!(limit(json!(100)), (100, false));
        assert_eq!(limit(json!(101)), (100, true));
        refused(
            json!({"timeline_limit": -1}),
            "invalid: room.timeline_limit: must not be negative",
        );
        refused(json!({"timeline_limit": "5"}), "bad: room.timeline_limit: must be an integer");
    }

    #[test]
    fn types_are_patterns() {
        let asked = read(json!({"types": ["m.room.*", "m.x"], "not_types": ["*.topic"]})).unwrap();
        let admits = |event_type| {
            let seen = Seen { event_type, sender: Some("@a:b"), has_url: false };
            assert_eq!(asked.timeline().admits(seen), asked.state().admits(seen));
            asked.timeline().admits(seen)
        };
        assert!(admits("m.room.name") && admits("m.x"));
        assert!(!admits("m.room.topic") && !admits("m.xy"));
        let none = read(json!({"types": []})).unwrap();
        assert!(!none.timeline().admits_anything());
        let many: Vec<String> = (0..=MOST_TYPES).map(|n| n.to_string()).collect();
        refused(json!({"types": many}), "invalid: room.types: has more than 1000 entries");
        refused(json!({"not_types": "m"}), "bad: room.not_types: must be a list of strings");
    }

    #[test]
    fn shapes_differ_with_types_and_format_alone() {
        let shape = |params: Value| read(params).unwrap().shape();
        let all = shape(json!({}));
        for other in [
            json!({"types": []}),
            json!({"types": ["a"]}),
            json!({"not_types": ["a"]}),
            json!({"event_format": "federation"}),
        ] {
            assert_ne!(shape(other.clone()), all, "{other}");
        }
        assert_ne!(shape(json!({"types": ["a"]})), shape(json!({"not_types": ["a"]})));
        let same = json!({"timeline_limit": 3, "lazy_load_members": false, "room_id": ["!c:d"],
            "earliest_timeline_event_ids": ["$e"], "event_format": "client"});
        assert_eq!(shape(same), all);
    }

    #[test]
    fn other_values_are_refused() {
        refused(
            json!({"event_format": "x"}),
            "invalid: room.event_format: is client or federation",
        );
        refused(json!({"event_format": 1}), "bad: room.event_format: must be a string");
        refused(
            json!({"lazy_load_members": 1}),
            "bad: room.lazy_load_members: must be true or false",
        );
        let many: Vec<String> = (0..=MOST_EARLIEST).map(|n| format!("${n}")).collect();
        let earliest = |list: Value| json!({"earliest_timeline_event_ids": list});
        refused(
            earliest(json!(many)),
            "invalid: room.earliest_timeline_event_ids: has more than 100 entries",
        );
        refused(
            earliest(json!(["$a\0"])),
            r#"invalid: room.earliest_timeline_event_ids: "$a\0" is not an event ID"#,
        );
        refused(
            earliest(json!([7])),
            "bad: room.earliest_timeline_event_ids: must be a list of strings",
        );
    }
}
