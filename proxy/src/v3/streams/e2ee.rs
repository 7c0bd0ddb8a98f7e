//! The stream `e2ee`: whose devices changed, and how many keys of the session's device are left.
//! <https://spec.matrix.org/v1.16/client-server-api/#extensions-to-sync-1>
//!
//! The first reply has no changes: a client that knows nobody's devices asks for those that it needs. To-device messages
//! are a stream of their own.

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value};
use store::{DeviceListChanges, Position};

use super::{Answer, Stream, Subscription};
use crate::{
    account::KeyCounts,
    error::Error,
    fingerprint::fingerprint,
    json::{ObjectWriter, write_list, write_string},
    token::{Reader, put_varint},
    v3::{fields::Fields, page_token::PageTokens, view::View, waiting::Source},
};

/// How much of a hash tells key counts apart.
const HASH_BYTES: usize = 8;

/// The stream.
pub(super) struct E2ee;

/// The stream as a session asks for it: there is nothing to choose.
struct Keys;

/// What has been told: changes up to a poll, and these key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pos: Position,
    counts: [u8; HASH_BYTES],
}

impl Stream for E2ee {
    fn name(&self) -> &'static str {
        "e2ee"
    }

    fn number(&self) -> u64 {
        10
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        Place::decode(place).map(|place| place.pos)
    }

    fn is_fed_by(&self, source: Source) -> bool {
        matches!(source, Source::Account | Source::KeyCounts)
    }

    fn read(
        &self,
        _fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        Ok(Box::new(Keys))
    }
}

impl Subscription for Keys {
    fn sticky(&self) -> Map<String, Value> {
        Map::new()
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        let told = place.and_then(Place::decode);
        async move {
            let counts = view.requester.device.key_counts();
            let lists = match told {
                Some(told) if told.pos < view.now => {
                    let since = view.retained(told.pos)?;
                    let account_id = view.account().account_id;
                    view.store().device_list_changes(account_id, since, view.now).await?
                }
                _ => DeviceListChanges::default(),
            };
            Ok(answer(told, view.now, &lists, &counts))
        }
        .boxed()
    }
}

fn answer(
    told: Option<Place>,
    now: Position,
    lists: &DeviceListChanges,
    counts: &KeyCounts,
) -> Option<Answer> {
    let pos = told.map_or(now, |told| told.pos.max(now));
    let here = Place { pos, counts: hash(counts) };
    let has_changes = !(lists.changed.is_empty() && lists.left.is_empty());
    match told {
        Some(told) if !has_changes && told == here => None,
        Some(told) if !has_changes && told.counts == here.counts => {
            Some(Answer::nothing_until(here.encode()))
        }
        _ => Some(Answer::says(write(lists, counts), Some(here.encode()))),
    }
}

fn write(lists: &DeviceListChanges, counts: &KeyCounts) -> Vec<u8> {
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    let mut users = ObjectWriter::new(reply.key("device_lists"));
    for (name, list) in [("changed", &lists.changed), ("left", &lists.left)] {
        write_list(list, users.key(name), |user_id, out| write_string(user_id, out));
    }
    users.end();
    reply.raw("device_one_time_keys_count", &counts.one_time_keys_count);
    reply.raw("device_unused_fallback_key_types", &counts.unused_fallback_key_types);
    reply.end();
    json
}

fn hash(counts: &KeyCounts) -> [u8; HASH_BYTES] {
    let mut said = counts.one_time_keys_count.to_vec();
    // No JSON has it: what is before it is not taken for what is behind it.
    said.push(0);
    said.extend_from_slice(&counts.unused_fallback_key_types);
    fingerprint(&said)
}

impl Place {
    fn encode(self) -> Vec<u8> {
        let mut place = Vec::new();
        put_varint(&mut place, self.pos.0.unsigned_abs());
        place.extend_from_slice(&self.counts);
        place
    }

    fn decode(place: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(place);
        let pos = Position(reader.id().ok()?);
        Some(Self { pos, counts: reader.bytes(HASH_BYTES).ok()?.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn counts(one_time: &str, fallback: &str) -> KeyCounts {
        KeyCounts {
            one_time_keys_count: Bytes::from(one_time.to_owned()),
            unused_fallback_key_types: Bytes::from(fallback.to_owned()),
        }
    }

    /// What is answered at poll 7 to a client that was told up to `told`, of `{"a":1}` and `[]`.
    #[track_caller]
    fn check(told: Option<i64>, changed: &[&str], now: &KeyCounts, expected: Option<&str>) {
        let told = told.map(|pos| {
            Place { pos: Position(pos), counts: hash(&counts(r#"{"a":1}"#, "[]")) }.encode()
        });
        let lists = DeviceListChanges {
            changed: changed.iter().map(|&user_id| user_id.to_owned()).collect(),
            left: Vec::new(),
        };
        let told = told.as_deref().and_then(Place::decode);
        let answer = answer(told, Position(7), &lists, now);
        let json = answer.as_ref().map(|answer| match &answer.json {
            Some(json) => String::from_utf8(json.clone()).unwrap(),
            None => "silent".to_owned(),
        });
        assert_eq!(json.as_deref(), expected);
        if let Some(answer) = answer {
            let place = Place::decode(&answer.place.unwrap());
            assert_eq!(place, Some(Place { pos: Position(7), counts: hash(now) }));
        }
    }

    #[test]
    fn a_reply_has_always_all_three() {
        let same = counts(r#"{"a":1}"#, "[]");
        let empty = r#"{"device_lists":{"changed":[],"left":[]},"device_one_time_keys_count":{"a":1},"device_unused_fallback_key_types":[]}"#;
        check(None, &[], &same, Some(empty));
        let changed = empty.replace(r#""changed":[]"#, r#""changed":["@a:b"]"#);
        check(Some(5), &["@a:b"], &same, Some(&changed));
        check(Some(5), &[], &same, Some("silent"));
        check(Some(7), &[], &same, None);

        let fewer = empty.replace(r#"{"a":1}"#, r#"{"a":0}"#);
        check(Some(7), &[], &counts(r#"{"a":0}"#, "[]"), Some(&fewer));
        let fallback = empty.replace(r#"types":[]"#, r#"types":["a"]"#);
        check(Some(7), &[], &counts(r#"{"a":1}"#, r#"["a"]"#), Some(&fallback));
    }
}
