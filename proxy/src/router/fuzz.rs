//! Paths: any at all, and every spelling of those that must not reach the homeserver.

use ::tests::fuzz::{Choices, check, corpus, text};

use super::*;

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::HEAD, Method::DELETE];

#[test]
fn paths() {
    let seeds = corpus("path");
    check("paths", |choices| {
        let path = text(choices, &seeds);
        let method = choices.pick(&METHODS);
        let forwarding = Forwarding { admin: choices.one_in(2), federation: choices.one_in(2) };
        choices.note("request", &(method, &path, forwarding));
        let decided = route(method, &path, forwarding);
        // What more is forwarded never changes what is ours.
        let open = Forwarding { admin: true, federation: true };
        let opened = route(method, &path, open);
        assert!(decided == opened || decided == Route::NotForwarded, "{decided:?} {opened:?}");
        if !path.starts_with('/') {
            assert_eq!(opened, Route::NotForwarded);
        }
    });
}

/// However somebody spells one of these, a server that decodes once, merges slashes and resolves dots takes it for the same.
#[test]
fn spellings_of_what_is_closed() {
    const CLOSED: [&str; 6] = [
        "/_matrix/client/v3/sync",
        "/_matrix/client/r0/sync",
        "/_matrix/client/api/v1/sync",
        "/_synapse/admin/v1/users",
        "/_matrix/federation/v1/send/1",
        "/_matrix/key/v2/server",
    ];
    let forwarding = Forwarding { admin: false, federation: false };
    check("spellings_of_what_is_closed", |choices| {
        let closed = *choices.pick(&CLOSED);
        let path = respelt(choices, closed);
        let method = choices.pick(&METHODS);
        choices.note("request", &(method, &path));
        let decided = route(method, &path, forwarding);
        let ours = [Route::SyncV2, Route::SyncV3, Route::NotForwarded];
        assert!(ours.contains(&decided) || matches!(decided, Route::WrongMethod(_)), "{decided:?}");
    });
}

fn respelt(choices: &mut Choices<'_>, path: &str) -> String {
    let mut spelling = String::new();
    for character in path.chars() {
        if character == '/' {
            for _ in 0..choices.below(3) {
                spelling.push_str(choices.pick::<&str>(&["/", "/.", "/%2e", "/x/..", "/x/%2E."]));
            }
        }
        match choices.below(4) {
            0 if character != '/' || choices.one_in(2) => {
                let code = u32::from(character);
                let coded = format!("%{code:02x}");
                let coded = if choices.one_in(2) { coded } else { coded.to_uppercase() };
                spelling.push_str(&coded);
            }
            _ => spelling.push(character),
        }
    }
    let rest = choices.pick(&["", "", "/", "//", "/.", "/x/..", "%2f"]);
    // Above the root is the root; and the first slash makes it a path.
    let root = choices.pick(&["/", "/", "/../", "//%2e%2E/"]);
    format!("{root}{spelling}{rest}")
}
