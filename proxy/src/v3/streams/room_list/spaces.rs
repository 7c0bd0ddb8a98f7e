//! The children of spaces, in the order that the spaces give them.
//! <https://spec.matrix.org/v1.16/client-server-api/#ordering-of-children-within-a-space>

use std::collections::HashMap;

use store::{Place, Position, RoomNid, StateEvent, StateKeys, StateQuery, StateSelection};

use crate::{
    error::Error,
    json::{self, Object},
    v3::view::View,
};

/// The type of the events that make a room the child of a space.
const CHILD: &str = "m.space.child";

/// The longest `order` that counts.
const LONGEST_ORDER: usize = 50;

/// The children of spaces: by room ID, each with its rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Children(HashMap<String, usize>);

impl Children {
    /// Those of these spaces, as of now.
    pub(super) async fn load(view: &View<'_>, spaces: &[String]) -> Result<Self, Error> {
        let nids = nids(view, spaces)?;
        let at: Vec<(RoomNid, Place)> =
            nids.iter().map(|nid| (*nid, Place::after(view.now))).collect();
        let keys = [StateKeys { event_type: CHILD, state_key: None }];
        let mut states =
            view.store().selected_states(view.account().account_id, &at, &keys).await?;
        let in_order = nids.iter().map(|nid| states.remove(nid).unwrap_or_default());
        Ok(Self::of(in_order))
    }

    /// Those of spaces with these children events, space by space.
    fn of(spaces: impl Iterator<Item = Vec<StateEvent>>) -> Self {
        let mut ranks = HashMap::new();
        for events in spaces {
            let mut children: Vec<Child> = events
                .iter()
                .filter_map(|event| Child::read(&event.body, &event.state_key))
                .collect();
            children.sort();
            for child in children {
                let rank = ranks.len();
                ranks.entry(child.room_id).or_insert(rank);
            }
        }
        Self(ranks)
    }

    /// Whether a room is one of them.
    pub(super) fn contains(&self, room_id: &str) -> bool {
        self.0.contains_key(room_id)
    }

    /// Where a room stands among them.
    pub(super) fn rank(&self, room_id: &str) -> Option<usize> {
        self.0.get(room_id).copied()
    }
}

/// The rooms that became children of these spaces after `since`, or had their place among them changed.
pub(super) async fn changed_after(
    view: &View<'_>,
    spaces: &[String],
    since: Position,
) -> Result<Vec<String>, Error> {
    let query = |room_nid| StateQuery {
        room_nid,
        at: Place::after(view.now),
        since: Some(Place::after(since)),
    };
    let queries: Vec<StateQuery> = nids(view, spaces)?.into_iter().map(query).collect();
    let account_id = view.account().account_id;
    let changes = view.store().states(account_id, &queries, StateSelection::WithoutMembers).await?;
    let children = changes.into_values().flatten().filter(|event| event.event_type == CHILD);
    Ok(children.map(|event| event.state_key).collect())
}

fn nids(view: &View<'_>, spaces: &[String]) -> Result<Vec<RoomNid>, Error> {
    spaces.iter().map(|space| Ok(view.rooms.get(space)?.room_nid)).collect()
}

/// A child; the order of the fields is that of the children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Child {
    /// Those with an order come first.
    without_order: bool,
    order: String,
    since: i64,
    room_id: String,
}

impl Child {
    /// Reads an event `m.space.child`; one that names no server makes no child.
    fn read(body: &[u8], room_id: &str) -> Option<Self> {
        let event = Object::read(body)?;
        let content = event.object("content")?;
        if json::list(content.get("via")?)?.is_empty() {
            return None;
        }
        let order = content.get("order").and_then(json::text).filter(|order| is_valid(order));
        Some(Self {
            without_order: order.is_none(),
            order: order.map(std::borrow::Cow::into_owned).unwrap_or_default(),
            since: event.get("origin_server_ts").and_then(json::integer).unwrap_or(i64::MAX),
            room_id: room_id.to_owned(),
        })
    }
}

fn is_valid(order: &str) -> bool {
    order.len() <= LONGEST_ORDER && order.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn child(room_id: &str, ts: i64, content: &Value) -> StateEvent {
        let body = json!({"type": CHILD, "origin_server_ts": ts, "content": content});
        StateEvent {
            event_type: CHILD.to_owned(),
            state_key: room_id.to_owned(),
            body: body.to_string().into(),
            unsigned: None,
            redacted_because: None,
        }
    }

    #[track_caller]
    fn check(spaces: Vec<Vec<StateEvent>>, expected: &[&str]) {
        let children = Children::of(spaces.into_iter());
        let mut ranked: Vec<(usize, String)> =
            children.0.into_iter().map(|(room_id, rank)| (rank, room_id)).collect();
        ranked.sort();
        let in_order: Vec<String> = ranked.into_iter().map(|(_, room_id)| room_id).collect();
        assert_eq!(in_order, expected);
    }

    #[test]
    fn children_stand_by_order_then_by_time_then_by_room_id() {
        let via = json!(["x"]);
        check(
            vec![vec![
                child("!late", 9, &json!({"via": via})),
                child("!b", 5, &json!({"via": via})),
                child("!a", 5, &json!({"via": via})),
                child("!second", 9, &json!({"via": via, "order": "b"})),
                child("!first", 9, &json!({"via": via, "order": "a"})),
                child("!long", 6, &json!({"via": via, "order": "a".repeat(51)})),
                child("!odd", 7, &json!({"via": via, "order": "\u{e4}"})),
                child("!number", 8, &json!({"via": via, "order": 1})),
            ]],
            &["!first", "!second", "!a", "!b", "!long", "!odd", "!number", "!late"],
        );
    }

    #[test]
    fn a_child_needs_a_server() {
        let odd = [json!({}), json!({"via": []}), json!({"via": "x"})];
        let events = odd.into_iter().map(|content| child("!a", 1, &content)).collect();
        check(vec![events], &[]);
    }

    #[test]
    fn several_spaces_stand_one_after_the_other() {
        let event =
            |room_id, order: &str| child(room_id, 1, &json!({"via": ["x"], "order": order}));
        let one = vec![event("!b", "1"), event("!both", "2")];
        let other = vec![event("!both", "0"), event("!a", "1")];
        check(vec![one, other], &["!b", "!both", "!a"]);
    }
}
