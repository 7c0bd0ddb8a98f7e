//! Filters by ID: fetched from the homeserver, where clients made them, and kept.
//!
//! A filter never changes, so it is kept for good, within bounds. IDs count per user on some
//! homeservers: the cache is keyed by both.

use std::sync::Arc;

use dashmap::DashMap;

use crate::{
    auth::Requester, error::Error, filter::Filter, metrics::labels::Cache, state::State, upstream,
};

/// How many filters are kept. Past that the cache starts over: clients use few filters, and fetching
/// one again is cheap.
const MOST: usize = 10_000;

/// Filters already fetched, by user and ID.
#[derive(Default)]
pub(crate) struct FilterCache(DashMap<(String, String), Arc<Filter>>);

/// The filter that a request names, or holds. Without one everything passes.
pub(super) async fn resolve(
    state: &State,
    requester: &Requester,
    filter: Option<&str>,
) -> Result<Arc<Filter>, Error> {
    let Some(filter) = filter else { return Ok(Arc::default()) };
    if filter.starts_with('{') {
        return Filter::parse(filter.as_bytes()).map(Arc::new);
    }
    // What upstream could not take for an ID needs no asking.
    if filter.is_empty() || filter.len() > 255 || filter.starts_with('[') {
        return Err(Error::InvalidParam(String::from("Invalid filter ID")));
    }
    let user_id = &requester.account.user_id;
    let key = (user_id.clone(), filter.to_owned());
    let known = state.filters.0.get(&key).map(|known| Arc::clone(&known));
    state.metrics.looked_up(Cache::Filters, known.is_some());
    if let Some(known) = known {
        return Ok(known);
    }
    let json = match state.upstream.filter(&requester.access_token, user_id, filter).await {
        Ok(json) => json,
        Err(
            upstream::Error::Matrix { status: 400 | 404, .. } | upstream::Error::Unsendable { .. },
        ) => {
            return Err(Error::InvalidParam(String::from("No such filter")));
        }
        Err(error) => return Err(error.into()),
    };
    let parsed = Arc::new(Filter::parse(&json)?);
    if state.filters.0.len() >= MOST {
        state.filters.0.clear();
    }
    state.filters.0.insert(key, Arc::clone(&parsed));
    Ok(parsed)
}
