//! Ignored users: whose events and invites an account is not shown.
//! <https://spec.matrix.org/v1.16/client-server-api/#ignoring-users>
//!
//! Upstream withholds them from the moment that it hears of the list. What is stored from before is hidden
//! when it is read, by the list as it stands. State events are never hidden; receipts, typing and presence are
//! not either, as in Synapse. What was withheld meanwhile is fetched by `upkeep` once a user is no longer
//! ignored.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use store::{AccountId, RoomHead, Section, Store};

use crate::{
    json::{self, Object},
    views::EventFields,
};

/// The type of global account data that holds the list.
pub(crate) const EVENT_TYPE: &str = "m.ignored_user_list";

/// The users whom an account ignores.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ignored(HashSet<String>);

impl Ignored {
    /// Reads the whole account data event; what cannot be read ignores nobody.
    pub(crate) fn read(event: &[u8]) -> Self {
        let users = || {
            let users = Object::read(event)?.object("content")?.object("ignored_users")?;
            Some(users.members().map(|(user_id, _)| user_id.into_owned()).collect())
        };
        Self(users().unwrap_or_default())
    }

    /// Whether nobody is ignored.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a user is ignored.
    pub(crate) fn contains(&self, user_id: &str) -> bool {
        self.0.contains(user_id)
    }

    /// The users, in no order.
    pub(crate) fn users(&self) -> impl Iterator<Item = &String> {
        self.0.iter()
    }

    /// Whether an event of a timeline is not shown.
    pub(crate) fn hides(&self, event: &EventFields) -> bool {
        !self.is_empty() && event.state_key.is_none() && self.contains(&event.sender)
    }

    /// Whether a room is not shown, being an invite of `user_id` by an ignored user.
    pub(crate) fn hides_invite(&self, room: &RoomHead, user_id: &str) -> bool {
        if self.is_empty() || room.section != Section::Invite {
            return false;
        }
        let inviter = room.stripped_state.as_deref().and_then(|state| inviter(state, user_id));
        inviter.is_some_and(|inviter| self.contains(&inviter))
    }
}

/// Who sent an invite: the sender of the user's own member event in `invite_state`.
pub(crate) fn inviter(invite_state: &[u8], user_id: &str) -> Option<String> {
    let events = json::list(Object::read(invite_state)?.get("events")?)?;
    events.into_iter().rev().find_map(|raw| {
        let event = EventFields::read(raw.get().as_bytes());
        let own =
            event.event_type == "m.room.member" && event.state_key.as_deref() == Some(user_id);
        own.then_some(event.sender)
    })
}

/// An account's list as this process knows it: read from the store when first asked for, and again after it
/// may have changed.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// Counts the changes, so that a list which was read before one is not kept after it.
    changes: u64,
    list: Option<Arc<Ignored>>,
}

impl Known {
    /// The list as it is stored.
    pub(crate) async fn get(
        &self,
        store: &Store,
        account_id: AccountId,
    ) -> Result<Arc<Ignored>, store::Error> {
        let changes = {
            let entry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(list) = &entry.list {
                return Ok(Arc::clone(list));
            }
            entry.changes
        };
        let stored = store.global_account_data_of(account_id, EVENT_TYPE).await?;
        let list = Arc::new(stored.as_deref().map(Ignored::read).unwrap_or_default());
        let mut entry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.changes == changes {
            entry.list = Some(Arc::clone(&list));
        }
        Ok(list)
    }

    /// Whether the list need not be read from the store.
    pub(crate) fn is_known(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).list.is_some()
    }

    /// The stored list may be another one now.
    pub(crate) fn forget(&self) {
        let mut entry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entry.changes = entry.changes.wrapping_add(1);
        entry.list = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_leniently() {
        let check = |event: &str, expected: &[&str]| {
            let expected = expected.iter().map(|&user_id| user_id.to_owned()).collect();
            assert_eq!(Ignored::read(event.as_bytes()), Ignored(expected), "{event}");
        };
        check(r#"{"content":{"ignored_users":{"@a:x":{},"@b:x":{}}}}"#, &["@a:x", "@b:x"]);
        check(r#"{"content":{"ignored_users":{"@a:x":5}}}"#, &["@a:x"]);
        check(r#"{"content":{"ignored_users":["@a:x"]}}"#, &[]);
        check(r#"{"content":{}}"#, &[]);
        check("[]", &[]);
    }

    #[test]
    fn only_what_is_no_state_is_hidden() {
        let ignored = Ignored::read(br#"{"content":{"ignored_users":{"@a:x":{}}}}"#);
        let check = |event: &str, hidden| {
            assert_eq!(ignored.hides(&EventFields::read(event.as_bytes())), hidden, "{event}");
        };
        check(r#"{"type":"m.room.message","sender":"@a:x"}"#, true);
        check(r#"{"type":"m.room.message","sender":"@b:x"}"#, false);
        check(r#"{"type":"m.room.topic","state_key":"","sender":"@a:x"}"#, false);
    }

    #[test]
    fn the_inviter_is_who_sent_the_own_membership() {
        let state = br#"{"events":[
            {"type":"m.room.member","state_key":"@b:x","sender":"@b:x","content":{"membership":"join"}},
            {"type":"m.room.member","state_key":"@me:x","sender":"@a:x","content":{"membership":"invite"}}
        ]}"#;
        assert_eq!(inviter(state, "@me:x").as_deref(), Some("@a:x"));
        assert_eq!(inviter(br#"{"events":[]}"#, "@me:x"), None);
        assert_eq!(inviter(b"{}", "@me:x"), None);
    }
}
