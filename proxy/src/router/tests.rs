//! Paths and where they lead.

use super::*;

const CLOSED: Forwarding = Forwarding { admin: false, federation: false };
const OPEN: Forwarding = Forwarding { admin: true, federation: true };

fn check(method: &str, path: &str, expected: &Route) {
    check_with(CLOSED, method, path, expected);
}

fn check_with(forwarding: Forwarding, method: &str, path: &str, expected: &Route) {
    let method = Method::from_bytes(method.as_bytes()).expect("the test's method is good");
    assert_eq!(&route(&method, path, forwarding), expected, "{method} {path}");
}

fn messages(room_id: &str) -> Route {
    Route::Messages { room_id: room_id.to_owned() }
}

#[test]
fn sync_is_ours() {
    check("GET", "/_matrix/client/v3/sync", &Route::SyncV2);
    check("HEAD", "/_matrix/client/v3/sync", &Route::SyncV2);
    check("GET", "/_matrix/client/r0/sync", &Route::SyncV2);
    check("GET", "/_matrix/client/unstable/sync", &Route::SyncV2);
    check("POST", "/_matrix/client/v3/sync", &Route::SyncV3);
}

#[test]
fn sync_has_no_other_methods() {
    let with_post = Route::WrongMethod("GET, HEAD, POST, OPTIONS");
    let without_post = Route::WrongMethod("GET, HEAD, OPTIONS");
    check("PUT", "/_matrix/client/v3/sync", &with_post);
    check("DELETE", "/_matrix/client/v3/sync", &with_post);
    check("POST", "/_matrix/client/r0/sync", &without_post);
    check("POST", "/_matrix/client/unstable/sync", &without_post);
}

#[test]
fn no_other_spelling_of_sync_reaches_the_homeserver() {
    for method in ["GET", "POST", "PUT"] {
        for path in [
            "/_matrix/client/v3//sync",
            "//_matrix/client/v3/sync",
            "/_matrix/client/v3/sync/",
            "/_matrix/client/v3/sync//",
            "/_matrix/client/v3/%73ync",
            "/_matrix/client/%763/sync",
            "/%5Fmatrix/client/r0/sync",
            "/_matrix%2Fclient%2Fv3%2fsync",
            "/_matrix/client/v3/x/../sync",
            "/_matrix/client/v3/x/%2E%2e/sync",
            "/_matrix/client/v3/x%2f..%2fsync",
            "/_matrix/client/v3/./sync",
            "/_matrix/client/v1/sync",
            "/_matrix/client/v2_alpha/sync",
            "/_matrix/client/api/v1/sync",
        ] {
            check(method, path, &Route::NotForwarded);
        }
    }
}

#[test]
fn what_only_looks_like_sync_passes() {
    check(
        "POST",
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
        &Route::SlidingSync,
    );
    check("GET", "/_matrix/client/v3/rooms/!a:b/state/sync", &Route::PassThrough);
    check("GET", "/_matrix/client/v3/rooms/!a:b/state/t/a%2F..%2Fsync", &Route::PassThrough);
    check("GET", "/_matrix/client/v3/sync/filter", &Route::PassThrough);
    check("GET", "/_matrix/client/v3/SYNC", &Route::PassThrough);
    check("GET", "/_matrix/client/v3/%2573ync", &Route::PassThrough);
}

#[test]
fn sessions_are_observed_under_every_version() {
    for version in ["r0", "v1", "v3", "unstable", "api/v1"] {
        check("POST", &format!("/_matrix/client/{version}/login"), &Route::Login);
        check("POST", &format!("/_matrix/client/{version}/logout"), &Route::End(Ending::This));
        check("POST", &format!("/_matrix/client/{version}/logout/all"), &Route::End(Ending::All));
        check("POST", &format!("/_matrix/client/{version}/register"), &Route::Register);
    }
    check("GET", "/_matrix/client/v3/login", &Route::PassThrough);
    check("POST", "/_matrix/client/v3/login/get_token", &Route::PassThrough);
    check("POST", "/_matrix/client/v3/register/email/requestToken", &Route::PassThrough);
    check("GET", "/.well-known/matrix/client", &Route::WellKnown);
    check("GET", "/.well-known/matrix/server", &Route::PassThrough);
}

#[test]
fn whatever_ends_sessions_is_observed() {
    let device = Route::End(Ending::Device(String::from("A/B")));
    check("DELETE", "/_matrix/client/v3/devices/A%2FB", &device);
    check("PUT", "/_matrix/client/v3/devices/A", &Route::Write(Kept::Nothing));
    check("GET", "/_matrix/client/v3/devices/A", &Route::PassThrough);
    check("POST", "/_matrix/client/r0/delete_devices", &Route::End(Ending::Devices));
    check("POST", "/_matrix/client/v3/account/password", &Route::End(Ending::Password));
    check("POST", "/_matrix/client/v3/account/deactivate", &Route::End(Ending::Account));
    check("POST", "/_matrix/client/v3/refresh", &Route::PassThrough);
    check("GET", "/_matrix/client/versions", &Route::Versions);
}

