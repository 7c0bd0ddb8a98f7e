//! The HTTP side: reads requests, writes them down and plays the script.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ring::digest;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::body::{Body, broken_off, dripping, huge, pass, whole};
use super::fault::Fault;
use super::ledger::{ROOMS, Told, state};
use super::log::{Log, Seen, What};
use super::nothing_new;
use super::script::{Script, Token};

/// Accepts connections until the task is aborted.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    script: Arc<Script>,
    log: Arc<Log>,
) {
    let tls = tls.map(TlsAcceptor::from);
    while let Ok((stream, _peer)) = listener.accept().await {
        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => converse(stream, &script, &log).await,
                // A client that does not trust the certificate is part of some tests.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => converse(stream, &script, &log).await,
                    Err(_distrust) => {}
                },
            }
        });
    }
}

async fn converse<I>(stream: I, script: &Script, log: &Log)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let service =
        service_fn(async |request| Ok::<_, Infallible>(answer(request, script, log).await));
    // An error here is a connection that one side gave up, which is part of some scripts.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, script: &Script, log: &Log) -> Response<Body> {
    let (head, body) = request.into_parts();
    let target = head.uri.to_string();
    if script.ledger().is_none() {
        log.add_head(target.clone());
    }
    let (body_length, body_digest) = drain(body).await;
    let seen = Seen {
        method: head.method.to_string(),
        target,
        headers: head.headers,
        body_length,
        body_digest,
    };
    if script.ledger().is_none() {
        log.add(seen.clone());
    }
    if let Some(fault) = script.weather()
        && let Some(response) = weather(fault, script).await
    {
        return response;
    }

    if let Some(mut canned) = script.canned(&seen.target) {
        if let Some(gate) = &mut canned.hold_all {
            pass(gate).await;
        }
        let mut response = Response::builder().status(canned.status);
        for (name, value) in &canned.headers {
            response = response.header(name, value);
        }
        return response.body(canned.into_body()).unwrap();
    }
    let path = seen.target.split('?').next().unwrap_or_default();
    if path.ends_with("/versions") {
        return reply(200, &json!({"versions": ["v1.11"], "unstable_features": {}}));
    }
    let bearer = seen
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let (user_id, device_id) = match bearer.and_then(|token| script.token(token)) {
        Some(Token::Device { user_id, device_id }) => (user_id, device_id),
        Some(Token::Revoked(answer)) => return reply(401, &answer),
        None => {
            return reply(
                401,
                &json!({"errcode": "M_UNKNOWN_TOKEN", "error": "never heard of it", "soft_logout": false}),
            );
        }
    };
    if path.ends_with("/account/whoami") {
        let under_way = log.begin(What::Whoami);
        if let Some(mut gate) = script.gate_of_whoami() {
            pass(&mut gate).await;
        }
        under_way.answered();
        return reply(200, &json!({"user_id": user_id, "device_id": device_id, "is_guest": false}));
    }
    let token = bearer.unwrap_or_default();
    // Whoever hangs up ends this as well.
    let under_way = path.ends_with("/sync").then(|| log.begin(What::Sync(token.to_owned())));
    let told = from_books(&seen, path, &user_id, &device_id, script).await;
    if let Some(response) = told {
        // News come so often here that an answer may cross the hanging up of whom it is for: what counts is how long two were
        // under way.
        return response;
    }
    if let Some(under_way) = under_way {
        let response = sync(&seen, script, token).await;
        under_way.answered();
        return response;
    }
    if path.ends_with("/members") {
        return reply(200, &json!({"chunk": []}));
    }
    reply(404, &json!({"errcode": "M_UNRECOGNIZED", "error": "not in the script"}))
}

