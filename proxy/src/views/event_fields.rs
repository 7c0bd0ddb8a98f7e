//! The few fields of a stored event that views and filters look at.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    filter::Seen,
    json::{self, Object},
};

/// Fields of an event, read leniently: what cannot be read is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFields {
    /// Its ID.
    pub(crate) event_id: String,
    /// Its type.
    pub(crate) event_type: String,
    /// Its sender.
    pub(crate) sender: String,
    /// Its state key, if it is a state event.
    pub(crate) state_key: Option<String>,
    /// Whether `content.url` is a string.
    pub(crate) has_url: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    event_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sender: Option<&'a RawValue>,
    #[serde(borrow, default)]
    state_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl EventFields {
    /// Reads the fields of an event.
    pub(crate) fn read(body: &[u8]) -> Self {
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(body) else {
            return Self::read_oddity(body);
        };
        Self::of(
            envelope.event_id,
            envelope.event_type,
            envelope.sender,
            envelope.state_key,
            envelope.content,
        )
    }

    /// What a filter looks at.
    pub(crate) fn seen(&self) -> Seen<'_> {
        Seen { event_type: &self.event_type, sender: Some(&self.sender), has_url: self.has_url }
    }

    /// Reads an event that has duplicated keys, of which the last counts.
    fn read_oddity(body: &[u8]) -> Self {
        let Some(object) = Object::read(body) else { return Self::default() };
        Self::of(
            object.get("event_id"),
            object.get("type"),
            object.get("sender"),
            object.get("state_key"),
            object.get("content"),
        )
    }

    fn of(
        event_id: Option<&RawValue>,
        event_type: Option<&RawValue>,
        sender: Option<&RawValue>,
        state_key: Option<&RawValue>,
        content: Option<&RawValue>,
    ) -> Self {
        let owned =
            |raw: Option<&RawValue>| raw.and_then(json::text).map(std::borrow::Cow::into_owned);
        let has_url = content
            .filter(|content| content.get().contains("\"url\""))
            .and_then(|content| Object::of(content)?.get("url"))
            .is_some_and(|url| url.get().starts_with('"'));
        Self {
            event_id: owned(event_id).unwrap_or_default(),
            event_type: owned(event_type).unwrap_or_default(),
            sender: owned(sender).unwrap_or_default(),
            state_key: owned(state_key),
            has_url,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EventFields;

    #[test]
    fn fields_are_read_leniently() {
        let fields = EventFields::read(
            br#"{"type":"t","event_id":"$1","sender":"@a:x","content":{"url":"mxc://x/y","body":"\ud800"}}"#,
        );
        assert_eq!((fields.event_type.as_str(), fields.sender.as_str()), ("t", "@a:x"));
        assert!(fields.has_url && fields.state_key.is_none());
        let twice = EventFields::read(br#"{"type":"a","type":"b"}"#);
        assert_eq!(twice.event_type, "b");
        assert_eq!(EventFields::read(b"[]").event_type, "");
    }
}
