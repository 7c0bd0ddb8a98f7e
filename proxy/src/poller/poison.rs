//! Replies that cannot be read, again and again: something in them is too much for whoever is in between.
//!
//! The same poll is asked for a few times; then with fewer events a room, each time half as many; and when that does not
//! help either, the rooms are looked through for those that spoil the reply. The next poll leaves them out, and each gets
//! a gap in its timeline instead: no account stands still because of one room.

use crate::{
    clock::now_ms,
    error::causes,
    ingest::{self, Asked, is_key},
    json,
    upstream::{self, AccessToken, aside},
};

use super::Poller;

/// How often the same is asked before the question is made smaller.
const PATIENCE: u32 = 3;

/// Rooms in one question: their IDs go into a URL.
const ROOMS: usize = 64;

/// The most questions of one search.
const QUESTIONS: usize = 256;

/// What was wrong with the replies lately.
#[derive(Debug, Default)]
pub(super) struct Poison {
    /// Replies in a row that could not be read.
    spoilt: u32,
    /// The rooms that spoil them.
    rooms: Vec<String>,
}

impl Poison {
    /// One more reply that could not be read. Whether a smaller question is of no more use.
    fn add(&mut self, limit: u32) -> bool {
        self.spoilt = self.spoilt.saturating_add(1);
        self.spoilt > PATIENCE && self.limit(limit) == 1
    }

    /// How many events a room to ask for, where `limit` is usual.
    pub(super) fn limit(&self, limit: u32) -> u32 {
        let halvings = (self.spoilt + 1).saturating_sub(PATIENCE);
        limit.checked_shr(halvings).unwrap_or(0).max(1)
    }

    /// The rooms to leave out.
    pub(super) fn rooms(&self) -> &[String] {
        &self.rooms
    }
}

impl Poller {
    /// A reply could not be read: the next question is another one, in the end.
    pub(super) async fn spoilt(&self, token: &AccessToken, since: Option<&str>, limit: u32) {
        if !self.poison().add(limit) {
            return;
        }
        let rooms = self.spoiling_rooms(token, since).await;
        tracing::error!(?rooms, "replies cannot be read: these rooms are left out of the next");
        self.poison().rooms = rooms;
    }

    /// The joined rooms whose news cannot be read.
    async fn spoiling_rooms(&self, token: &AccessToken, since: Option<&str>) -> Vec<String> {
        let rooms = match self.state.upstream.joined_rooms(token).await {
            Ok(mut rooms) => {
                // What cannot be a key of the database is in no poll that was stored.
                rooms.retain(|room_id| is_key(room_id));
                rooms.sort_unstable();
                rooms
            }
            Err(error) => {
                tracing::warn!(error = %causes(&error), "cannot look for what spoils replies");
                return Vec::new();
            }
        };
        let mut open: Vec<&[String]> = rooms.chunks(ROOMS).collect();
        let mut found = Vec::new();
        for _ in 0..QUESTIONS {
            let Some(some) = open.pop() else { break };
            match self.can_be_read(token, since, some).await {
                Ok(true) => {}
                Ok(false) if some.len() == 1 => found.extend_from_slice(some),
                Ok(false) => open.extend(<[_; 2]>::from(some.split_at(some.len() / 2))),
                Err(error) => {
                    tracing::warn!(error = %causes(&error), "cannot look for what spoils replies");
                    break;
                }
            }
        }
        found
    }

    /// Whether the news of some rooms can be read, asked for as the poll would.
    async fn can_be_read(
        &self,
        token: &AccessToken,
        since: Option<&str>,
        rooms: &[String],
    ) -> Result<bool, upstream::Error> {
        let rooms = json::strings(rooms);
        let filter = format!(
            r#"{{"room":{{"rooms":{rooms},"timeline":{{"limit":1}},"state":{{"lazy_load_members":true}}}},"presence":{{"types":[]}},"account_data":{{"types":[]}}}}"#
        );
        let since = since.map(|since| ("since", since));
        let query = aside(since.into_iter().chain([("filter", filter.as_str())]));
        let reply = match self.state.upstream.sync_with(token, &query).await {
            Ok(reply) => reply,
            Err(error) if error.is_unreadable() => return Ok(false),
            Err(error) => return Err(error),
        };
        let asked = Asked {
            user_id: &self.account.user_id,
            device_nid: self.device.device_nid,
            since: None,
            received_at: now_ms(),
        };
        Ok(ingest::main_poll(&reply, asked).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::Poison;

    #[test]
    fn questions_become_smaller_and_then_there_is_nothing_left_to_try() {
        let mut poison = Poison::default();
        let mut limits = vec![poison.limit(100)];
        while !poison.add(100) {
            limits.push(poison.limit(100));
        }
        assert_eq!(limits, [100, 100, 100, 50, 25, 12, 6, 3]);
        assert_eq!(poison.limit(100), 1);
    }
}
