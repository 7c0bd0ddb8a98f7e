//! One page of a room's history, as the homeserver sent it, and what may be changed in it.
//!
//! Neighbours: `messages` alone. Events are carried as they are; of each only its ID is read.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::json::{self, Object, text};
use crate::passthrough::json_edit::Edits;

/// A page.
pub(super) struct Page<'a> {
    text: &'a str,
    start: Option<&'a RawValue>,
    chunk: &'a RawValue,
    events: Vec<&'a RawValue>,
}

impl<'a> Page<'a> {
    /// Reads a page, if the text is one. The field named `start` repeats where it begins.
    pub(super) fn read(text: &'a str, start: &str) -> Option<Self> {
        let answer = Object::parse(text).ok()?;
        let chunk = answer.get("chunk")?;
        let events = serde_json::from_str(chunk.get()).ok()?;
        Some(Self { text, start: answer.get(start), chunk, events })
    }

    /// If more than `wanted` events remain without the unwanted ones: how many to ask for so that exactly `wanted` do.
    pub(super) fn limit_for(&self, wanted: usize, unwanted: &HashSet<String>) -> Option<usize> {
        let mut kept = self.events.iter().enumerate().filter(|(_, event)| !is_in(event, unwanted));
        let limit = match wanted.checked_sub(1) {
            Some(before_last) => kept.nth(before_last)?.0 + 1,
            None => 0,
        };
        kept.next().map(|_| limit)
    }

    /// The page without the unwanted events, beginning where the client said.
    pub(super) fn rewritten(&self, unwanted: &HashSet<String>, start: Option<&str>) -> String {
        let mut edits = Edits::of(self.text);
        if let (Some(value), Some(start)) = (self.start, start) {
            edits.replace(value, json::string(start));
        }
        let kept: Vec<&str> = self
            .events
            .iter()
            .filter(|event| !is_in(event, unwanted))
            .map(|event| event.get())
            .collect();
        if kept.len() < self.events.len() {
            edits.replace(self.chunk, format!("[{}]", kept.join(",")));
        }
        edits.apply()
    }
}

fn is_in(event: &RawValue, ids: &HashSet<String>) -> bool {
    let id = Object::of(event).and_then(|event| event.get("event_id")).and_then(text);
    id.is_some_and(|id| ids.contains(id.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &str) -> String {
        let events: Vec<String> = ids
            .chars()
            .map(|id| format!(r#"{{"event_id":"{id}","content":{{"n":1.10,"s":"\ud800"}}}}"#))
            .collect();
        format!(r#"{{"start":"s9","chunk":[{}],"end":"t1","state":[{{}}]}}"#, events.join(", "))
    }

    fn set(ids: &str) -> HashSet<String> {
        ids.chars().map(String::from).collect()
    }

    #[test]
    fn the_exact_limit_is_found() {
        let check = |ids: &str, unwanted: &str, wanted: usize, expected: Option<usize>| {
            let text = page(ids);
            let page = Page::read(&text, "start").expect("the test's page is good");
            assert_eq!(
                page.limit_for(wanted, &set(unwanted)),
                expected,
                "{ids} without {unwanted}, {wanted} wanted"
            );
        };
        check("xyabc", "xy", 3, None);
        check("xyab", "xy", 3, None);
        check("", "xy", 3, None);
        // Only one of two unwanted ones came (the other is filtered out): one too many remains.
        check("xabcd", "xy", 3, Some(4));
        // The unwanted one stands in the middle.
        check("axbcd", "xy", 3, Some(4));
        check("abcxd", "xy", 3, Some(3));
        check("abcd", "", 0, Some(0));
        check("x", "x", 0, None);
    }

    #[test]
    fn dropped_events_leave_the_others_as_they_were() {
        let check = |ids: &str, unwanted: &str, expected: &str| {
            let text = page(ids);
            let rewritten = Page::read(&text, "start")
                .expect("the test's page is good")
                .rewritten(&set(unwanted), Some("v2_a"));
            let expected = page(expected).replace("\"s9\"", "\"v2_a\"");
            if unwanted.is_empty() {
                assert_eq!(rewritten, expected);
            } else {
                assert_eq!(rewritten, expected.replace("}, {", "},{"));
            }
        };
        check("abc", "", "abc");
        check("xaybz", "xyz", "ab");
        check("xyz", "xyz", "");
        assert_eq!(
            Page::read(&page("a"), "start").map(|page| page.rewritten(&set(""), None)),
            Some(page("a"))
        );
    }

    #[test]
    fn what_is_no_page_is_left_alone() {
        for text in ["", "<html>", "[]", "{}", r#"{"chunk":{}}"#] {
            assert!(Page::read(text, "start").is_none(), "{text}");
        }
    }
}
