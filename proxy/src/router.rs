//! Decides what a request is for, from its method and path alone.
//!
//! Neighbours: `dispatch` acts on the [`Route`]. What is forwarded is forwarded as it was spelt; only the decision is
//! taken on the normalised path.
//!
//! Invariant: no spelling of the homeserver's own sync reaches it. A raw sync acknowledges to-device messages behind our
//! back, so a spelling that somebody on the way might normalise into one is answered here with a 404.

use hyper::Method;

use crate::passthrough::{Ending, Kept};

mod path;

use self::path::{Path, exact};

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `GET /_matrix/client/{r0,v3}/sync`
    SyncV2,
    /// `POST /_matrix/client/v3/sync`
    SyncV3,
    /// A sync path with a method that it does not have; the text lists those that it has.
    WrongMethod(&'static str),
    /// `POST …/login`
    Login,
    /// `POST …/register`
    Register,
    /// `GET /.well-known/matrix/client`
    WellKnown,
    /// A request that ends sessions: `POST …/logout`, `DELETE …/devices/{device_id}`, …
    End(Ending),
    /// `GET /_matrix/client/versions`
    Versions,
    /// `POST …/keys/claim`
    KeysClaim,
    /// `GET …/capabilities`
    Capabilities,
    /// `POST …/org.matrix.simplified_msc3575/sync`, and its predecessor
    SlidingSync,
    /// `GET …/rooms/{room_id}/messages`
    Messages {
        /// The room, decoded.
        room_id: String,
    },
    /// `GET …/rooms/{room_id}/relations/**`
    Relations {
        /// The room, decoded.
        room_id: String,
    },
    /// `GET …/events`
    Events,
    /// `GET …/rooms/{room_id}/members`
    Members {
        /// The room, decoded.
        room_id: String,
    },
    /// `GET …/keys/changes`
    KeyChanges,
    /// A request of a client that may change what its account's next sync says.
    Write(Kept),
    /// `GET /_syncv3/ping`
    Ping,
    /// Everything else that the homeserver answers.
    PassThrough,
    /// What is not the business of clients.
    NotForwarded,
}

/// Which of the homeserver's other APIs the operator wants reachable through us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding {
    /// `/_synapse/**` beyond `/_synapse/client/**`
    pub(crate) admin: bool,
    /// `/_matrix/federation/**` and `/_matrix/key/**`
    pub(crate) federation: bool,
}

/// Decides. `raw_path` is the path as it came over the wire.
pub(crate) fn route(method: &Method, raw_path: &str, forwarding: Forwarding) -> Route {
    // `*`, or nothing that a server would find under its root.
    if !raw_path.starts_with('/') {
        return Route::NotForwarded;
    }
    if let Some(route) = sync(method, raw_path) {
        return route;
    }
    let as_written = Path::split_then_decode(raw_path);
    let as_flattened = Path::decode_then_split(raw_path);
    for path in [&as_written, &as_flattened] {
        if path.is_sync() || !is_forwarded(path, forwarding) {
            return Route::NotForwarded;
        }
    }
    let get = method == Method::GET;
    let post = method == Method::POST;
    match as_written.segments().as_slice() {
        ["_syncv3", "ping"] if get || method == Method::HEAD => Route::Ping,
        ["_syncv3", ..] => Route::NotForwarded,
        [".well-known", "matrix", "client"] if get => Route::WellKnown,
        ["_matrix", "client", "versions"] if get => Route::Versions,
        ["_matrix", "client", rest @ ..] => match path::without_version(rest) {
            ["login"] if post => Route::Login,
            ["register"] if post => Route::Register,
            ["org.matrix.simplified_msc3575" | "org.matrix.msc3575", "sync"] if post => {
                Route::SlidingSync
            }
            ["rooms", room_id, "messages"] if get => {
                Route::Messages { room_id: (*room_id).to_owned() }
            }
            ["rooms", room_id, "members"] if get => {
                Route::Members { room_id: (*room_id).to_owned() }
            }
            ["rooms", room_id, "relations", _, ..] if get => {
                Route::Relations { room_id: (*room_id).to_owned() }
            }
            ["capabilities"] if get => Route::Capabilities,
            ["keys", "claim"] if post => Route::KeysClaim,
            ["keys", "changes"] if get => Route::KeyChanges,
            ["events"] if get => Route::Events,
            rest => match ending(method, rest) {
                Some(ending) => Route::End(ending),
                None if is_write(method, rest) => Route::Write(kept(method, rest)),
                None => Route::PassThrough,
            },
        },
        _ => Route::PassThrough,
    }
}

/// Which sessions a client endpoint ends.
fn ending(method: &Method, path: &[&str]) -> Option<Ending> {
    let post = method == Method::POST;
    match path {
        ["logout"] if post => Some(Ending::This),
        ["logout", "all"] if post => Some(Ending::All),
        ["devices", device_id] if method == Method::DELETE => {
            Some(Ending::Device((*device_id).to_owned()))
        }
        ["delete_devices"] if post => Some(Ending::Devices),
        ["account", "password"] if post => Some(Ending::Password),
        ["account", "deactivate"] if post => Some(Ending::Account),
        _ => None,
    }
}

/// What is kept of a write.
fn kept(method: &Method, path: &[&str]) -> Kept {
    let put = method == Method::PUT;
    match path {
        ["rooms", _, "send" | "redact", _, transaction_id] if put => {
            Kept::TransactionId((*transaction_id).to_owned())
        }
        ["rooms", room_id, "forget"] => Kept::Forgotten((*room_id).to_owned()),
        ["keys", "upload", ..] => Kept::KeyCounts,
        ["presence", _, "status"] if put => Kept::Presence,
        _ => Kept::Nothing,
    }
}

/// Whether a client endpoint may change what a sync says. Those left out are questions in the form of a
/// POST, and logins, which have no account yet.
fn is_write(method: &Method, path: &[&str]) -> bool {
    let changes = [Method::POST, Method::PUT, Method::DELETE].contains(method);
    let asks = match path {
        ["keys", what] => *what == "query",
        ["user", _, what] => *what == "filter",
        [what, ..] => ["search", "publicRooms", "refresh", "register", "login", "user_directory"]
            .contains(what),
        [] => true,
    };
    changes && !asks
}

/// The sync paths, spelt as they should be.
fn sync(method: &Method, raw_path: &str) -> Option<Route> {
    let read = method == Method::GET || method == Method::HEAD;
    match exact(raw_path)? {
        "v3" if method == Method::POST => Some(Route::SyncV3),
        _ if read => Some(Route::SyncV2),
        "v3" => Some(Route::WrongMethod("GET, HEAD, POST, OPTIONS")),
        _ => Some(Route::WrongMethod("GET, HEAD, OPTIONS")),
    }
}

fn is_forwarded(path: &Path, forwarding: Forwarding) -> bool {
    match path.segments().as_slice() {
        ["_synapse", "client", ..] => true,
        ["_synapse", ..] => forwarding.admin,
        ["_matrix", "federation" | "key", ..] => forwarding.federation,
        _ => path.is_absolute(),
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
