//! Filters over events, data only.

use super::*;

fn parse(json: &str) -> Filter {
    Filter::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[track_caller]
fn check(filter: &str, event_type: &str, sender: &str, has_url: bool, expected: bool) {
    let filter = parse(&format!(r#"{{"room":{{"timeline":{filter}}}}}"#));
    let seen = Seen { event_type, sender: Some(sender), has_url };
    assert_eq!(filter.room.timeline.admits(seen), expected, "{filter:?}");
}

#[test]
fn events() {
    check("{}", "t", "@a:x", false, true);
    check(r#"{"types":["t"]}"#, "t", "@a:x", false, true);
    check(r#"{"types":["u"]}"#, "t", "@a:x", false, false);
    check(r#"{"types":[]}"#, "t", "@a:x", false, false);
    check(r#"{"types":["t"],"not_types":["*"]}"#, "t", "@a:x", false, false);
    check(r#"{"senders":["@a:x"]}"#, "t", "@a:x", false, true);
    check(r#"{"senders":[]}"#, "t", "@a:x", false, false);
    check(r#"{"senders":["@a:x"],"not_senders":["@a:x"]}"#, "t", "@a:x", false, false);
    check(r#"{"contains_url":true}"#, "t", "@a:x", false, false);
    check(r#"{"contains_url":true}"#, "t", "@a:x", true, true);
    check(r#"{"contains_url":false}"#, "t", "@a:x", true, false);
    check(r#"{"unknown":1}"#, "t", "@a:x", false, true);
}

#[test]
fn rooms() {
    let filter = parse(r#"{"room":{"rooms":["!a:x","!b:x"],"not_rooms":["!b:x"]}}"#);
    assert!(filter.room.admits("!a:x"));
    assert!(!filter.room.admits("!b:x"));
    assert!(!filter.room.admits("!c:x"));
    assert!(!parse(r#"{"room":{"rooms":[]}}"#).room.admits("!a:x"));
}

#[test]
fn events_without_sender() {
    let check = |filter: &str, expected| {
        let filter = parse(&format!(r#"{{"account_data":{filter}}}"#));
        assert_eq!(filter.account_data.admits_without_sender("t"), expected, "{filter:?}");
    };
    check("{}", true);
    check(r#"{"types":["t"]}"#, true);
    check(r#"{"not_types":["t"]}"#, false);
    check(r#"{"senders":["@a:x"]}"#, false);
    check(r#"{"senders":[]}"#, false);
    check(r#"{"not_senders":["@a:x"]}"#, true);
    check(r#"{"contains_url":false}"#, true);
}

#[test]
fn limits() {
    let limit = |json: &str| parse(json).room.timeline.timeline_limit();
    assert_eq!(limit("{}"), 10);
    assert_eq!(limit(r#"{"room":{"timeline":{"limit":0}}}"#), 0);
    assert_eq!(limit(r#"{"room":{"timeline":{"limit":1000}}}"#), 100);
}

#[test]
fn faults() {
    assert!(matches!(Filter::parse(b"{bad"), Err(Error::NotJson(_))));
    for bad in [
        r#"{"room":[]}"#,
        r#"{"room":{"timeline":{"limit":"x"}}}"#,
        r#"{"room":{"timeline":{"limit":-1}}}"#,
        r#"{"room":{"state":{"lazy_load_members":"true"}}}"#,
        r#"{"room":{"state":{"lazy_load_members":1}}}"#,
    ] {
        assert!(matches!(Filter::parse(bad.as_bytes()), Err(Error::BadJson(_))), "{bad}");
    }
}
