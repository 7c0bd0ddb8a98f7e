//! The homeserver's HTTP.

use std::convert::Infallible;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{World, large, replies, user};
use crate::load::machine;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves in a thread of its own. Gives the port and the number of the thread.
pub(super) fn start(world: Arc<World>) -> (u16, u32) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        tell.send(machine::this_thread()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(accept(listener, world));
    });
    (port, told.recv().unwrap())
}

async fn accept(listener: std::net::TcpListener, world: Arc<World>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _peer)) = listener.accept().await {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let service =
                service_fn(async |request| Ok::<_, Infallible>(answer(&request, &world).await));
            // Connections are given up by the proxy as it likes.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

async fn answer(request: &Request<Incoming>, world: &Arc<World>) -> Response<Body> {
    let path = request.uri().path();
    if path.ends_with("/versions") {
        return reply(200, r#"{"versions":["v1.11"]}"#.to_owned());
    }
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let account = token.and_then(|token| token.strip_prefix("Bearer token")?.parse().ok());
    let Some(number) = account.filter(|account| *account < world.accounts.len()) else {
        return reply(401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"unknown"}"#.to_owned());
    };
    if path.ends_with("/account/whoami") {
        let (user, device) = (user(number), "LOAD");
        return reply(200, format!(r#"{{"user_id":"{user}","device_id":"{device}"}}"#));
    }
    if path.ends_with("/sync") {
        let query = request.uri().query().unwrap_or_default();
        let timeout = parameter(query, "timeout").and_then(|text| text.parse().ok()).unwrap_or(0);
        let timeout = Duration::from_millis(timeout);
        return match parameter(query, "since").and_then(position) {
            None => first_sync(world, number, query),
            Some(since) => reply(200, sync(world, number, since, timeout).await),
        };
    }
    if path.ends_with("/joined_rooms") {
        return reply(200, replies::joined_rooms(world, number));
    }
    reply(404, r#"{"errcode":"M_UNRECOGNIZED","error":"not here"}"#.to_owned())
}

/// Answers as soon as there is something to tell.
async fn sync(world: &World, number: usize, since: usize, timeout: Duration) -> String {
    let account = &world.accounts[number];
    let _under_way = world.observed.begins(number);
    account.first.lock().unwrap().followed.get_or_insert_with(Instant::now);
    account.stream.lock().unwrap().acknowledge(since);
    let mut length = account.length.subscribe();
    let _ = tokio::time::timeout(timeout, length.wait_for(|length| *length > since)).await;
    let (reply, tells) = replies::sync(account, since);
    if tells {
        world.observed.tells();
    }
    reply
}

fn first_sync(world: &Arc<World>, number: usize, query: &str) -> Response<Body> {
    let account = &world.accounts[number];
    *account.first.lock().unwrap() =
        super::FirstReply { begun: Some(Instant::now()), ..super::FirstReply::default() };
    let next = account.stream.lock().unwrap().acknowledged;
    let Some(large) = account.large else {
        let text = replies::first_sync(world, number, next);
        account.first.lock().unwrap().bytes = text.len();
        return reply(200, text);
    };
    // A filter says `"limit":20` in its own encoding; nothing else of it is looked at.
    let limit = query.split("%22limit%22%3A").nth(1).and_then(|rest| {
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let serving = Arc::clone(world);
    tokio::spawn(async move {
        let note = |bytes| serving.accounts[number].first.lock().unwrap().bytes += bytes;
        large::write(large, number, next, limit, sender, note).await
    });
    let chunks = futures_util::stream::unfold(receiver, async |mut receiver| {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok(Frame::data(chunk)), receiver))
    });
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    response.body(StreamBody::new(chunks).boxed_unsync()).unwrap()
}

fn position(token: &str) -> Option<usize> {
    token.strip_prefix('s')?.parse().ok()
}

/// Tokens and numbers alone are read, and need no decoding.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn reply(status: u16, body: String) -> Response<Body> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    response.body(Full::new(body.into()).boxed_unsync()).unwrap()
}
