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
use futures_util::future::try_join_all;
use hyper::{Response, StatusCode, body::Incoming, http::request::Parts};
use tokio::time::{Instant, sleep};

use super::{
    params::{Request, Wanted},
    request::{Query, read_body},
    session::Session,
    streams::Answer,
    view::{Needs, View, page_tokens},
    waiting::{Waiting, Woken},
};
use crate::{
    auth::{Requester, authenticate, poll_for},
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

/// How long a request whose token polls refuse again and again, while upstream accepts it when it is asked, waits before it
/// asks once more: workers of upstream may disagree.
const BETWEEN_REFUSALS: Duration = Duration::from_secs(1);

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
    let client = OnBehalfOf::of(&parts.headers, peer);
    // What was read of the connection stays in memory as long as any of the head does.
    drop(parts);
    let mut requester = patiently(give_up, || authenticate(state, token.clone())).await?;
    requester.device.seen(client);
    let limits = &state.config.client_limits;
    let body = read_limited(body, state.config.max_request_bytes, limits.body_timeout);
    let body = Box::pin(body).await?;
    let call = Call { query, body, arrived };
    let mut was_revoked = false;
    loop {
        match patiently(give_up, || run(state, &requester, &call)).await? {
            Outcome::Reply(json) => return Ok(json_response(StatusCode::OK, json)),
            Outcome::Revoked => {
                if was_revoked {
                    sleep(BETWEEN_REFUSALS).await;
                }
                was_revoked = true;
                requester = patiently(give_up, || authenticate(state, token.clone())).await?;
            }
        }
    }
}

/// What looks, stores and writes is boxed: thousands of requests wait at once, and the room for it must be taken only while
/// it goes on.
async fn run(state: &Arc<State>, requester: &Requester, call: &Call) -> Result<Outcome, Error> {
    let mut session = match &call.query.since {
        Some(since) => Box::pin(Session::resume(state, requester, since)).await?,
        None => Session::begin(),
    };
    let deadline = call.arrived + call.query.timeout(state.config.max_timeout)?;
    let pages = page_tokens(state, requester);
    let request = Request::read(&session.params, &read_body(&call.body)?, pages)?;
    Box::pin(session.load_sets(state, requester, &request)).await?;
    if let Some(wish) = request.presence() {
        poll_for(state, requester, Some((wish, deadline)));
    }

    let patience = deadline.max(call.arrived + FIRST_POLL_PATIENCE);
    state.accounts.ensure_ready(state, requester, patience).await?;
    if requester.is_revoked() {
        return Ok(Outcome::Revoked);
    }
    let mut waiting = Waiting::new(state, requester, deadline);
    let mut due: Vec<&Wanted> = request.wanted.iter().collect();
    let first = Box::pin(look(state, requester, &session, &due)).await?;
    if let Some(refusal) = first.refusal {
        return Err(refusal);
    }
    let lost = first.lost;
    let mut answers = take(first.answers, &mut session);

    Box::pin(session.acknowledge(state, requester)).await?;
    let changed = Box::pin(session.adopt(state, requester, &request)).await?;
    let at_once = changed || lost || request.asks_for_page();
    while answers.is_empty() && !at_once {
        due = match waiting.next().await {
            Woken::By(source) => request.fed_by(source),
            Woken::Over => break,
            Woken::Revoked => return Ok(Outcome::Revoked),
        };
        let seen = Box::pin(look(state, requester, &session, &due)).await?;
        answers = take(seen.answers, &mut session);
        // The user left a room while the request waited. It was good when it came, and has been acted
        // upon: it ends like one whose time is up, and the next one is refused.
        if seen.refusal.is_some() || seen.lost {
            break;
        }
    }
    Box::pin(reply(state, requester, session, answers)).await.map(Outcome::Reply)
}

/// What streams have to say at one moment.
#[derive(Default)]
struct Seen<'a> {
    answers: Vec<(&'a Wanted, Answer)>,
    /// The user is not in a room that a stream names.
    refusal: Option<Error>,
    /// Nor in one that is let in for a last time: there is nothing more to wait for.
    lost: bool,
}

/// Looks at the account, and asks streams what they have to say.
async fn look<'a>(
    state: &Arc<State>,
    requester: &Requester,
    session: &Session,
    due: &[&'a Wanted],
) -> Result<Seen<'a>, Error> {
    let mut seen = Seen::default();
    let view = match View::open(state, requester, &session.sets, needs(session, due)?).await {
        Err(refusal @ Error::Forbidden(_)) => {
            seen.refusal = Some(refusal);
            return Ok(seen);
        }
        opened => opened?,
    };
    seen.lost = view.rooms.has_left_ones();
    if view.index.is_none() {
        // Nobody lists rooms.
        view.set_active(Vec::new());
    }
    // Side by side: what they ask the store for is ready sooner, and those that follow `room_list` wait for no more of it
    // than its word which rooms those are.
    let answers = due.iter().map(|wanted| async {
        let place = session.places.get(wanted.stream.number());
        match wanted.subscription.answer(&view, place).await {
            Err(refusal @ Error::Forbidden(_)) => Ok(Err(refusal)),
            answer => answer.map(Ok),
        }
    });
    for (wanted, answer) in due.iter().zip(try_join_all(answers).await?) {
        match answer {
            Ok(Some(answer)) => seen.answers.push((*wanted, answer)),
            Ok(None) => {}
            Err(refusal) => seen.refusal = Some(refusal),
        }
    }
    Ok(seen)
}

/// What streams need for their answers.
fn needs<'a>(session: &Session, due: &[&'a Wanted]) -> Result<Needs<'a>, Error> {
    let mut needs = Needs { room_ids: Vec::new(), told: Vec::new(), index: None };
    for wanted in due {
        needs.room_ids.extend(wanted.subscription.room_ids());
        // One stream alone lists rooms.
        needs.index = needs.index.or_else(|| wanted.subscription.index());
        if let Some(place) = session.places.get(wanted.stream.number()) {
            needs.told.extend(wanted.stream.told(place, &session.sets)?);
        }
    }
    Ok(needs)
}

/// Keeps the answers that say something; of the others the session takes note.
fn take<'a>(
    answers: Vec<(&'a Wanted, Answer)>,
    session: &mut Session,
) -> Vec<(&'a Wanted, Answer)> {
    let (said, silent): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(_, answer)| answer.json.is_some());
    for (wanted, answer) in silent {
        session.answered(wanted.stream, answer.place, answer.sets);
    }
    said
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
        if let Some(said) = &answer.json {
            reply.raw(wanted.stream.name(), said);
        }
        session.answered(wanted.stream, answer.place, answer.sets);
    }
    let next = session.next(state, requester).await?;
    write_string(&next, reply.key("next"));
    reply.end();
    Ok(json)
}
