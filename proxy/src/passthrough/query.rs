//! Replaces parameters in a query, and leaves all others as they were written.
//!
//! Neighbours: `messages`, `members`.

use std::borrow::Cow;

use form_urlencoded::{byte_serialize, parse};
use hyper::Uri;
use hyper::http::uri::PathAndQuery;

use crate::error::Error;

pub(super) use crate::query::get;

/// The same path with parameters replaced, added where they were missing, or (`None`) left out.
pub(super) fn replace(uri: &Uri, parameters: &[(&str, Option<&str>)]) -> Result<Uri, Error> {
    let query = replaced(uri.query().unwrap_or_default(), parameters);
    let path: PathAndQuery =
        format!("{}?{query}", uri.path()).parse().map_err(|_| Error::Unrecognized)?;
    Ok(Uri::from(path))
}

fn replaced(query: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut pairs: Vec<Cow<'_, str>> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = parse(pair.as_bytes()).next().map(|(name, _)| name).unwrap_or_default();
        // Parameters that stand twice are written once: a server must not choose the other one.
        if !parameters.iter().any(|(key, _)| name == *key) {
            pairs.push(pair.into());
        }
    }
    for (key, value) in parameters {
        let Some(value) = value else { continue };
        pairs
            .push(format!("{key}={}", byte_serialize(value.as_bytes()).collect::<String>()).into());
    }
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_parameters_stay_as_they_are() {
        let check = |query: &str, parameters: &[(&str, Option<&str>)], expected: &str| {
            assert_eq!(replaced(query, parameters), expected, "{query}");
        };
        check("", &[("limit", Some("5"))], "limit=5");
        check("from=v2_a&dir=b", &[("from", Some("s1_2&x"))], "dir=b&from=s1_2%26x");
        check("filter=%7b%7D&fro%6d=v2_a&&x", &[("from", Some("t"))], "filter=%7b%7D&x&from=t");
        check(
            "from=v2_a&from=v2_b",
            &[("from", Some("t")), ("limit", Some("3"))],
            "from=t&limit=3",
        );
    }
}
