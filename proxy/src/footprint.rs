//! How large the futures are that last as long as somebody waits.
//!
//! A future is as large as its largest moment, and there is one for each client that waits and for each device that is
//! polled for. So what is large and short is boxed where it happens, and what is left is bounded here: a call that makes
//! one of them grow by kilobytes fails a test instead of costing an operator gigabytes.

use std::future::Future;
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;

use crate::auth::Requester;
use crate::state::State;

/// Stands for an argument of a call that is never made.
pub(crate) fn any<T>() -> T {
    unreachable!("only the types count")
}

/// The size of the future that a call gives, in bytes. The call is not made.
pub(crate) fn of<F: Future>(_: impl FnOnce() -> F) -> usize {
    size_of::<F>()
}

/// Fails where a future is larger than it may be.
#[track_caller]
pub(crate) fn check(what: &str, size: usize, most: usize) {
    eprintln!("{what}: {size} bytes of {most}");
    assert!(size <= most, "{what} takes {size} bytes, and may take {most}");
}

#[test]
fn a_connection_is_small() {
    let connection = of(|| {
        let answer = |request: Request<Incoming>| crate::dispatch::handle(any(), request, any());
        crate::server::serve_connection(any(), any(), any(), answer, any())
    });
    check("the task of a connection", connection, 2560);
    check("a request under way", of(|| crate::dispatch::handle(any(), any(), any())), 1536);
}

#[test]
fn a_sync_that_waits_is_small() {
    let state = any::<&Arc<State>>;
    check("GET /sync", of(|| crate::v2::sync::handle(state(), any(), any())), 4096);
    check("POST /sync", of(|| crate::v3::sync::handle(state(), any(), any(), any())), 8192);
    check("looking after a token", of(|| any::<&Requester>().revoked(any())), 1024);
}
