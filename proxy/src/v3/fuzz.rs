//! Requests, places and tokens of sync v3.

use std::{collections::BTreeSet, time::Duration};

use ::tests::fuzz::{Choices, check, corpus, json, text};
use serde_json::{Map, Value};
use store::{AccountId, Position, RoomNid, SessionId};

use super::{
    page_token::PageTokens,
    params::{Params, Request},
    request::{Query, read_body},
    sets::{Sets, decode_rooms, encode_rooms},
    streams::STREAMS,
    token::{Places, SessionToken},
};
use crate::{
    error::Error,
    token::{TokenError, TokenKind, Tokens, put_varint},
};

const ACCOUNT: AccountId = AccountId(1);

#[track_caller]
fn refused(error: Error) {
    let text = error.to_string();
    let status = error.into_response().status();
    assert!(status.is_client_error() && status != 401, "{status}: {text}");
}

#[test]
fn v3_query() {
    let seeds = corpus("v3_query");
    let most = Duration::from_mins(1);
    check("v3_query", |choices| {
        let query = text(choices, &seeds);
        choices.note("query", &query);
        let query = Query::parse(Some(&query));
        assert_ne!(query.since.as_deref(), Some(""));
        match query.timeout(most) {
            Ok(timeout) => assert!(timeout <= most),
            Err(error) => refused(error),
        }
    });
}

/// The bodies of one session after another: each is refused for a reason of the client's, or sticks.
#[test]
fn v3_body() {
    let seeds = corpus("v3_body");
    let tokens = Tokens::new(&[1; 32]);
    let pages = PageTokens::new(&tokens, ACCOUNT, Position(0));
    check("v3_body", |choices| {
        let mut params = Params::default();
        for _ in 0..=choices.below(3) {
            let bytes = json(choices, &seeds);
            choices.note("body", &String::from_utf8_lossy(&bytes));
            let mut body = match read_body(&bytes) {
                Ok(body) => body,
                Err(error) => return refused(error),
            };
            if choices.one_in(3) {
                asks_for_a_page(choices, &tokens, &mut body);
            }
            match Request::read(&params, &body, pages) {
                Err(error) => refused(error),
                Ok(request) => {
                    sticks(&params, &body, &request, pages);
                    for wanted in &request.wanted {
                        let subscription = &wanted.subscription;
                        let rooms = subscription.room_ids();
                        assert!(rooms.iter().all(|room| room.starts_with('!')), "{rooms:?}");
                        subscription.index();
                        subscription.page_set();
                    }
                    params = request.params;
                }
            }
        }
    });
}

/// A page token that is ours, but for what it says.
fn asks_for_a_page(choices: &mut Choices<'_>, tokens: &Tokens, body: &mut Map<String, Value>) {
    let mut payload = Vec::new();
    put_varint(&mut payload, ACCOUNT.0.unsigned_abs());
    put_varint(&mut payload, choices.pick(STREAMS).number());
    put_varint(&mut payload, choices.number());
    let rest = choices.bytes(60);
    put_varint(&mut payload, rest.len() as u64);
    payload.extend(rest);
    let token = tokens.seal(TokenKind::Page, &payload);
    choices.note("page token", &token);
    for stream in ["room_list", "room_members"] {
        let page = body.get_mut(stream).and_then(|stream| stream.get_mut("p"));
        if let Some(page) = page.and_then(Value::as_object_mut) {
            page.insert("since".to_owned(), Value::from(token.clone()));
        }
    }
}

#[track_caller]
fn sticks(before: &Params, body: &Map<String, Value>, request: &Request, pages: PageTokens<'_>) {
    let params = &request.params;
    let stored = params.to_stored();
    assert_eq!(&Params::from_stored(&stored).expect("what we stored"), params);
    // Saying nothing more, or the same once more, changes nothing.
    for again in [&Map::new(), body] {
        let again = Request::read(params, again, pages).expect("what was taken is taken again");
        assert_eq!(&again.params, params);
    }
    let named = request.wanted.iter().map(|wanted| wanted.stream.name()).collect::<BTreeSet<_>>();
    assert!(body.iter().all(|(name, value)| !value.is_null() || !named.contains(name.as_str())));
    // Streams do not see each other's parameters: in which order they are said does not matter.
    let (one, other): (Map<_, _>, Map<_, _>) =
        body.clone().into_iter().partition(|(name, _)| name.len() % 2 == 0);
    for (first, second) in [(&one, &other), (&other, &one)] {
        let halfway = Request::read(before, first, pages);
        // Alone it may be refused for the want of the list that a stream follows.
        let Ok(halfway) = halfway else { continue };
        let whole = Request::read(&halfway.params, second, pages).expect("the whole was taken");
        assert_eq!(&whole.params, params);
    }
}

#[test]
fn session_tokens() {
    let tokens = Tokens::new(&[1; 32]);
    check("session_tokens", |choices| {
        let mut places = Places::default();
        for _ in 0..choices.below(6) {
            places.set(choices.number(), choices.bytes(40));
        }
        let token = SessionToken {
            account_id: AccountId(choices.id()),
            session_id: SessionId(choices.id()),
            params_id: i32::try_from(choices.id() & 0x7fff_ffff).expect("31 bits"),
            places,
        };
        assert_eq!(SessionToken::open(&tokens, &token.seal(&tokens)), Ok(token));
    });
}

/// A token with the right MAC over anything is damaged, or one that we could have minted.
#[test]
fn forged_session_tokens() {
    let tokens = Tokens::new(&[1; 32]);
    check("forged_session_tokens", |choices| {
        let mut payload = vec![1, choices.byte(), choices.byte(), choices.byte()];
        if choices.one_in(2) {
            payload.push(choices.byte() % 12);
        }
        payload.extend(choices.bytes(80));
        choices.note("payload", &payload);
        match SessionToken::open(&tokens, &tokens.seal(TokenKind::V3, &payload)) {
            Err(error) => assert_eq!(error, TokenError::Malformed),
            Ok(token) => assert_eq!(SessionToken::open(&tokens, &token.seal(&tokens)), Ok(token)),
        }
    });
}

/// Every stream reads any place.
#[test]
fn places() {
    check("places", |choices| {
        let place = choices.bytes(60);
        choices.note("place", &place);
        for stream in STREAMS {
            stream.sets(&place);
            stream.pages_from(&place);
            if let Some(seq) = stream.acknowledges(&place) {
                assert!(seq.0 >= 0);
            }
            if let Err(error) = stream.told(&place, &Sets::default()) {
                refused(error);
            }
        }
    });
}

#[test]
fn sets_of_rooms() {
    check("sets_of_rooms", |choices| {
        let rooms: BTreeSet<RoomNid> =
            (0..choices.below(40)).map(|_| RoomNid(choices.id())).collect();
        choices.note("rooms", &rooms);
        assert_eq!(decode_rooms(&encode_rooms(&rooms)).expect("what we wrote"), rooms);
        let forged = choices.bytes(40);
        choices.note("forged", &forged);
        match decode_rooms(&forged) {
            Ok(rooms) => {
                assert_eq!(decode_rooms(&encode_rooms(&rooms)).expect("what we wrote"), rooms);
            }
            Err(error) => refused(error),
        }
    });
}
