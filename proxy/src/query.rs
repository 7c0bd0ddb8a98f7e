//! Looks one parameter up in a query, without decoding all the others: a filter may stand there, and every request is
//! looked into more than once.
//!
//! Neighbours: whoever looks for one parameter. Who reads them all uses `form_urlencoded` itself, and finds the same.

use std::borrow::Cow;

use form_urlencoded::parse;

/// The values of a parameter, in order.
pub(crate) fn values<'a>(query: &'a str, key: &str) -> impl Iterator<Item = Cow<'a, str>> {
    let named = query.split('&').filter(move |pair| is_named(pair, key));
    named.filter_map(|pair| parse(pair.as_bytes()).next()).map(|(_, value)| value)
}

/// The first value of a parameter.
pub(crate) fn get<'a>(query: &'a str, key: &str) -> Option<Cow<'a, str>> {
    values(query, key).next()
}

fn is_named(pair: &str, key: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    if name.contains(['%', '+']) {
        return parse(name.as_bytes()).next().is_some_and(|(name, _)| name == key);
    }
    name == key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_found_as_by_reading_all() {
        for query in [
            "",
            "&&",
            "=",
            "since",
            "since=",
            "since=&since=a%2Bb",
            "a=since&since=x=y",
            "sin%63e=1&since=2",
            "since+=1&+since=2&since=3+4",
            "%73ince",
            "Since=1",
            "since=%ff&%ff=since",
            "a=1&&since=2&",
        ] {
            let all: Vec<String> = parse(query.as_bytes())
                .filter(|(name, _)| name == "since")
                .map(|(_, value)| value.into_owned())
                .collect();
            let found: Vec<String> = values(query, "since").map(Cow::into_owned).collect();
            assert_eq!(found, all, "{query}");
            assert_eq!(get(query, "since").as_deref(), all.first().map(String::as_str), "{query}");
        }
    }
}
