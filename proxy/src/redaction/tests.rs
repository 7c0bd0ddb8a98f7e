//! Redactions by room version: data-only cases.

use super::*;

fn create(version: &str) -> Vec<u8> {
    format!(r#"{{"type":"m.room.create","content":{{"room_version":"{version}"}}}}"#).into_bytes()
}

/// An event of a type with this content, pruned; what is left of the content.
#[track_caller]
fn check(version: &str, event_type: &str, content: &str, expected: &str) {
    let event = |content: &str| {
        format!(
            r#"{{"type":"{event_type}","room_id":"!r","sender":"@a:x","state_key":"k","origin_server_ts":1.0,"event_id":"$1","content":{content}}}"#
        )
    };
    let told = event(content).replace("\"content\"", "\"redacts\":\"$9\",\"secret\":1,\"content\"");
    let pruned = prune(Some(&create(version)), told.as_bytes()).expect("it can be redacted");
    assert_eq!(String::from_utf8_lossy(&pruned), event(expected), "{event_type} in {version}");
    let again = prune(Some(&create(version)), &pruned).expect("it can be redacted");
    assert_eq!(again, pruned, "pruning twice is pruning once");
}

#[test]
fn a76_events_are_pruned_by_the_rules_of_their_room_version() {
    for version in ["1", "10", "11", "12", "org.example.new"] {
        check(version, "m.room.message", r#"{"body":"secret","msgtype":"m.text"}"#, "{}");
        check(version, "m.room.topic", r#"{"topic":"secret"}"#, "{}");
        check(
            version,
            "m.room.member",
            r#"{"displayname":"s","membership":"join"}"#,
            r#"{"membership":"join"}"#,
        );
        check(
            version,
            "m.room.history_visibility",
            r#"{"history_visibility":"shared","x":1}"#,
            r#"{"history_visibility":"shared"}"#,
        );
    }
    let join_rules = r#"{"allow":[1],"join_rule":"restricted"}"#;
    check("7", "m.room.join_rules", join_rules, r#"{"join_rule":"restricted"}"#);
    check("8", "m.room.join_rules", join_rules, r#"{"join_rule":"restricted","allow":[1]}"#);
    let levels = r#"{"invite":50,"users":{"@a:x":100.0},"notifications":{"room":1}}"#;
    check("10", "m.room.power_levels", levels, r#"{"users":{"@a:x":100.0}}"#);
    check("11", "m.room.power_levels", levels, r#"{"users":{"@a:x":100.0},"invite":50}"#);
    let member = r#"{"membership":"join","join_authorised_via_users_server":"@b:x","third_party_invite":{"display_name":"s","signed":{"x":1}}}"#;
    check("8", "m.room.member", member, r#"{"membership":"join"}"#);
    check(
        "10",
        "m.room.member",
        member,
        r#"{"membership":"join","join_authorised_via_users_server":"@b:x"}"#,
    );
    check(
        "11",
        "m.room.member",
        member,
        r#"{"membership":"join","join_authorised_via_users_server":"@b:x","third_party_invite":{"signed":{"x":1}}}"#,
    );
    check("5", "m.room.aliases", r#"{"aliases":[]}"#, r#"{"aliases":[]}"#);
    check("6", "m.room.aliases", r#"{"aliases":[]}"#, "{}");
    let redaction = r#"{"reason":"s","redacts":"$2"}"#;
    check("10", "m.room.redaction", redaction, "{}");
    check("11", "m.room.redaction", redaction, r#"{"redacts":"$2"}"#);
    check("org.example.new", "m.room.power_levels", levels, r#"{"users":{"@a:x":100.0}}"#);
}

#[test]
fn a76_odd_events_are_pruned_too() {
    let check = |body: &[u8], expected: &[u8]| {
        assert_eq!(prune(None, body).as_deref(), Some(expected));
    };
    check(br#"{"content":{"s":1},"type":"t","content":{"t":2}}"#, br#"{"type":"t","content":{}}"#);
    check(br#"{"type":"t","content":"secret"}"#, br#"{"type":"t","content":{}}"#);
    check(b"secret", b"{}");
    check(br#"{"t\u0079pe":"t","\ud800":"secret"}"#, br#"{"type":"t","content":{}}"#);
    assert_eq!(prune(None, br#"{"type":"m.room.create","content":{}}"#), None);
}

#[test]
fn a76_the_target_stands_where_the_room_version_says() {
    let check = |version: Option<&str>, redaction: &str, expected: Option<&str>| {
        let create = version.map(create);
        let found = target(create.as_deref(), redaction.as_bytes());
        assert_eq!(found.as_deref(), expected, "{redaction} in {version:?}");
    };
    let both = r#"{"redacts":"$top","content":{"redacts":"$content"}}"#;
    let (top, content) = (r#"{"redacts":"$top"}"#, r#"{"content":{"redacts":"$content"}}"#);
    check(Some("1"), both, Some("$top"));
    check(Some("10"), both, Some("$top"));
    check(Some("11"), both, Some("$content"));
    check(Some("12"), both, Some("$content"));
    check(Some("10"), content, None);
    check(Some("11"), top, Some("$top"));
    check(None, top, Some("$top"));
    check(None, content, Some("$content"));
    check(None, r#"{"redacts":5}"#, None);
    check(None, r#"{"redacts":"\u0000"}"#, None);
    let unversioned = target(Some(b"{\"content\":{}}"), both.as_bytes());
    assert_eq!(unversioned.as_deref(), Some("$top"), "no version is version 1");
}

#[test]
fn c6_copies_are_found_and_taken_out() {
    let check = |unsigned: &str, found: &[&str], redacted: &str, expected: Option<&str>| {
        let object = Object::parse(unsigned).expect("the test's JSON is good");
        assert_eq!(copies(&object), found, "{unsigned}");
        let rest = without_copies(unsigned.as_bytes(), &HashSet::from([redacted.to_owned()]));
        let rest = rest.map(|rest| String::from_utf8_lossy(&rest).into_owned());
        assert_eq!(rest.as_deref(), expected, "{unsigned} without {redacted}");
    };
    let state = r#"{"replaces_state":"$1","prev_content":{"topic":"s"},"prev_sender":"@a:x"}"#;
    check(state, &["$1"], "$1", Some(r#"{"replaces_state":"$1","prev_sender":"@a:x"}"#));
    check(state, &["$1"], "$2", Some(state));
    check(r#"{"replaces_state":"$1"}"#, &[], "$1", Some(r#"{"replaces_state":"$1"}"#));
    let edit = r#"{"m.relations":{"m.replace":{"event_id":"$1","content":{"body":"s"}}}}"#;
    check(edit, &["$1"], "$1", Some(r#"{"m.relations":{}}"#));
    check(edit, &["$1"], "$2", Some(edit));
    let thread = r#"{"m.relations":{"m.thread":{"count":2,"latest_event":{"event_id":"$1","type":"t","content":{"body":"s"},"unsigned":{"m.relations":{"m.replace":{"event_id":"$2","content":{}}}}}}},"x":1.10}"#;
    check(
        thread,
        &["$1", "$2"],
        "$1",
        Some(
            r#"{"m.relations":{"m.thread":{"count":2,"latest_event":{"type":"t","event_id":"$1","content":{}}}},"x":1.10}"#,
        ),
    );
    check(
        thread,
        &["$1", "$2"],
        "$2",
        Some(
            r#"{"m.relations":{"m.thread":{"count":2,"latest_event":{"event_id":"$1","type":"t","content":{"body":"s"},"unsigned":{"m.relations":{}}}}},"x":1.10}"#,
        ),
    );
    let reference = r#"{"m.relations":{"m.reference":{"chunk":[{"event_id":"$1"}]}}}"#;
    check(reference, &[], "$1", Some(reference));
}

#[test]
fn c6_copies_that_could_not_be_found_are_left_out() {
    let check = |unsigned: &str, expected: &str| {
        let rest = without_strays(&Object::parse(unsigned).expect("the test's JSON is good"));
        assert_eq!(String::from_utf8_lossy(&rest), expected);
    };
    check(r#"{"m.relations":{"m.replace":{"event_id":5}}}"#, r#"{"m.relations":{}}"#);
    check(r#"{"m.relations":{"m.replace":{"event_id":"\u0000"}}}"#, r#"{"m.relations":{}}"#);
    let nest = |depth: usize| {
        (0..depth).fold("{}".to_owned(), |inner, n| {
            format!(r#"{{"m.relations":{{"m.replace":{{"event_id":"${n}","unsigned":{inner}}}}}}}"#)
        })
    };
    check(&nest(4), &nest(4));
    let cut =
        String::from_utf8(without_strays(&Object::parse(&nest(9)).expect("good"))).expect("text");
    assert!(cut.contains("$5") && !cut.contains("$4"), "{cut}");
}
