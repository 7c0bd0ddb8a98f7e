//! Event types with wildcards: `*` stands for any sequence of characters, anywhere.

use serde::{Deserialize, Serialize};

/// A list of types, some with wildcards.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Patterns(Vec<String>);

impl From<Vec<String>> for Patterns {
    fn from(patterns: Vec<String>) -> Self {
        Self(patterns)
    }
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them matches.
    pub(super) fn match_any(&self, event_type: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, event_type))
    }
}

/// The pieces between the wildcards must follow each other, the first at the beginning and the last at
/// the end. To take each piece where it first occurs is enough: a later place leaves less room.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards() {
        let check = |pattern, text, expected| {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        };
        check("m.room.message", "m.room.message", true);
        check("m.room.message", "m.room.messages", false);
        check("*", "", true);
        check("*", "anything", true);
        check("m.room.*", "m.room.name", true);
        check("m.room.*", "m.call.invite", false);
        check("*.message", "m.room.message", true);
        check("*.message", "m.room.message.x", false);
        check("m.*.name", "m.room.name", true);
        check("m.*.name", "m.name", false);
        check("m.*o*.name", "m.room.name", true);
        check("a*b*a", "aba", true);
        check("a*a", "a", false);
        check("", "", true);
    }
}