/// What a request meets while a fault lasts; `None` where it is answered all the same.
async fn weather(fault: Fault, script: &Script) -> Option<Response<Body>> {
    match fault {
        Fault::Hang => {
            let mut changes = script.changes();
            while matches!(script.weather(), Some(Fault::Hang)) {
                changes.changed().await.ok();
            }
            // What hung is not answered any more, as by a server that was restarted for it.
            Some(torn(b"{}"))
        }
        Fault::Status(status, body) => Some(reply(status, &body)),
        Fault::TruncatedJson => {
            Some(whole_reply(200, "application/json", Bytes::from_static(br#"{"next_batch":"s"#)))
        }
        Fault::BreakOff => Some(torn(br#"{"next_batch":"s1_1"}"#)),
        Fault::Html => Some(whole_reply(200, "text/html", "<html>It works!</html>".into())),
        Fault::Drip => None,
        Fault::TooMany(seconds) => Some(too_many(seconds)),
        Fault::Huge(length) => Some(too_long(length)),
    }
}

/// From the books, if there are any.
async fn from_books(
    seen: &Seen,
    path: &str,
    user_id: &str,
    device_id: &str,
    script: &Script,
) -> Option<Response<Body>> {
    let ledger = script.ledger()?;
    let room_id = ROOMS.into_iter().find(|room_id| {
        let encoded = room_id.replace('!', "%21").replace(':', "%3A");
        path.contains(room_id) || path.contains(&encoded)
    });
    match (path.rsplit('/').next()?, room_id) {
        ("messages", Some(room_id)) => return Some(reply(200, &ledger.messages(room_id, seen))),
        ("members", Some(room_id)) => {
            return Some(reply(200, &json!({"chunk": state(room_id, user_id)[1..]})));
        }
        ("joined_rooms", _) => return Some(reply(200, &json!({"joined_rooms": ROOMS}))),
        ("changes", _) => return Some(reply(200, &json!({"changed": [], "left": []}))),
        ("sync", _) => {}
        _ => return None,
    }
    let timeout = seen.parameter("timeout").and_then(|timeout| timeout.parse().ok()).unwrap_or(0);
    let over = tokio::time::Instant::now() + Duration::from_millis(timeout);
    let mut changes = ledger.changes();
    loop {
        changes.borrow_and_update();
        match ledger.sync(user_id, device_id, seen) {
            Told::News(news) => return Some(reply(200, &news)),
            Told::Refused => {
                let refusal = json!({"errcode": "M_UNKNOWN", "error": "Invalid stream token"});
                return Some(reply(400, &refusal));
            }
            Told::Nothing(idle) => {
                if tokio::time::timeout_at(over, changes.changed()).await.is_err() {
                    return Some(reply(200, &idle));
                }
            }
        }
    }
}

/// Announces a body, sends half of it and closes the connection.
fn torn(body: &'static [u8]) -> Response<Body> {
    let response = Response::builder().header(CONTENT_LENGTH, body.len());
    response
        .header(CONTENT_TYPE, "application/json")
        .body(broken_off(&Bytes::from_static(body)))
        .unwrap()
}

fn too_many(seconds: u64) -> Response<Body> {
    let refusal = json!({"errcode": "M_LIMIT_EXCEEDED", "error": "slow down", "retry_after_ms": seconds * 1_000});
    let mut response = reply(429, &refusal);
    response.headers_mut().insert(RETRY_AFTER, seconds.into());
    response
}

fn too_long(length: usize) -> Response<Body> {
    Response::builder().header(CONTENT_TYPE, "application/json").body(huge(length)).unwrap()
}

/// Answers as the first fault says, or from the script; where that has nothing yet, waits for more script.
async fn sync(seen: &Seen, script: &Script, token: &str) -> Response<Body> {
    if let Some(mut gate) = script.gate() {
        pass(&mut gate).await;
    }
    let since = seen.since();
    match script.take_fault() {
        None => {}
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::Status(status, body)) => return reply(status, &body),
        Some(Fault::TooMany(seconds)) => return too_many(seconds),
        Some(Fault::Huge(length)) => return too_long(length),
        Some(Fault::Html) => return whole_reply(200, "text/html", "<html>It works!</html>".into()),
        Some(Fault::TruncatedJson) => {
            let text = scripted_or_idle(script, since.as_deref());
            return whole_reply(
                200,
                "application/json",
                Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]),
            );
        }
        Some(Fault::BreakOff) => {
            let text = Bytes::from(scripted_or_idle(script, since.as_deref()));
            let response = Response::builder().header(CONTENT_LENGTH, text.len());
            return response
                .header(CONTENT_TYPE, "application/json")
                .body(broken_off(&text))
                .unwrap();
        }
        Some(Fault::Drip) => {
            let text = Bytes::from(scripted_or_idle(script, since.as_deref()));
            return Response::builder()
                .header(CONTENT_TYPE, "application/json")
                .body(dripping(&text))
                .unwrap();
        }
    }
    let timeout = seen.parameter("timeout").and_then(|timeout| timeout.parse().ok()).unwrap_or(0);
    let mut changes = script.changes();
    let scripted = async {
        loop {
            if let Some(Token::Revoked(answer)) = script.token(token) {
                return reply(401, &answer);
            }
            if let Some(text) = script.sync(since.as_deref()) {
                return whole_reply(200, "application/json", text.into());
            }
            // The script outlives its homeserver's connections, so a closed channel cannot be seen here.
            changes.changed().await.ok();
        }
    };
    // An initial sync never waits.
    let patience = if since.is_some() { Duration::from_millis(timeout) } else { Duration::ZERO };
    match tokio::time::timeout(patience, scripted).await {
        Ok(response) => response,
        Err(_elapsed) => whole_reply(200, "application/json", idle(since.as_deref()).into()),
    }
}

fn scripted_or_idle(script: &Script, since: Option<&str>) -> String {
    script.sync(since).unwrap_or_else(|| idle(since))
}

fn idle(since: Option<&str>) -> String {
    nothing_new(since.unwrap_or("s0")).to_string()
}

/// Reads a body of any size in little memory.
async fn drain(mut body: Incoming) -> (u64, Bytes) {
    let mut length = 0;
    let mut hash = digest::Context::new(&digest::SHA256);
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            hash.update(data);
        }
    }
    (length, Bytes::copy_from_slice(hash.finish().as_ref()))
}

fn reply(status: u16, body: &Value) -> Response<Body> {
    whole_reply(status, "application/json", body.to_string().into())
}

fn whole_reply(status: u16, content_type: &str, body: Bytes) -> Response<Body> {
    Response::builder().status(status).header(CONTENT_TYPE, content_type).body(whole(body)).unwrap()
}
