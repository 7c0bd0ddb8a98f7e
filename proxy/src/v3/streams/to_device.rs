//! The stream `to_device`: the messages sent to this device, oldest first, byte for byte.
//!
//! The place in it is the number of the last message delivered. A client that goes on from there has
//! everything up to it: that is the session's acknowledgement.

use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value, json};
use store::{InboxPage, InboxSeq};

use super::{Answer, Stream, Subscription};
use crate::{
    error::Error,
    json::{ObjectWriter, write_list},
    token::{Reader, put_varint},
    v3::{fields::Fields, page_token::PageTokens, view::View, waiting::Source},
};

/// How many messages a reply has where the client does not say.
const DEFAULT_LIMIT: u64 = 100;

/// How many it has at most.
const MOST: u64 = 1000;

/// The stream.
pub(super) struct ToDevice;

struct Limited {
    limit: u64,
    /// The client asked for more: the reply says so even with nothing to tell.
    lowered: bool,
}

impl Stream for ToDevice {
    fn name(&self) -> &'static str {
        "to_device"
    }

    fn number(&self) -> u64 {
        2
    }

    fn is_fed_by(&self, source: Source) -> bool {
        source == Source::Inbox
    }

    fn read(
        &self,
        fields: &Fields<'_>,
        _pages: PageTokens<'_>,
    ) -> Result<Box<dyn Subscription>, Error> {
        let limit = fields.limit("limit", DEFAULT_LIMIT, MOST)?;
        Ok(Box::new(Limited { limit, lowered: fields.lowers("limit", MOST)? }))
    }

    /// A message delivered to a session is not delivered to it again, whatever it asks for in between.
    fn after_drop(&self, place: &[u8]) -> Option<Vec<u8>> {
        Some(place.to_vec())
    }

    fn acknowledges(&self, place: &[u8]) -> Option<InboxSeq> {
        decode(place)
    }
}

impl Subscription for Limited {
    fn sticky(&self) -> Map<String, Value> {
        Map::from_iter([("limit".to_owned(), json!(self.limit))])
    }

    fn answer<'a>(
        &'a self,
        view: &'a View<'a>,
        place: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Option<Answer>, Error>> {
        // Without a place: from the oldest message that is still held.
        let after = place.and_then(decode).unwrap_or(InboxSeq(0));
        async move {
            let page = view
                .store()
                .inbox(
                    view.account().account_id,
                    view.requester.device.device_nid,
                    after,
                    usize::try_from(self.limit).unwrap_or(usize::MAX),
                )
                .await?;
            Ok((self.lowered || !page.messages.is_empty()).then(|| answer(self.limit, &page)))
        }
        .boxed()
    }
}

fn answer(limit: u64, page: &InboxPage) -> Answer {
    let place = page.messages.last().map(|last| {
        let mut place = Vec::new();
        put_varint(&mut place, last.seq.0.unsigned_abs());
        place
    });
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    reply.raw("limit", limit.to_string().as_bytes());
    write_list(&page.messages, reply.key("events"), |message, out| {
        out.extend_from_slice(&message.message);
    });
    reply.end();
    Answer::says(json, place)
}

fn decode(place: &[u8]) -> Option<InboxSeq> {
    Reader::new(place).id().ok().map(InboxSeq)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::InboxMessage;

    use super::*;

    #[test]
    fn messages_are_told_byte_for_byte() {
        let message = |seq, text: &'static str| InboxMessage {
            seq: InboxSeq(seq),
            message: Bytes::from_static(text.as_bytes()),
        };
        let messages = vec![message(7, r#"{"a": 1.10}"#), message(300, r#"{"b":"\ud800"}"#)];
        let page = InboxPage { messages, more: true };
        let answer = answer(2, &page);
        let expected = r#"{"limit":2,"events":[{"a": 1.10},{"b":"\ud800"}]}"#;
        assert_eq!(String::from_utf8(answer.json.unwrap()).unwrap(), expected);
        let place = answer.place.unwrap();
        assert_eq!(ToDevice.acknowledges(&place), Some(InboxSeq(300)));
    }

    #[test]
    fn an_empty_page_moves_no_place() {
        let answer = answer(1000, &InboxPage::default());
        assert_eq!(answer.json.unwrap(), br#"{"limit":1000,"events":[]}"#);
        assert_eq!(answer.place, None);
    }
}
