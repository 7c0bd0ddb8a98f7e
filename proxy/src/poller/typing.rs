//! Who typed when something ended: the homeserver, or this process.
//!
//! A homeserver that was restarted has forgotten who typed, and never says that they stopped. After it was away, only
//! those type of whom it says so. When this process begins, it may have been restarted meanwhile as well: who typed then
//! has a short while to be told of again.

use std::{collections::HashSet, time::Duration};

use store::{RoomUpdate, Section};
use tokio::time::Instant;

use super::Poller;

/// How long somebody is believed to type of whom nothing new is heard: as long as clients promise to at a time.
const BELIEVED: Duration = Duration::from_secs(30);

/// Rooms in which somebody typed when the process began, until when that is believed.
#[derive(Debug)]
pub(super) struct Inherited {
    rooms: HashSet<String>,
    until: Instant,
}

impl Inherited {
    /// What a poll tells: nobody is believed to type any longer in a room of which it says who does, or that the user is
    /// out of it.
    fn hear(&mut self, rooms: &[RoomUpdate]) {
        for room in rooms {
            if room.typing.is_some() || room.section != Section::Join {
                self.rooms.remove(&room.room_id);
            }
        }
    }

    /// The rooms in which that is over for want of news.
    fn over(&self) -> HashSet<String> {
        if Instant::now() < self.until { HashSet::new() } else { self.rooms.clone() }
    }

    /// They are told of.
    fn forget(&mut self, over: &HashSet<String>) {
        self.rooms.retain(|room_id| !over.contains(room_id));
    }
}

impl Poller {
    /// Remembers who typed when the process began, once.
    pub(super) async fn inherit_typing(&self) -> Result<(), store::Error> {
        if self.inherited().is_none() {
            let rooms = self.state.store.rooms_with_typing(self.account.account_id).await?;
            let rooms = rooms.into_iter().collect();
            *self.inherited() = Some(Inherited { rooms, until: Instant::now() + BELIEVED });
        }
        Ok(())
    }

    /// The time until somebody is believed to type no longer, if that is less.
    pub(super) fn while_typing_is_believed(&self, hold: Duration) -> Duration {
        match &*self.inherited() {
            Some(inherited) if !inherited.rooms.is_empty() => {
                hold.min(inherited.until.saturating_duration_since(Instant::now()))
            }
            _ => hold,
        }
    }

    /// What a poll tells of who types.
    pub(super) fn hear_of_typing(&self, rooms: &[RoomUpdate]) {
        if let Some(inherited) = &mut *self.inherited() {
            inherited.hear(rooms);
        }
    }

    /// The rooms in which nobody is believed to type any longer, but for those of which the poll tells otherwise.
    pub(super) async fn quiet_rooms(
        &self,
        after_outage: bool,
    ) -> Result<HashSet<String>, store::Error> {
        let over = self.inherited().as_ref().map(Inherited::over).unwrap_or_default();
        if over.is_empty() && !after_outage {
            return Ok(over);
        }
        // What upkeep has found gone meanwhile is no room of the user's any longer.
        let typing = self.state.store.rooms_with_typing(self.account.account_id).await?;
        if let Some(inherited) = &mut *self.inherited() {
            inherited.forget(&over);
        }
        Ok(typing.into_iter().filter(|room_id| after_outage || over.contains(room_id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_types_in_a_room_that_was_left() {
        let names = ["!stays:x", "!left:x", "!told:x"];
        let rooms = names.iter().map(|name| String::from(*name)).collect();
        let mut inherited = Inherited { rooms, until: Instant::now() + BELIEVED };
        let left = RoomUpdate::empty("!left:x".to_owned(), Section::Leave);
        let told = RoomUpdate {
            typing: Some(bytes::Bytes::from_static(b"{}")),
            ..RoomUpdate::empty("!told:x".to_owned(), Section::Join)
        };
        inherited.hear(&[left, told]);
        assert!(inherited.over().is_empty(), "what was believed is believed for a while");

        tokio::time::advance(BELIEVED).await;
        let ended = inherited.over();
        assert_eq!(
            ended,
            HashSet::from(["!stays:x".to_owned()]),
            "a room that was left stays left"
        );
    }
}
