//! Raw JSON: taking objects apart and putting them together without touching the bytes of what they
//! hold.
//!
//! `serde_json::Value` refuses or alters legal input (lone surrogates, depth, big numbers), so events
//! are only ever cut at the seams of their outermost object. This module knows nothing of Matrix.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of a JSON object, in order, duplicates included, as raw text.
pub(crate) struct Object<'a>(pub(crate) Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Takes an object apart.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Takes apart what ought to be an object; `None` for anything else.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        Self::parse(std::str::from_utf8(bytes).ok()?).ok()
    }

    /// Takes a value apart; `None` if it is no object.
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        Self::parse(raw.get()).ok()
    }

    /// The object at a key; `None` if there is none.
    pub(crate) fn object(&self, key: &str) -> Option<Self> {
        Self::of(self.get(key)?)
    }

    /// The value of a key; of a duplicated key, the last.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| is_key(name, key)).map(|(_, value)| *value)
    }

    /// The members with readable keys, in order.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> + '_ {
        self.0.iter().filter_map(|(key, value)| Some((text(key)?, *value)))
    }

    /// Writes the object without some of its members; everything else byte for byte. Gives back
    /// whether any member is left.
    pub(crate) fn write_without(&self, dropped: &[&str], out: &mut Vec<u8>) -> bool {
        self.write_with(dropped, None, out)
    }

    /// Writes the object with the value of `key` replaced.
    pub(crate) fn write_replacing(&self, key: &str, value: &[u8], out: &mut Vec<u8>) {
        self.write_with(&[], Some((key, value)), out);
    }

    fn write_with(
        &self,
        dropped: &[&str],
        replaced: Option<(&str, &[u8])>,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut any = false;
        out.push(b'{');
        for (key, value) in &self.0 {
            if dropped.iter().any(|name| is_key(key, name)) {
                continue;
            }
            if any {
                out.push(b',');
            }
            any = true;
            out.extend_from_slice(key.get().as_bytes());
            out.push(b':');
            match replaced {
                Some((name, new)) if is_key(key, name) => out.extend_from_slice(new),
                _ => out.extend_from_slice(value.get().as_bytes()),
            }
        }
        out.push(b'}');
        any
    }
}

fn is_key(raw: &RawValue, key: &str) -> bool {
    let quoted = raw.get().as_bytes();
    // The common case first: a key without escapes is its own text between quotes.
    if quoted.len() == key.len() + 2 && &quoted[1..quoted.len() - 1] == key.as_bytes() {
        return true;
    }
    quoted.contains(&b'\\') && text(raw).is_some_and(|name| name == key)
}

/// A JSON string's text; `None` if it is no string, or one that Unicode cannot hold.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = raw.get();
    if quoted.len() >= 2 && quoted.starts_with('"') && !quoted.contains('\\') {
        return Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]));
    }
    serde_json::from_str::<String>(quoted).ok().map(Cow::Owned)
}

/// The items of a JSON list; `None` for anything else.
pub(crate) fn list(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// A small value of a known shape; `None` if it has another.
pub(crate) fn value<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// An integer, whole floats included; `None` for anything else.
pub(crate) fn integer(raw: &RawValue) -> Option<i64> {
    let number: serde_json::Number = value(raw)?;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
        (float.fract() == 0.0 && float.abs() < 9.0e15).then_some(float as i64)
    })
}

/// Writes a string as JSON.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A string as JSON.
pub(crate) fn string(text: &str) -> String {
    let mut out = Vec::new();
    write_string(text, &mut out);
    // Text goes in, text comes out.
    String::from_utf8_lossy(&out).into_owned()
}

/// A list of strings as JSON.
pub(crate) fn strings<T: AsRef<str>>(texts: &[T]) -> String {
    let mut out = Vec::new();
    write_list(texts, &mut out, |text, out| write_string(text.as_ref(), out));
    // It was put together from text.
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes values with commas between them and brackets around.
pub(crate) fn write_list<T>(
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    let mut first = true;
    for item in items {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Writes the members of an object one by one.
pub(crate) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens an object.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes a key and gives the place to write its value to.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        write_string(key, self.out);
        self.out.push(b':');
        self.out
    }

    /// Writes a member whose value is JSON already.
    pub(crate) fn raw(&mut self, key: &str, json: &[u8]) {
        self.key(key).extend_from_slice(json);
    }

    /// Closes the object.
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Object<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<&'a RawValue, &'a RawValue>()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_without(object: &str, dropped: &[&str], expected: &str) {
        let mut out = Vec::new();
        Object::parse(object).expect("an object").write_without(dropped, &mut out);
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn members_are_cut_at_the_seams() {
        check_without(r#"{"a":1,"b":2}"#, &["b"], r#"{"a":1}"#);
        check_without(r#"{"b":2}"#, &["b"], "{}");
        check_without(
            r#"{ "a" : 1.10 , "b":{"x":[ 1, 2]} }"#,
            &[],
            r#"{"a":1.10,"b":{"x":[ 1, 2]}}"#,
        );
        check_without(r#"{"a":1,"a":2,"b":3}"#, &["b"], r#"{"a":1,"a":2}"#);
        check_without(r#"{"\u0062":2,"c":3}"#, &["b"], r#"{"c":3}"#);
    }

    #[test]
    fn odd_but_legal_json_is_carried() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
        check_without(&deep, &[], &deep);
        check_without(
            r#"{"\ud800":"\ud800","a":1e400}"#,
            &["b"],
            r#"{"\ud800":"\ud800","a":1e400}"#,
        );
    }

    #[test]
    fn only_objects_are_taken_apart() {
        let object = Object::read(br#"{"a":{"b":1},"c":[]}"#).expect("an object");
        assert_eq!(object.object("a").and_then(|a| a.get("b")).map(RawValue::get), Some("1"));
        assert!(object.object("c").is_none() && object.object("d").is_none());
        assert!(Object::read(b"[]").is_none() && Object::read(b"\xff").is_none());
    }

    #[test]
    fn lists_of_strings() {
        assert_eq!(strings(&["a", "\"b"]), r#"["a","\"b"]"#);
        assert_eq!(strings::<String>(&[]), "[]");
    }

    #[test]
    fn integers() {
        let check = |json: &str, expected| {
            let raw: &RawValue = serde_json::from_str(json).expect("json");
            assert_eq!(integer(raw), expected, "{json}");
        };
        check("12", Some(12));
        check("12.0", Some(12));
        check("12.5", None);
        check("\"12\"", None);
        check("1e400", None);
        check("99999999999999999999", None);
    }
}
