//! Replaces single values inside JSON text, and leaves every other byte alone.
//!
//! Neighbours: `login` and `messages` edit the homeserver's answers with it. Parsing and writing again would change numbers, and
//! fail on escapes that are legal but not text (lone surrogates).

use std::ops::Range;

use serde_json::value::RawValue;

/// Replacements to make in one JSON text.
pub(super) struct Edits<'a> {
    text: &'a str,
    list: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    /// Starts on `text`.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, list: Vec::new() }
    }

    /// Replaces `value`, which must have been borrowed from the text, by other JSON.
    pub(super) fn replace(&mut self, value: &'a RawValue, by: String) {
        let start = (value.get().as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        debug_assert!(start.is_some_and(|start| start + value.get().len() <= self.text.len()));
        if let Some(start) = start {
            self.list.push((start..start + value.get().len(), by));
        }
    }

    /// Makes the replacements.
    pub(super) fn apply(mut self) -> String {
        self.list.sort_by_key(|(range, _)| range.start);
        let mut edited = String::with_capacity(self.text.len());
        let mut done = 0;
        for (range, by) in self.list {
            edited.push_str(self.text.get(done..range.start).unwrap_or_default());
            edited.push_str(&by);
            done = range.end;
        }
        edited.push_str(self.text.get(done..).unwrap_or_default());
        edited
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Pair<'a> {
        #[serde(borrow)]
        a: &'a RawValue,
        #[serde(borrow)]
        b: &'a RawValue,
    }

    #[test]
    fn only_the_values_change() {
        let check = |text: &str, expected: &str| {
            let pair: Pair<'_> = serde_json::from_str(text).expect("the test's JSON is good");
            let mut edits = Edits::of(text);
            edits.replace(pair.b, "true".to_owned());
            edits.replace(pair.a, crate::json::string("\"x\""));
            assert_eq!(edits.apply(), expected);
        };
        check(r#"{"a":1,"b":2}"#, r#"{"a":"\"x\"","b":true}"#);
        check(
            r#"{ "b" : [ 1.10 ] ,"z":1e400,"a":{"c":"\ud800"} , "é":"\u0000"}"#,
            r#"{ "b" : true ,"z":1e400,"a":"\"x\"" , "é":"\u0000"}"#,
        );
    }
}
