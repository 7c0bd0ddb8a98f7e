//! JSON that is nearly right: a real document with a few changes, legal and illegal ones.
//!
//! What is changed is a tree of raw pieces, since much of what must be tried is no `Value`: a key twice, a lone surrogate,
//! a number beyond all types, nesting beyond the stack.

use serde_json::Value;

use super::Choices;
use super::text::spoiled;

/// Values that somebody may not have thought of.
const ODD: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1.5",
    "-0.0",
    "1e400",
    "-1e400",
    "9007199254740993",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\u0061\"",
    "\"true\"",
    "\"1\"",
    "\"*\"",
    "\"m.*.x*\"",
    "\"é\u{202e}\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "{\"\":0}",
    "[\"\\ud800\"]",
    "{\"\\ud800\":1}",
    "[\"m.room.member\"]",
    "{\"events\":[null]}",
    "{\"events\":{}}",
    "{\"a\":1,\"a\":2}",
];

/// Keys that are spelt otherwise.
const ODD_KEYS: &[&str] = &[
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\u0074ype\"",
    "\"!\\u0000:x\"",
    "\"Type\"",
    "\"constructor\"",
];

/// A document as pieces of text.
#[derive(Debug, Clone)]
enum Tree {
    Raw(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// One of these documents with some changes; rarely with some that make it no JSON.
pub fn json(choices: &mut Choices<'_>, seeds: &[String]) -> Vec<u8> {
    let seed = choices.pick(seeds);
    let mut tree =
        Tree::of(&serde_json::from_str(seed).unwrap_or_else(|error| panic!("{seed}: {error}")));
    for _ in 0..choices.below(6) {
        let other = tree.clone();
        let target = tree.descend(choices);
        target.change(choices, &other);
    }
    let mut text = String::new();
    tree.write(&mut text);
    if choices.one_in(10) { spoiled(choices, text.into_bytes()) } else { text.into_bytes() }
}

impl Tree {
    fn of(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(members) => {
                let member = |(key, value): (&String, &Value)| (quoted(key), Self::of(value));
                Self::Object(members.iter().map(member).collect())
            }
            plain => Self::Raw(plain.to_string()),
        }
    }

    /// How many places are directly in it.
    const fn len(&self) -> usize {
        match self {
            Self::Raw(_) => 0,
            Self::List(items) => items.len(),
            Self::Object(members) => members.len(),
        }
    }

    /// Some place in the tree.
    fn descend(&mut self, choices: &mut Choices<'_>) -> &mut Self {
        // It ends with a certain chance at each level, so that the upper parts are changed as well.
        if self.len() == 0 || choices.one_in(6) {
            return self;
        }
        let at = choices.below(self.len());
        match self {
            Self::Raw(_) => self,
            Self::List(items) => items[at].descend(choices),
            Self::Object(members) => members[at].1.descend(choices),
        }
    }

    fn change(&mut self, choices: &mut Choices<'_>, document: &Self) {
        match choices.below(8) {
            0 => *self = Self::Raw((*choices.pick(ODD)).to_owned()),
            1 => *self = Self::Raw(deep(choices)),
            2 => *self = Self::Raw(long(choices)),
            3 => *self = document.clone().descend(choices).clone(),
            4 => *self = Self::List(vec![self.clone(); choices.below(4)]),
            5 => *self = Self::Object(vec![("\"a\"".to_owned(), self.clone())]),
            _ => self.change_inside(choices),
        }
    }

    /// Drops, doubles, swaps or renames what it holds.
    fn change_inside(&mut self, choices: &mut Choices<'_>) {
        match self {
            Self::List(items) if !items.is_empty() => {
                let at = choices.below(items.len());
                match choices.below(3) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => items.swap(0, at),
                }
            }
            Self::Object(members) if !members.is_empty() => {
                let at = choices.below(members.len());
                match choices.below(5) {
                    0 => drop(members.remove(at)),
                    1 => members.push(members[at].clone()),
                    2 => members[at].0 = String::from(*choices.pick(ODD_KEYS)),
                    3 => {
                        let key = members[at].0.clone();
                        members.push((key, Self::Raw((*choices.pick(ODD)).to_owned())));
                    }
                    _ => {
                        let (one, other) = (members[0].1.clone(), members[at].1.clone());
                        (members[0].1, members[at].1) = (other, one);
                    }
                }
            }
            other => *other = Self::Raw((*choices.pick(ODD)).to_owned()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(key);
                    out.push_str(if at % 7 == 6 { " :\t" } else { ":" });
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Nesting: about as deep as a parser with a limit goes, and far deeper than a stack is.
fn deep(choices: &mut Choices<'_>) -> String {
    let depth = *choices.pick(&[100, 126, 127, 128, 129, 1_000, 20_000]);
    match choices.below(3) {
        0 => format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        1 => format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)),
        _ => format!(
            "{}1{}",
            "{\"unsigned\":{\"redacted_because\":".repeat(depth),
            "}}".repeat(depth)
        ),
    }
}

/// A long string, about as long as a key may be or far longer.
fn long(choices: &mut Choices<'_>) -> String {
    let length = *choices.pick(&[254, 255, 256, 799, 800, 801, 3_000, 70_000]);
    quoted(&choices.pick(&["a", "!", "\"", "\0", "*a"]).repeat(length))
}
