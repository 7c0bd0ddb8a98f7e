//! `event_fields`: which fields of an event a client wants, as dot-separated paths.
//! <https://spec.matrix.org/v1.16/appendices/#dot-separated-property-paths>

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::json::{self, Object};

/// Paths are followed this deep; what lies deeper comes whole. A server may send more than was asked for, and must not
/// run out of stack.
const DEEPEST: usize = 16;

/// The paths of a filter. None at all, which is the default, admit everything, and so does an empty list, as in Synapse.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Vec<String>")]
pub(crate) struct FieldPaths(Fields);

/// The fields of one object.
#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<String, Field>);

#[derive(Clone, Debug)]
enum Field {
    Whole,
    Parts(Fields),
}

impl FieldPaths {
    /// Whether events come as they are.
    pub(crate) fn admit_everything(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Appends what is wanted of an event. What is not an object comes as it is.
    pub(crate) fn write(&self, event: &[u8], out: &mut Vec<u8>) {
        let taken_apart = if self.admit_everything() { None } else { Object::read(event) };
        match taken_apart {
            Some(object) => {
                self.0.write(&object, out);
            }
            None => out.extend_from_slice(event),
        }
    }
}

impl From<Vec<String>> for FieldPaths {
    fn from(paths: Vec<String>) -> Self {
        let mut fields = Fields::default();
        for path in paths {
            fields.add(&segments(&path));
        }
        Self(fields)
    }
}

impl Fields {
    fn add(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let field = self.0.entry(first.clone()).or_insert_with(|| Field::Parts(Self::default()));
        match field {
            _ if rest.is_empty() => *field = Field::Whole,
            Field::Parts(parts) => parts.add(rest),
            // A shorter path asks for all of it already.
            Field::Whole => {}
        }
    }

    /// Appends the object with these of its fields, byte for byte; gives whether there are any. An object of which nothing
    /// is wanted is left out of the one around it.
    fn write(&self, object: &Object<'_>, out: &mut Vec<u8>) -> bool {
        out.push(b'{');
        let mut any = false;
        for (key, value) in &object.0 {
            let Some(field) = json::text(key).and_then(|name| self.0.get(&*name)) else { continue };
            let before = out.len();
            if any {
                out.push(b',');
            }
            out.extend_from_slice(key.get().as_bytes());
            out.push(b':');
            let written = match field {
                Field::Whole => {
                    out.extend_from_slice(value.get().as_bytes());
                    true
                }
                Field::Parts(parts) => {
                    Object::of(value).is_some_and(|inner| parts.write(&inner, out))
                }
            };
            if written {
                any = true;
            } else {
                out.truncate(before);
            }
        }
        out.push(b'}');
        any
    }
}

/// The names on a path. A backslash makes a dot or a backslash part of a name; before anything else it stands for itself.
fn segments(path: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = character == '\\' && matches!(characters.peek(), Some('.' | '\\'));
        if character == '.' {
            if segments.len() == DEEPEST {
                break;
            }
            segments.push(String::new());
        } else if let Some(segment) = segments.last_mut() {
            let next = if escaped { characters.next() } else { None };
            segment.push(next.unwrap_or(character));
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(paths: &[&str], event: &str, expected: &str) {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        let mut out = Vec::new();
        FieldPaths::from(paths).write(event.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn paths_choose_fields() {
        let event =
            r#"{"type":"t","content":{"body":"b", "m.x":{"y":1.10,"z":2}},"sender":"@a:x"}"#;
        check(&[], event, event);
        check(&["type"], event, r#"{"type":"t"}"#);
        check(&["content.body", "sender"], event, r#"{"content":{"body":"b"},"sender":"@a:x"}"#);
        check(&[r"content.m\.x.y"], event, r#"{"content":{"m.x":{"y":1.10}}}"#);
        check(&["content.m.x"], event, "{}");
        check(&["type.deeper", "content.nothing"], event, "{}");
        let content = r#"{"content":{"body":"b", "m.x":{"y":1.10,"z":2}}}"#;
        check(&["content", "content.body"], event, content);
        check(&["content.body", "content"], event, content);
        check(&["type"], "[]", "[]");
    }

    #[test]
    fn odd_keys_are_found() {
        check(&[r"a\\b"], r#"{"a\\b":1,"a":2}"#, r#"{"a\\b":1}"#);
        check(&[r"a\b"], r#"{"a\\b":1}"#, r#"{"a\\b":1}"#);
        check(&["a"], r#"{"\u0061":1,"\ud800":2,"a":3}"#, r#"{"\u0061":1,"a":3}"#);
        check(&[""], r#"{"":1,"a":2}"#, r#"{"":1}"#);
    }

    #[test]
    fn what_lies_very_deep_comes_whole() {
        let depth = 20_000;
        let event = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        check(&[&"a.".repeat(depth)], &event, &event);
    }
}
