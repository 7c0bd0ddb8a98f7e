//! Reading the members of a JSON object strictly: what has the wrong type is refused by its full name.
//!
//! Streams read their parameters with it. It knows nothing of what they mean.

use serde_json::{Map, Value};

use crate::error::Error;

/// A JSON object of the request, and how the client calls it.
pub(crate) struct Fields<'a> {
    path: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The object that the client calls `path`.
    pub(crate) fn new(path: impl Into<String>, object: &'a Map<String, Value>) -> Self {
        Self { path: path.into(), object }
    }

    /// A string.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A list of strings.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, Error> {
        self.typed(key, "a list of strings", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// An object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, Error> {
        let object = self.typed(key, "an object", Value::as_object)?;
        Ok(object.map(|object| Fields::new(self.name(key), object)))
    }

    /// True or false; `default` where nothing is said.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// How many entries a reply may have: `default` where nothing is said, never more than `most`.
    pub(crate) fn limit(&self, key: &str, default: u64, most: u64) -> Result<u64, Error> {
        match self.limit_or_none(key, default, most)? {
            0 => Err(self.invalid(key, "must be at least 1")),
            limit => Ok(limit),
        }
    }

    /// The same where 0 has a meaning of its own.
    pub(crate) fn limit_or_none(&self, key: &str, default: u64, most: u64) -> Result<u64, Error> {
        let Some(asked) = self.typed(key, "an integer", integer)? else { return Ok(default) };
        match u64::try_from(asked) {
            Ok(asked) => Ok(asked.min(most)),
            Err(_) => Err(self.invalid(key, "must not be negative")),
        }
    }

    /// The value of a key as it came.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key)
    }

    /// Whether a limit is asked for that [`Fields::limit`] lowers: then the reply must say so.
    pub(crate) fn lowers(&self, key: &str, most: u64) -> Result<bool, Error> {
        let asked = self.typed(key, "an integer", integer)?;
        Ok(asked.and_then(|asked| u64::try_from(asked).ok()).is_some_and(|asked| asked > most))
    }

    /// A room ID, which must be there.
    pub(crate) fn room_id(&self, key: &str) -> Result<&'a str, Error> {
        let room_id = self.text(key)?.ok_or_else(|| self.missing(key))?;
        if is_room_id(room_id) { Ok(room_id) } else { Err(self.invalid(key, "is not a room ID")) }
    }

    /// Room IDs, at most `most` of them; none where nothing is said.
    pub(crate) fn room_ids(&self, key: &str, most: usize) -> Result<Vec<&'a str>, Error> {
        let room_ids = self.texts(key)?.unwrap_or_default();
        if room_ids.len() > most {
            return Err(self.invalid(key, &format!("has more than {most} room IDs")));
        }
        match room_ids.iter().find(|room_id| !is_room_id(room_id)) {
            None => Ok(room_ids),
            Some(wrong) => Err(self.invalid(key, &format!("{wrong:?} is not a room ID"))),
        }
    }

    /// The refusal of parameters without one that has to be there.
    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::BadJson(format!("{}: is missing", self.name(key)))
    }

    /// The refusal of a value of another type.
    pub(crate) fn wrong_type(&self, key: &str, expected: &str) -> Error {
        Error::BadJson(format!("{}: must be {expected}", self.name(key)))
    }

    /// The refusal of a value that has the right type.
    pub(crate) fn invalid(&self, key: &str, why: &str) -> Error {
        Error::InvalidParam(format!("{}: {why}", self.name(key)))
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.object.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.wrong_type(key, expected))
    }

    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }
}

/// Whether this is a room ID. Those of room version 12 and later have no server name.
fn is_room_id(text: &str) -> bool {
    text.len() > 1 && ruma_identifiers_validation::room_id::validate(text).is_ok()
}

/// An integer, brought into range: a limit beyond every number we can hold is still only too large.
fn integer(value: &Value) -> Option<i64> {
    /// From here on every double is a whole number.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    let number = value.as_number()?;
    if let Some(number) = number.as_i64() {
        return Some(number);
    }
    match number.as_f64()? {
        float if float >= WHOLE => Some(i64::MAX),
        float if float <= -WHOLE => Some(i64::MIN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `{"f": <json>}` and describes the outcome.
    fn read<T: std::fmt::Debug>(
        json: &str,
        read: impl Fn(&Fields<'_>) -> Result<T, Error>,
    ) -> String {
        let text = format!("{{\"f\":{json}}}");
        let object: Map<String, Value> = serde_json::from_str(&text).unwrap();
        match read(&Fields::new("s", &object)) {
            Ok(value) => format!("{value:?}"),
            Err(Error::BadJson(text)) => format!("bad: {text}"),
            Err(Error::InvalidParam(text)) => format!("invalid: {text}"),
            Err(other) => format!("{other}"),
        }
    }

    #[test]
    fn limits() {
        let check = |json: &str, expected: &str| {
            assert_eq!(read(json, |fields| fields.limit("f", 50, 1000)), expected, "{json}");
        };
        check("1", "1");
        check("1000", "1000");
        check("1001", "1000");
        check("18446744073709551615", "1000");
        check("1e30", "1000");
        check("0", "invalid: s.f: must be at least 1");
        check("-1", "invalid: s.f: must not be negative");
        check("-1e30", "invalid: s.f: must not be negative");
        check("1.5", "bad: s.f: must be an integer");
        check("\"1\"", "bad: s.f: must be an integer");
        check("null", "bad: s.f: must be an integer");
        check("true", "bad: s.f: must be an integer");
        assert_eq!(read("1", |fields| fields.limit("other", 50, 1000)), "50");
    }

    #[test]
    fn room_ids() {
        let check = |json: &str, expected: &str| {
            assert_eq!(read(json, |fields| fields.room_id("f").map(str::to_owned)), expected);
        };
        check("\"!a:b.example\"", "\"!a:b.example\"");
        check(
            "\"!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM\"",
            "\"!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM\"",
        );
        check("\"\"", "invalid: s.f: is not a room ID");
        check("\"!\"", "invalid: s.f: is not a room ID");
        check("\"#a:b\"", "invalid: s.f: is not a room ID");
        check("\"!a\\u0000:b\"", "invalid: s.f: is not a room ID");
        check("5", "bad: s.f: must be a string");
        check("[\"!a:b\"]", "bad: s.f: must be a string");
        let missing = read("1", |fields| fields.room_id("room_id").map(str::to_owned));
        assert_eq!(missing, "bad: s.room_id: is missing");
    }

    #[test]
    fn names_show_the_way() {
        let nested = read(r#"{"since":5}"#, |fields| {
            let page = fields.object("f")?;
            page.map(|page| page.text("since").map(|_| ())).transpose()
        });
        assert_eq!(nested, "bad: s.f.since: must be a string");
        let list = read("[\"a\",1]", |fields| fields.texts("f").map(|_| ()));
        assert_eq!(list, "bad: s.f: must be a list of strings");
    }
}
