//! The stream `presence`: who is online, and what the user is shown as while its client syncs.
//! <https://spec.matrix.org/v1.16/client-server-api/#presence>
//!
//! The first reply is everybody who is not offline, later ones are what changed. The store has the latest presence of
//! each user and when it came, so no place is ever too old.

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use store::{Position, StoredPresence};

use super::{Answer, Stream, Subscription};
use crate::{
    account::PresenceWish,
    clock::now_ms,
    error::Error,
    event_json::{is_offline, write_presence},
    json::{ObjectWriter, write_list},
    token::{Reader, put_varint},
    v3::{fields::Fields, page_token::PageTokens, view::View},
};

/// The stream.
pub(super) struct Presence;

/// The stream as a session asks for it.
struct Shown {
    wish: PresenceWish,
}

impl Stream for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn number(&self) -> u64 {
        9
    }

    fn reaches(&self, place: &[u8]) -> Option<Position> {
        decode(place)
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        let wish = match fields.text("set_presence")? {
            None | Some("online") => PresenceWish::Online,
            Some("unavailable") => PresenceWish::Unavailable,
            Some("offline") => PresenceWish::Offline,
            Some(_) => {
                let expected = "must be online, unavailable or offline";
                return Err(fields.invalid("set_presence", expected));
            }
        };
        Ok(Box::new(Shown { wish }))
    }
}

impl Subscription for Shown {
    fn sticky(&self) -> Map<String, Value> {
        Map::from_iter([("set_presence".to_owned(), json!(self.wish.as_str()))])
    }

    fn presence(&self) -> Option<PresenceWish> {
        Some(self.wish)
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        let told = place.and_then(decode);
        async move {
            if told.is_some_and(|told| told >= view.now) {
                return Ok(None);
            }
            let account_id = view.account().account_id;
            let since = told.unwrap_or(Position(0));
            let mut presence = view.store().presence(account_id, since, view.now).await?;
            if told.is_none() {
                // To who knows nobody, everybody is offline who is not told of.
                presence.retain(|presence| !is_offline(&presence.event));
            } else if presence.is_empty() {
                return Ok(Some(Answer::nothing_until(encode(view.now))));
            }
            Ok(Some(Answer::says(write(&presence, now_ms()), Some(encode(view.now)))))
        }
        .boxed()
    }
}

/// Writes the reply at a moment, in milliseconds: how long ago somebody was active counts from there.
fn write(presence: &[StoredPresence], now: i64) -> Vec<u8> {
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    write_list(presence, reply.key("events"), |presence, out| {
        write_presence(&presence.event, presence.last_active_ts, now, out);
    });
    reply.end();
    json
}

fn encode(told: Position) -> Vec<u8> {
    let mut place = Vec::new();
    put_varint(&mut place, told.0.unsigned_abs());
    place
}

fn decode(place: &[u8]) -> Option<Position> {
    Reader::new(place).id().ok().map(Position)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn places_round_trip() {
        for told in [0, 1, 300, i64::MAX] {
            assert_eq!(decode(&encode(Position(told))), Some(Position(told)));
        }
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn activity_counts_from_the_moment_of_the_reply() {
        let presence = StoredPresence {
            user_id: "@a:b".to_owned(),
            event: Bytes::from_static(br#"{"content":{"presence":"online"},"sender":"@a:b"}"#),
            last_active_ts: Some(1_000),
        };
        let written = write(&[presence.clone(), presence], 4_000);
        let event = r#"{"content":{"presence":"online","last_active_ago":3000},"sender":"@a:b"}"#;
        let expected = format!(r#"{{"events":[{event},{event}]}}"#);
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        assert_eq!(write(&[], 4_000), br#"{"events":[]}"#);
    }
}
