//! What is looked into and changed on the way through: queries, headers, single values in JSON.

use ::tests::fuzz::{check, corpus, json, text};
use hyper::{HeaderMap, Uri, header::HeaderValue};
use serde_json::value::RawValue;

use super::{headers::drop_hop_by_hop, json_edit::Edits, query};
use crate::json::Object;

/// A parameter that is replaced has the new value, and there once; the others stay.
#[test]
fn queries_with_a_parameter_replaced() {
    let seeds = corpus("v2_query");
    check("queries_with_a_parameter_replaced", |choices| {
        let told = text(choices, &seeds);
        let Ok(uri) = format!("/_matrix/client/v3/sync?{told}").parse::<Uri>() else { return };
        let value = text(choices, &seeds);
        choices.note("query", &uri);
        choices.note("value", &value);
        let replaced = query::replace(&uri, &[("since", Some(&value)), ("from", None)]);
        let replaced = replaced.expect("a query that was taken is taken again");
        assert_eq!(replaced.path(), uri.path());
        let pairs = |uri: &Uri| -> Vec<(String, String)> {
            let query = uri.query().unwrap_or_default().to_owned();
            form_urlencoded::parse(query.as_bytes()).into_owned().collect()
        };
        let mut expected = pairs(&uri);
        expected.retain(|(name, _)| name != "since" && name != "from");
        expected.push((String::from("since"), value));
        assert_eq!(pairs(&replaced), expected);
    });
}

/// Whatever `Connection` says, what belongs to one connection stays there, and all else goes on that it does not name.
#[test]
fn headers_of_one_connection() {
    const NAMES: [&str; 8] =
        ["connection", "te", "upgrade", "x-one", "authorization", "keep-alive", "etag", "range"];
    let seeds = NAMES.map(str::to_owned);
    check("headers_of_one_connection", |choices| {
        let mut headers = HeaderMap::new();
        for _ in 0..choices.below(12) {
            let name = *choices.pick(&NAMES);
            let value = text(choices, &seeds);
            let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
            headers.append(name, value);
        }
        choices.note("headers", &headers);
        let before = headers.clone();
        drop_hop_by_hop(&mut headers);
        for name in ["connection", "te", "upgrade", "keep-alive"] {
            assert!(!headers.contains_key(name), "{name}");
        }
        for name in before.keys().filter(|name| !headers.contains_key(*name)) {
            let connection = before.get_all("connection").iter();
            let named = connection.filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|one| one.trim().eq_ignore_ascii_case(name.as_str()))
            });
            let always = ["connection", "te", "upgrade", "keep-alive"].contains(&name.as_str());
            assert!(named || always, "{name}");
        }
        let mut again = headers.clone();
        drop_hop_by_hop(&mut again);
        assert_eq!(again, headers);
    });
}

/// One value of an answer is replaced, and every other byte stays.
#[test]
fn values_replaced_in_json() {
    let seeds = corpus("sync_reply");
    check("values_replaced_in_json", |choices| {
        let bytes = json(choices, &seeds);
        let Ok(answer) = std::str::from_utf8(&bytes) else { return };
        choices.note("answer", &answer);
        let Ok(object) = Object::parse(answer) else { return };
        let mut edits = Edits::of(answer);
        let replaced: Vec<bool> = object.0.iter().map(|_| choices.one_in(2)).collect();
        for ((_, value), replaced) in object.0.iter().zip(&replaced) {
            if *replaced {
                edits.replace(value, String::from("[\"new\"]"));
            }
        }
        let edited = edits.apply();
        let edited = Object::parse(&edited).expect("JSON");
        assert_eq!(edited.0.len(), object.0.len());
        for ((new, old), replaced) in edited.0.iter().zip(&object.0).zip(replaced) {
            assert_eq!(new.0.get(), old.0.get());
            assert_eq!(new.1.get(), if replaced { "[\"new\"]" } else { RawValue::get(old.1) });
        }
    });
}
