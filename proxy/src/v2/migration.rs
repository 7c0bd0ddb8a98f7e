//! A `since` that the homeserver minted: a client that synced with it directly, until somebody put us in
//! between.
//!
//! It is answered with the homeserver's own incremental reply, up to a place where the account stream goes on:
//! - A device that was never polled first acknowledges its `since` upstream, before its poller begins. Its own
//!   polls then bring exactly the to-device messages that the client does not have.
//! - Then the account is made ready as ever, and only after that the homeserver is asked what happened since.
//!   The reply covers more than we have stored; what the stream brings after the place that the answer's
//!   `next_batch` names is taken out, so that it comes once.
//! - To-device messages come from the inbox alone, as in every other answer.
//!
//! A `since` that the homeserver refuses is treated as none: a 400 would keep the client from ever going on.
//!
//! Neighbours: `sync` alone.

use std::{collections::HashSet, sync::Arc};

use hyper::{Response, StatusCode};
use serde_json::value::RawValue;
use store::InboxSeq;

use crate::{
    account::{MemoryId, error_of},
    auth::Requester,
    body::Body,
    error::{Error, json_response},
    json::{self, Object, ObjectWriter, write_list},
    state::State,
    sync_token::SyncToken,
    upstream::{self, SyncQuery, aside, unlike_any_other},
};

use super::answer::INBOX_LIMIT;

/// What the client's query says, apart from what we decide.
const OURS: [&str; 3] = ["timeout", "set_presence", "access_token"];

/// Nothing of an answer but its `next_batch`.
const NOTHING: &str =
    r#"{"room":{"rooms":[]},"presence":{"types":[]},"account_data":{"types":[]}}"#;

