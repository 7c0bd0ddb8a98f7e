//! Filters, by ID or as they are written: read once, and shared by all requests that name the same.
//!
//! Those by ID are fetched from the homeserver, where clients made them. A filter never changes, so it is kept for good,
//! within bounds. IDs count per user on some homeservers: those are kept by both. A filter that stands in the request says
//! the same whoever writes it, and most programs write but one: sharing it saves reading it with each request, and the
//! room for it with each that waits.

use std::sync::{Arc, LazyLock};

use dashmap::DashMap;

use crate::{
    auth::Requester, error::Error, filter::Filter, metrics::labels::Cache, state::State, upstream,
};

/// How many filters are kept. Past that the cache starts over: clients use few filters, and fetching
/// one again is cheap.
const MOST: usize = 10_000;

/// How many filters that stood in requests are kept, and how long one may be, in bytes. Past that number they start over,
/// too.
const MOST_WRITTEN: usize = 1_000;
const LONGEST_WRITTEN: usize = 4 * 1024;

/// Filters that were read before.
#[derive(Default)]
pub(crate) struct FilterCache {
    /// By user and ID.
    fetched: DashMap<(String, String), Arc<Filter>>,
    /// By their text.
    written: DashMap<String, Arc<Filter>>,
}

impl FilterCache {
    /// The filter that is written so.
    fn written(&self, text: &str) -> Result<Arc<Filter>, Error> {
        if let Some(known) = self.written.get(text) {
            return Ok(Arc::clone(&known));
        }
        let parsed = Arc::new(Filter::parse(text.as_bytes())?);
        if text.len() <= LONGEST_WRITTEN {
            if self.written.len() >= MOST_WRITTEN {
                self.written.clear();
            }
            self.written.insert(text.to_owned(), Arc::clone(&parsed));
        }
        Ok(parsed)
    }
}

/// The filter of whoever names none.
static EVERYTHING: LazyLock<Arc<Filter>> = LazyLock::new(Arc::default);

/// The filter that a request names, or holds. Without one everything passes.
pub(super) async fn resolve(
    state: &State,
    requester: &Requester,
    filter: Option<&str>,
) -> Result<Arc<Filter>, Error> {
    let Some(filter) = filter else { return Ok(Arc::clone(&EVERYTHING)) };
    if filter.starts_with('{') {
        return state.filters.written(filter);
    }
    // What upstream could not take for an ID needs no asking.
    if filter.is_empty() || filter.len() > 255 || filter.starts_with('[') {
        return Err(Error::InvalidParam(String::from("Invalid filter ID")));
    }
    let user_id = &requester.account.user_id;
    let key = (user_id.clone(), filter.to_owned());
    let known = state.filters.fetched.get(&key).map(|known| Arc::clone(&known));
    state.metrics.looked_up(Cache::Filters, known.is_some());
    if let Some(known) = known {
        return Ok(known);
    }
    let asked = state.upstream.filter(&requester.access_token, user_id, filter);
    let json = match Box::pin(asked).await {
        Ok(json) => json,
        Err(
            upstream::Error::Matrix { status: 400 | 404, .. } | upstream::Error::Unsendable { .. },
        ) => {
            return Err(Error::InvalidParam(String::from("No such filter")));
        }
        Err(error) => return Err(error.into()),
    };
    let parsed = Arc::new(Filter::parse(&json)?);
    if state.filters.fetched.len() >= MOST {
        state.filters.fetched.clear();
    }
    state.filters.fetched.insert(key, Arc::clone(&parsed));
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_was_read_is_shared() {
        let cache = FilterCache::default();
        let text = r#"{"room":{"timeline":{"limit":3}}}"#;
        let first = cache.written(text).expect("it is a filter");
        let again = cache.written(text).expect("it is a filter");
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(again.room.timeline.timeline_limit(), 3);
        let other = cache.written(r#"{"room":{}}"#).expect("it is a filter");
        assert_eq!(other.room.timeline.timeline_limit(), 10);
        assert!(cache.written(r#"{"room":7}"#).is_err());
        assert_eq!(cache.written.len(), 2, "what is none is not kept");
    }

    #[test]
    fn filters_that_were_read_are_few_and_short() {
        let cache = FilterCache::default();
        for number in 0..=MOST_WRITTEN * 2 {
            let text = format!(r#"{{"room":{{"timeline":{{"limit":{number}}}}}}}"#);
            cache.written(&text).expect("it is a filter");
            assert!(cache.written.len() <= MOST_WRITTEN);
        }
        let kept = cache.written.len();
        let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(LONGEST_WRITTEN));
        cache.written(&long).expect("it is a filter");
        assert_eq!(cache.written.len(), kept, "a long one is read each time");
    }
}
