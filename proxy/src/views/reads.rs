//! What views read: from memory where the last polls are there and say it for certain, else from the store.
//!
//! Which of the two makes no difference to what is read: see `account::tail`.

use std::collections::HashMap;

use bytes::Bytes;
use store::{
    AccountId, Position, RoomNid, StateEvent, StateQuery, StateSelection, StoredReceipt,
    TimelineEvent, TimelineQuery,
};

use super::View;
use crate::{
    account::tail::{Asker, Stretch},
    auth::Requester,
    error::Error,
    state::State,
};

/// The store is asked for something.
pub(super) fn asks_store(view: &View<'_>) {
    if let Some(tail) = view.tail {
        tail.asks_store();
    }
}

/// The newest `limit` events of each stretch, newest first.
pub(super) async fn timelines(
    state: &State,
    requester: &Requester,
    view: &View<'_>,
    queries: &[TimelineQuery],
    limit: usize,
) -> Result<HashMap<RoomNid, Vec<TimelineEvent>>, Error> {
    let (account, device_nid) = (&requester.account, requester.device.device_nid);
    let asker = Asker { user_id: &account.user_id, device_nid };
    let (mut timelines, rest) = split(view, queries, |tail, query| {
        Some((query.room_nid, tail.timeline(query, limit, asker)?))
    });
    if !rest.is_empty() {
        let stored = state.store.timelines(account.account_id, device_nid, &rest, limit);
        timelines.extend(stored.await?);
    }
    Ok(timelines)
}

/// The state of rooms, each at its own place, or what changed on the way there.
pub(super) async fn states(
    state: &State,
    requester: &Requester,
    view: &View<'_>,
    queries: Vec<StateQuery>,
    selection: StateSelection,
) -> Result<HashMap<RoomNid, Vec<StateEvent>>, Error> {
    let (unchanged, rest) = split(view, &queries, |tail, query| {
        tail.state_is_unchanged(query).then(|| (query.room_nid, Vec::new()))
    });
    if rest.is_empty() {
        return Ok(unchanged);
    }
    Ok(state.store.states(requester.account.account_id, &rest, selection).await?)
}

/// Account data of rooms that last changed up to `now`, each room's since its own position.
pub(super) async fn account_data(
    state: &State,
    account_id: AccountId,
    view: &View<'_>,
    rooms: &[(RoomNid, Position)],
    now: Position,
) -> Result<HashMap<RoomNid, Vec<(String, Bytes)>>, Error> {
    let (mut data, rest) = split(view, rooms, |tail, (nid, since)| {
        Some((*nid, tail.room_account_data(*nid, *since)?))
    });
    if !rest.is_empty() {
        data.extend(state.store.room_account_data(account_id, &rest, now).await?);
    }
    Ok(data)
}

/// Receipts of rooms that last changed up to `now`, each room's since its own position.
pub(super) async fn receipts(
    state: &State,
    account_id: AccountId,
    view: &View<'_>,
    rooms: &[(RoomNid, Position)],
    now: Position,
) -> Result<HashMap<RoomNid, Vec<StoredReceipt>>, Error> {
    let (mut receipts, rest) =
        split(view, rooms, |tail, (nid, since)| Some((*nid, tail.receipts(*nid, *since)?)));
    if !rest.is_empty() {
        receipts.extend(state.store.receipts(account_id, &rest, now).await?);
    }
    Ok(receipts)
}

/// What memory says, and the questions that are left for the store.
fn split<Q: Clone, T>(
    view: &View<'_>,
    questions: &[Q],
    answer: impl Fn(&Stretch, &Q) -> Option<(RoomNid, T)>,
) -> (HashMap<RoomNid, T>, Vec<Q>) {
    let Some(tail) = view.tail else { return (HashMap::new(), questions.to_vec()) };
    let mut answers = HashMap::with_capacity(questions.len());
    let mut rest = Vec::new();
    for question in questions {
        match answer(tail, question) {
            Some((nid, found)) => {
                answers.insert(nid, found);
            }
            None => rest.push(question.clone()),
        }
    }
    if !rest.is_empty() {
        tail.asks_store();
    }
    (answers, rest)
}
