//! `POST /_matrix/client/v3/sync`: the endpoint. It is in no specification; ours is `docs/v3-api.md`.
//!
//! Everything that can be refused is refused before anything changes: a request is read, its rooms are
//! checked and its streams are asked first; then what it acknowledges is acknowledged and its
//! parameters are kept; and then its streams are asked again and again, until one has something to say
//! or the time is up.
//!
//! A request is safe to run again from the start at any moment. That is how it outlives a restart of
//! the database, and how a client learns what upstream says of a token that died meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{Response, StatusCode, body::Incoming, http::request::Parts};
use tokio::time::Instant;

use super::{
    params::{Request, Wanted},
    request::{Query, read_body},
    session::Session,
    streams::Answer,
    token::Places,
    view::{View, page_tokens},
    waiting::{Waiting, Woken},
};
use crate::{
    auth::{Requester, authenticate},
    auth_header::access_token,
    body::{Body, read_limited},
    error::{Error, json_response},
    json::{ObjectWriter, write_string},
    patience::{DATABASE_GRACE, patiently},
    peer::Peer,
    state::State,
    upstream::OnBehalfOf,
};

/// How long a request waits for the first poll of its account, whatever its timeout says. The poll
/// itself goes on when the client gives up.
const FIRST_POLL_PATIENCE: Duration = Duration::from_mins(10);

/// A request that can be run again.
struct Call {
    query: Query,
    body: Bytes,
    arrived: Instant,
}

/// How a run ends, other than in an error.
enum Outcome {
    /// With the reply.
    Reply(Vec<u8>),
    /// Upstream refused the token in the meantime.
    Revoked,
}

/// Answers a request.
pub(crate) async fn handle(
    state: &Arc<State>,
    parts: Parts,
    body: Incoming,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let arrived = Instant::now();
    let query = Query::parse(parts.uri.query());
    // A timeout that cannot be read is refused in its turn; until then it counts as none.
    let timeout = query.timeout(state.config.max_timeout).unwrap_or_default();
    let give_up = arrived + timeout + DATABASE_GRACE;
    let token = access_token(&parts, false)?;
    let mut requester = patiently(give_up, || authenticate(state, token.clone())).await?;
    requester.device.seen(OnBehalfOf::of(&parts.headers, peer));
    let body = read_limited(body, state.config.max_request_bytes).await?;
    let call = Call { query, body, arrived };
    loop {
        match patiently(give_up, || run(state, &requester, &call)).await? {
            Outcome::Reply(json) => return Ok(json_response(StatusCode::OK, json)),
            Outcome::Revoked => {
                requester = patiently(give_up, || authenticate(state, token.clone())).await?;
            }
        }
    }
}

async fn run(state: &Arc<State>, requester: &Requester, call: &Call) -> Result<Outcome, Error> {
    let mut session = match &call.query.since {
        Some(since) => Session::resume(state, requester, since).await?,
        None => Session::begin(),
    };
    let deadline = call.arrived + call.query.timeout(state.config.max_timeout)?;
    let pages = page_tokens(state, requester);
    let request = Request::read(&session.params, &read_body(&call.body)?, pages)?;

    let patience = deadline.max(call.arrived + FIRST_POLL_PATIENCE);
    state.accounts.ensure_ready(state, requester, patience).await?;
    if requester.is_revoked() {
        return Ok(Outcome::Revoked);
    }
    let mut waiting = Waiting::new(state, requester, deadline);
    let mut due: Vec<&Wanted> = request.wanted.iter().collect();
    let view = look(state, requester, &due).await?;
    let mut answers = ask(&view, &due, &session.places).await?;

    session.acknowledge(state, requester).await?;
    let changed = session.adopt(state, requester, &request).await?;
    let at_once = changed || request.asks_for_page();
    while answers.is_empty() && !at_once {
        due = match waiting.next().await {
            Woken::By(source) => request.fed_by(source),
            Woken::Over => break,
            Woken::Revoked => return Ok(Outcome::Revoked),
        };
        answers = match look(state, requester, &due).await {
            Ok(view) => ask(&view, &due, &session.places).await?,
            // The user left the room while the request waited. It was good when it came, and has been
            // acted upon: it ends like one whose time is up, and the next one is refused.
            Err(Error::Forbidden(_)) => break,
            Err(error) => return Err(error),
        };
    }
    reply(state, requester, session, answers).await.map(Outcome::Reply)
}

/// Looks at the account, and refuses if one of the streams names a room that the user is not in.
async fn look<'a>(
    state: &'a Arc<State>,
    requester: &'a Requester,
    due: &[&Wanted],
) -> Result<View<'a>, Error> {
    let room_ids: Vec<&str> =
        due.iter().flat_map(|wanted| wanted.subscription.room_ids()).collect();
    View::open(state, requester, &room_ids).await
}

/// Asks streams what they have to say.
async fn ask<'a>(
    view: &View<'_>,
    due: &[&'a Wanted],
    places: &Places,
) -> Result<Vec<(&'a Wanted, Answer)>, Error> {
    let mut answers = Vec::new();
    for wanted in due {
        let place = places.get(wanted.stream.number());
        if let Some(answer) = wanted.subscription.answer(view, place).await? {
            answers.push((*wanted, answer));
        }
    }
    Ok(answers)
}

async fn reply(
    state: &Arc<State>,
    requester: &Requester,
    mut session: Session,
    answers: Vec<(&Wanted, Answer)>,
) -> Result<Vec<u8>, Error> {
    let mut json = Vec::new();
    let mut reply = ObjectWriter::new(&mut json);
    for (wanted, answer) in answers {
        reply.raw(wanted.stream.name(), &answer.json);
        if let Some(place) = answer.place {
            session.places.set(wanted.stream.number(), place);
        }
    }
    let next = session.next(state, requester).await?;
    write_string(&next, reply.key("next"));
    reply.end();
    Ok(json)
}
