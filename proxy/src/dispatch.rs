//! Takes one request to whoever answers it, and sees to it that there is an answer.
//!
//! Neighbours: `server` calls it for every request; `router` decides, the handlers answer, `error` words refusals, `cors`
//! lets web clients read all of it. A panic in a handler ends here, as an answer.

use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::body::{Body, BoxError};
use crate::error::{Error, json_response};
use crate::metrics::labels::Kind;
use crate::observed::Observed;
use crate::passthrough::{self, Paged, Place};
use crate::peer::Peer;
use crate::router::{Forwarding, Route, route};
use crate::state::State;
use crate::upstream::HOP_HEADER;
use crate::{cors, guard, query, v2, v3};

/// Answers a request.
pub(crate) async fn handle(
    state: Arc<State>,
    request: Request<Incoming>,
    peer: Peer,
) -> Response<Body> {
    let observed = Observed::begin(&request, peer);
    let (kind, route) = purpose(&state, &request);
    // Boxed, because it is large and is handed from one to the next.
    let answer = Box::pin(async {
        let outcome = AssertUnwindSafe(answer(&state, route, request, peer)).catch_unwind().await;
        let error = match outcome {
            Ok(Ok(response)) => return response,
            Ok(Err(error)) => error,
            Err(panic) => Error::internal(describe(panic.as_ref())),
        };
        state.metrics.failed(error.name());
        error.into_response()
    });
    let mut response = observed.run(answer).await;
    cors::apply(response.headers_mut());
    observed.end(&state.metrics, kind, &mut response);
    response
}

/// What a request is for: as it is counted, and as it is answered. A preflight has no route.
fn purpose(state: &State, request: &Request<Incoming>) -> (Kind, Option<Route>) {
    if request.method() == Method::OPTIONS {
        return (Kind::Other, None);
    }
    let forwarding = Forwarding {
        admin: state.config.forward_admin,
        federation: state.config.forward_federation,
    };
    let route = route(request.method(), request.uri().path(), forwarding);
    (kind(&route, request.uri().query().unwrap_or_default()), Some(route))
}

fn kind(route: &Route, query: &str) -> Kind {
    let has_since = || query::values(query, "since").any(|since| !since.is_empty());
    match route {
        Route::SyncV2 if has_since() => Kind::V2Incremental,
        Route::SyncV2 => Kind::V2Initial,
        Route::SyncV3 if has_since() => Kind::V3,
        Route::SyncV3 => Kind::V3First,
        Route::Login | Route::Register | Route::WellKnown => Kind::Login,
        Route::End(_) => Kind::Ending,
        Route::Write(_) => Kind::Write,
        Route::Messages { .. } | Route::Relations { .. } | Route::Events => Kind::Messages,
        Route::Members { .. } => Kind::Members,
        Route::KeysClaim | Route::KeyChanges => Kind::Keys,
        Route::Versions | Route::Capabilities => Kind::Versions,
        Route::SlidingSync => Kind::SlidingSync,
        Route::PassThrough => Kind::PassThrough,
        Route::WrongMethod(_) | Route::NotForwarded | Route::Ping => Kind::Other,
    }
}

async fn answer(
    state: &Arc<State>,
    route: Option<Route>,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let slot = guard::enter(state, &request)?;
    let response = carry_out(state, route, request, peer).await?;
    Ok(guard::until_sent(response, slot))
}

/// What answers a request. Each kind is as large as it is and no larger: thousands of syncs wait at once, and none of
/// them shall hold the room that some other kind needs.
fn carry_out(
    state: &Arc<State>,
    route: Option<Route>,
    request: Request<Incoming>,
    peer: Peer,
) -> BoxFuture<'_, Result<Response<Body>, Error>> {
    let Some(route) = route else { return ready(Ok(cors::preflight())).boxed() };
    // The ping is how a proxy is told from a homeserver, so it is answered to another proxy as well.
    if route != Route::Ping && request.headers().contains_key(HOP_HEADER) {
        return ready(Err(Error::LoopDetected)).boxed();
    }
    match route {
        Route::SyncV2 => {
            let (parts, body) = request.into_parts();
            if passthrough::may_be_for_application_service(&parts) {
                return asserting_sync(state, parts, body, peer).boxed();
            }
            v2_sync(state, parts, peer).boxed()
        }
        Route::SyncV3 => v3_sync(state, request, peer).boxed(),
        other => pass_through(state, other, request, peer).boxed(),
    }
}

async fn v2_sync(state: &Arc<State>, parts: Parts, peer: Peer) -> Result<Response<Body>, Error> {
    let answer = v2::sync::handle(state, parts, peer).await;
    store::mark::reached("v2", "before_answer");
    answer
}

async fn v3_sync(
    state: &Arc<State>,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    let (parts, body) = request.into_parts();
    let answer = v3::sync::handle(state, parts, body, peer).await;
    store::mark::reached("v3", "before_answer");
    answer
}

/// A sync that names a user: an application service's, or a client's that means nothing by it.
async fn asserting_sync(
    state: &Arc<State>,
    parts: Parts,
    body: Incoming,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    if passthrough::is_for_application_service(state, &parts).await? {
        return state.forwarder.forward(boxed(Request::from_parts(parts, body)), peer).await;
    }
    v2_sync(state, parts, peer).await
}

/// Everything but the syncs: the homeserver's to answer, for the most part.
async fn pass_through(
    state: &Arc<State>,
    route: Route,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Response<Body>, Error> {
    match route {
        Route::WrongMethod(allowed) => Err(Error::MethodNotAllowed(allowed)),
        Route::NotForwarded => Err(Error::Unrecognized),
        Route::Ping => Ok(json_response(StatusCode::OK, r#"{"service":"syncv3"}"#)),
        Route::Login | Route::Register => {
            passthrough::rewrite_base_url(state, boxed(request), peer, Place::WellKnown).await
        }
        Route::WellKnown => {
            passthrough::rewrite_base_url(state, boxed(request), peer, Place::Whole).await
        }
        Route::End(ending) => passthrough::end_sessions(state, boxed(request), peer, ending).await,
        Route::Versions => passthrough::versions(state, boxed(request), peer).await,
        Route::KeysClaim => passthrough::claim_keys(state, boxed(request), peer).await,
        Route::Capabilities => passthrough::capabilities(state, boxed(request), peer).await,
        Route::SlidingSync => passthrough::sliding_sync(state, boxed(request), peer).await,
        Route::Messages { room_id } => {
            passthrough::messages(state, boxed(request), peer, &room_id, Paged::Messages).await
        }
        Route::Relations { room_id } => {
            passthrough::messages(state, boxed(request), peer, &room_id, Paged::Relations).await
        }
        Route::Members { room_id } => {
            passthrough::members(state, boxed(request), peer, &room_id).await
        }
        Route::KeyChanges => {
            passthrough::batch_tokens(state, boxed(request), peer, &["from", "to"]).await
        }
        Route::Events => passthrough::batch_tokens(state, boxed(request), peer, &["from"]).await,
        Route::Write(kept) => passthrough::write(state, boxed(request), peer, kept).await,
        // The syncs are not brought here.
        Route::PassThrough | Route::SyncV2 | Route::SyncV3 => {
            state.forwarder.forward(boxed(request), peer).await
        }
    }
}

fn boxed(request: Request<Incoming>) -> Request<Body> {
    request.map(|body| body.map_err(BoxError::from).boxed_unsync())
}

fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a handler panicked: {}", text.unwrap_or("no message"))
}