/// Before the requester's device is polled for the first time: tells the homeserver that the client has what
/// its `since` covers. `false` when the homeserver knows no such position.
pub(super) async fn begin(
    state: &State,
    requester: &Requester,
    since: &str,
) -> Result<bool, Error> {
    if requester.device.is_polled() {
        return Ok(true);
    }
    let query = SyncQuery {
        since: Some(since.to_owned()),
        filter: NOTHING.to_owned(),
        timeout: unlike_any_other(),
        set_presence: "offline",
        use_state_after: false,
        on_behalf_of: requester.device.on_behalf_of(),
    };
    match state.upstream.sync(&requester.access_token, &query).await {
        Ok(_) => Ok(true),
        Err(error) if is_refused(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The answer; `None` when the homeserver knows no such position.
pub(super) async fn answer(
    state: &Arc<State>,
    requester: &Requester,
    query: &str,
    since: &str,
) -> Result<Option<Response<Body>>, Error> {
    let (account, device) = (&requester.account, &requester.device);
    // As late a place as can be: what lies behind it comes with the next answer.
    account.poll_afresh(state, device).await;
    // What the homeserver says from now on covers everything up to here.
    let pos = account.pos();
    let reply = match state.upstream.sync_with(&requester.access_token, &asked(query)).await {
        Ok(reply) => reply,
        Err(error) if is_refused(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    tracing::info!(user_id = %account.user_id, since, "a client comes over from the homeserver");
    // And the stream covers what the homeserver said. Otherwise what comes again with it cannot be told.
    if !account.poll_rooms_afresh(state, device).await {
        return Err(account.refusal().as_ref().map_or(Error::UpstreamTimeout, error_of));
    }
    let later = state.store.event_ids_after(account.account_id, pos).await?;
    let later: HashSet<String> = later.into_iter().collect();

    let acked = state.store.v2_acked(device.device_nid).await?.unwrap_or(InboxSeq(0));
    let inbox =
        state.store.inbox(account.account_id, device.device_nid, acked, INBOX_LIMIT).await?;
    let inbox_seq = inbox.messages.last().map_or(acked, |last| last.seq);
    let members = MemoryId::default();
    let next_batch = SyncToken::Batch { pos, device: device.device_nid, inbox: inbox_seq, members };

    let invalid = || Error::from(upstream::Error::InvalidBody);
    let told = Object::read(&reply).ok_or_else(invalid)?;
    let mut out = Vec::with_capacity(reply.len());
    let mut object = ObjectWriter::new(&mut out);
    json::write_string(
        &next_batch.mint(&state.tokens, account.account_id),
        object.key("next_batch"),
    );
    if !inbox.messages.is_empty() {
        let mut to_device = ObjectWriter::new(object.key("to_device"));
        write_list(&inbox.messages, to_device.key("events"), |message, out| {
            out.extend_from_slice(&message.message);
        });
        to_device.end();
    }
    for (key, value) in told.members() {
        match &*key {
            "next_batch" | "to_device" => {}
            "rooms" if !later.is_empty() => rooms_without(value, &later, object.key("rooms")),
            _ => object.raw(&key, value.get().as_bytes()),
        }
    }
    object.end();
    Ok(Some(json_response(StatusCode::OK, out)))
}

/// The client's own query, answered at once.
fn asked(query: &str) -> String {
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| !OURS.contains(&&**name))
        .collect();
    aside(parameters.iter().map(|(name, value)| (&**name, &**value)))
}

fn is_refused(error: &upstream::Error) -> bool {
    matches!(error, upstream::Error::Matrix { status: 400, .. })
}

/// Writes the sections of `rooms`, with some events left out of timelines.
fn rooms_without(rooms: &RawValue, unwanted: &HashSet<String>, out: &mut Vec<u8>) {
    edit(rooms, out, |_section, rooms, out| {
        edit(rooms, out, |_room_id, room, out| {
            edit(room, out, |key, value, out| match key {
                "timeline" => edit(value, out, |key, value, out| match key {
                    "events" => events_without(value, unwanted, out),
                    _ => out.extend_from_slice(value.get().as_bytes()),
                }),
                _ => out.extend_from_slice(value.get().as_bytes()),
            });
        });
    });
}

/// Writes an object with each value as `write` would have it; anything else as it is.
fn edit(value: &RawValue, out: &mut Vec<u8>, mut write: impl FnMut(&str, &RawValue, &mut Vec<u8>)) {
    let Some(object) = Object::of(value) else {
        return out.extend_from_slice(value.get().as_bytes());
    };
    let mut writer = ObjectWriter::new(out);
    for (key, value) in object.members() {
        write(&key, value, writer.key(&key));
    }
    writer.end();
}

fn events_without(events: &RawValue, unwanted: &HashSet<String>, out: &mut Vec<u8>) {
    let Some(list) = json::list(events) else {
        return out.extend_from_slice(events.get().as_bytes());
    };
    let kept = list.into_iter().filter(|event| {
        let id = Object::of(event).and_then(|event| event.get("event_id")).and_then(json::text);
        !id.is_some_and(|id| unwanted.contains(&*id))
    });
    write_list(kept, out, |event, out| out.extend_from_slice(event.get().as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_come_later_are_left_out_and_all_else_stays() {
        let check = |rooms: &str, unwanted: &[&str], expected: &str| {
            let raw: &RawValue = serde_json::from_str(rooms).expect("the test's JSON is good");
            let unwanted = unwanted.iter().map(|id| String::from(*id)).collect();
            let mut out = Vec::new();
            rooms_without(raw, &unwanted, &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        check(
            r#"{"join":{"!a":{"timeline":{"events":[{"event_id":"$1","n":1.10},{"event_id":"$2"}],"limited":true},"x":"\ud800"}}}"#,
            &["$2", "$3"],
            r#"{"join":{"!a":{"timeline":{"events":[{"event_id":"$1","n":1.10}],"limited":true},"x":"\ud800"}}}"#,
        );
        check(r#"{"join":{"!a":7},"leave":[]}"#, &["$1"], r#"{"join":{"!a":7},"leave":[]}"#);
    }

    #[test]
    fn the_clients_own_question_is_asked() {
        let query =
            asked("since=s1%262&filter=%7B%7D&timeout=30000&access_token=x&full_state=true");
        assert!(query.starts_with("since=s1%262&filter=%7B%7D&full_state=true&set"), "{query}");
        assert!(!query.contains("access_token") && !query.contains("30000"), "{query}");
    }
}