#[test]
fn room_ids_are_decoded_once() {
    check("GET", "/_matrix/client/v3/rooms/!a:b/messages", &messages("!a:b"));
    check("GET", "/_matrix/client/r0/rooms/%21a%3Ab/messages/", &messages("!a:b"));
    check("GET", "/_matrix/client/v3/rooms/!a%2Fb%3Ac/messages", &messages("!a/b:c"));
    check("GET", "/_matrix/client/v3/rooms/%2521a/messages", &messages("%21a"));
    check(
        "GET",
        "/_matrix/client/v3/rooms/!a:b/members",
        &Route::Members { room_id: "!a:b".to_owned() },
    );
    let relations = Route::Relations { room_id: "!a:b".to_owned() };
    check("GET", "/_matrix/client/v1/rooms/!a:b/relations/%241/m.thread", &relations);
    check("GET", "/_matrix/client/unstable/rooms/!a%3Ab/relations/$1", &relations);
    check("GET", "/_matrix/client/v3/rooms/!a:b/joined_members", &Route::PassThrough);
    check("POST", "/_matrix/client/v3/rooms/!a:b/messages", &Route::Write(Kept::Nothing));
}

#[test]
fn endpoints_with_tokens_of_their_own_pass() {
    for path in [
        "publicRooms",
        "notifications",
        "initialSync",
        "rooms/!a:b/initialSync",
        "rooms/!a:b/context/$1",
        "rooms/!a:b/threads",
        "rooms/!a:b/hierarchy",
        "rooms/!a:b/event/$1",
        "user_directory/search",
        "org.matrix.msc3814.v1/dehydrated_device/D/events",
        "events/$1",
    ] {
        for version in ["r0", "v1", "v3", "unstable", "api/v1"] {
            check("GET", &format!("/_matrix/client/{version}/{path}"), &Route::PassThrough);
        }
    }
    for version in ["r0", "v3", "api/v1"] {
        check("GET", &format!("/_matrix/client/{version}/events"), &Route::Events);
    }
}

#[test]
fn what_clients_need_not_reach_is_not_forwarded() {
    for path in [
        "/_synapse/admin/v1/register",
        "/_synapse//admin/v1/users",
        "/%5fsynapse/admin/v1/users",
        "/_matrix/client/../../_synapse/admin/v1/users",
        "/x%2f..%2f_synapse/admin/v1/users",
        "/_matrix/federation/v1/version",
        "/_matrix/key/v2/server",
    ] {
        check("GET", path, &Route::NotForwarded);
        check_with(OPEN, "GET", path, &Route::PassThrough);
    }
    check("CONNECT", "", &Route::NotForwarded);
    check("GET", "*", &Route::NotForwarded);
    check_with(OPEN, "GET", "./_synapse/admin/v1/users", &Route::NotForwarded);
}

#[test]
fn the_rest_passes() {
    for path in [
        "/",
        "/_matrix/client/v3/account/whoami",
        "/_matrix/media/v3/download/a/b",
        "/_matrix/static/client/login/",
        "/_synapse/client/oidc/callback",
        "/_matrix/client/v3/directory/room/%23a%3Ab",
        "/_matrix/client/v3/rooms/%FF/send/a/b",
    ] {
        check("GET", path, &Route::PassThrough);
    }
}

#[test]
fn writes_are_told_from_questions() {
    let forget = Route::Write(Kept::Forgotten(String::from("!a:b")));
    let send = Route::Write(Kept::TransactionId(String::from("1/2")));
    let write = Route::Write(Kept::Nothing);
    check("POST", "/_matrix/client/v3/rooms/!a%3Ab/forget", &forget);
    check("GET", "/_matrix/client/v3/rooms/!a:b/forget", &Route::PassThrough);
    check("PUT", "/_matrix/client/v3/rooms/!a:b/send/m.room.message/1%2F2", &send);
    check("PUT", "/_matrix/client/v3/rooms/!a:b/redact/$a/1%2F2", &send);
    check("PUT", "/_matrix/client/v3/rooms/!a:b/state/m.room.topic/", &write);
    check("POST", "/_matrix/client/r0/rooms/!a:b/send/m.room.message", &write);
    check("PUT", "/_matrix/client/v3/presence/@a:b/status", &Route::Write(Kept::Presence));
    check("POST", "/_matrix/client/r0/join/%23a%3Ab", &write);
    check("POST", "/_matrix/client/v3/keys/upload", &Route::Write(Kept::KeyCounts));
    check("DELETE", "/_matrix/client/v3/user/@a:b/rooms/!a:b/tags/u.x", &write);
    check("GET", "/_matrix/client/v3/rooms/!a:b/state", &Route::PassThrough);
    check("GET", "/_matrix/client/v3/keys/changes", &Route::KeyChanges);
    check("POST", "/_matrix/client/v3/keys/query", &Route::PassThrough);
    check("POST", "/_matrix/client/v3/search", &Route::PassThrough);
    check("POST", "/_matrix/client/v3/user/@a:b/filter", &Route::PassThrough);
    check("POST", "/_matrix/media/v3/upload", &Route::PassThrough);
}

#[test]
fn our_own_paths_stay_here() {
    check("GET", "/_syncv3/ping", &Route::Ping);
    check("HEAD", "/_syncv3/ping", &Route::Ping);
    check("GET", "/_syncv3/other", &Route::NotForwarded);
    check_with(OPEN, "GET", "/_syncv3/other", &Route::NotForwarded);
}
