//! The presence that the clients of a device wish for, and what polls tell upstream of it.
//! <https://spec.matrix.org/v1.16/client-server-api/#presence>
//!
//! Neighbours: syncs wish, `passthrough` says what was set outright, pollers tell. It must not know how a poll is made.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// How long a presence lasts after the request that wished for it: long enough for a client to come
/// again. The homeserver lets it linger on its own behind the last poll that said so.
const PRESENCE_LINGERS: Duration = Duration::from_secs(10);

/// `set_presence` as a client wishes for it, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PresenceWish {
    /// Do not touch it.
    Offline,
    /// Idle.
    Unavailable,
    /// Online.
    Online,
}

impl PresenceWish {
    /// The value of the query parameter.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Online => "online",
        }
    }
}

/// The presence of one device.
pub(crate) struct Presence {
    /// What its clients wished for.
    wished: Mutex<Wishes>,
    /// What the poll under way, or the last one, told upstream. Written by the poller as it asks.
    told: Mutex<PresenceWish>,
    /// What upstream is known to have taken in: what the last poll that it answered told.
    taken_in: Mutex<PresenceWish>,
    /// Counts the times that a client wished for something else than what the poll under way says.
    changes: watch::Sender<u64>,
}

/// Until when there are wishes. Each lasts on its own: a weaker one, however often it is repeated, does not keep a
/// stronger one alive.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    online: Option<Instant>,
    unavailable: Option<Instant>,
}

impl Wishes {
    fn add(&mut self, wish: PresenceWish, until: Instant) {
        let lasts = match wish {
            PresenceWish::Online => &mut self.online,
            PresenceWish::Unavailable => &mut self.unavailable,
            // It is what polls say without any wish.
            PresenceWish::Offline => return,
        };
        *lasts = (*lasts).max(Some(until));
    }

    /// Whatever there is a wish for becomes this one.
    fn turn_into(&mut self, wish: PresenceWish) {
        let until = self.online.max(self.unavailable);
        *self = Self::default();
        if let Some(until) = until {
            self.add(wish, until);
        }
    }

    fn strongest(&self, now: Instant) -> PresenceWish {
        let lasts = |until: Option<Instant>| until.is_some_and(|until| until > now);
        if lasts(self.online) {
            PresenceWish::Online
        } else if lasts(self.unavailable) {
            PresenceWish::Unavailable
        } else {
            PresenceWish::Offline
        }
    }
}

impl Presence {
    pub(super) fn new() -> Self {
        Self {
            wished: Mutex::new(Wishes::default()),
            told: Mutex::new(PresenceWish::Offline),
            taken_in: Mutex::new(PresenceWish::Offline),
            changes: watch::Sender::new(0),
        }
    }

    /// A client said outright what the user's presence is. Polls say the same from then on, until a sync wishes
    /// for something else; after which polls say it, although the one under way did before.
    pub(crate) fn set_outright(&self, outright: PresenceWish) {
        self.wished.lock().unwrap_or_else(PoisonError::into_inner).turn_into(outright);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = outright;
        self.is_taken_in(outright);
    }

    /// A client of the device syncs with this wish, until `end` at least. Gives whether upstream has yet to
    /// hear of it.
    pub(crate) fn wish(&self, wish: PresenceWish, end: Instant) -> bool {
        let until = end + PRESENCE_LINGERS;
        let mut wished = self.wished.lock().unwrap_or_else(PoisonError::into_inner);
        wished.add(wish, until);
        let wish = wished.strongest(Instant::now());
        drop(wished);
        let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = told != wish;
        if is_new {
            self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
        is_new
    }

    /// [`Presence::wish`] where another replica polls: what that one tells upstream is what clients here have wished for.
    pub(crate) fn wish_elsewhere(&self, wish: PresenceWish, end: Instant) -> bool {
        self.tell();
        self.wish(wish, end)
    }

    /// What a poll that begins now tells upstream.
    pub(crate) fn tell(&self) -> PresenceWish {
        let wished = *self.wished.lock().unwrap_or_else(PoisonError::into_inner);
        let wish = wished.strongest(Instant::now());
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = wish;
        wish
    }

    /// A poll that told this was answered. Of one that failed nothing is known: it is as if it had told nothing. Nor does the
    /// answer to one say anything once something else has been said.
    pub(crate) fn answered<T, E>(&self, told: PresenceWish, answer: &Result<T, E>) {
        if answer.is_err() {
            self.is_taken_in(PresenceWish::Offline);
        } else if *self.told.lock().unwrap_or_else(PoisonError::into_inner) == told {
            self.is_taken_in(told);
        }
    }

    fn is_taken_in(&self, wish: PresenceWish) {
        *self.taken_in.lock().unwrap_or_else(PoisonError::into_inner) = wish;
    }

    /// Whether upstream may not have taken this in yet. A homeserver may drop what a poll tells when the poll is given up
    /// before it is answered, and take it for told all the same: Synapse then shows nobody that the user is online, as long
    /// as the polls go on. Polls that say so have to be answered once.
    pub(crate) fn is_news(&self, told: PresenceWish) -> bool {
        let taken_in = *self.taken_in.lock().unwrap_or_else(PoisonError::into_inner);
        // Which is what polls say that do not touch it.
        told != PresenceWish::Offline && told != taken_in
    }

    /// Changes when a client wishes for another presence than the poll under way says.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wish_that_others_tell_upstream_is_new_when_it_was_not_there() {
        let presence = Presence::new();
        assert!(presence.wish_elsewhere(PresenceWish::Online, Instant::now()));
        assert!(!presence.wish_elsewhere(PresenceWish::Online, Instant::now()));
        tokio::time::advance(PRESENCE_LINGERS * 2).await;
        assert!(presence.wish_elsewhere(PresenceWish::Online, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_set_outright_is_not_overwritten_until_a_sync_wishes_again() {
        let presence = Presence::new();
        presence.wish(PresenceWish::Online, Instant::now() + PRESENCE_LINGERS);
        assert_eq!(presence.tell(), PresenceWish::Online);
        presence.set_outright(PresenceWish::Unavailable);
        assert_eq!(presence.tell(), PresenceWish::Unavailable);

        let mut changes = presence.watch();
        changes.mark_unchanged();
        presence.set_outright(PresenceWish::Offline);
        presence.wish(PresenceWish::Online, Instant::now());
        assert!(changes.has_changed().expect("it is watched"));
        assert_eq!(presence.tell(), PresenceWish::Online);
    }

    #[tokio::test(start_paused = true)]
    async fn what_polls_tell_is_news_until_one_of_them_is_answered() {
        let presence = Presence::new();
        assert!(!presence.is_news(presence.tell()), "nothing is wished for");
        presence.wish(PresenceWish::Online, Instant::now());
        assert!(presence.is_news(presence.tell()));
        assert!(presence.is_news(presence.tell()), "the poll before was given up");
        presence.answered(PresenceWish::Online, &Ok::<(), ()>(()));
        assert!(!presence.is_news(presence.tell()));
        presence.answered(PresenceWish::Online, &Err::<(), ()>(()));
        assert!(presence.is_news(presence.tell()), "upstream may have begun anew");

        presence.set_outright(PresenceWish::Unavailable);
        assert!(!presence.is_news(presence.tell()), "it was answered by itself");
        presence.wish(PresenceWish::Online, Instant::now());
        assert!(presence.is_news(presence.tell()));

        let told = presence.tell();
        presence.set_outright(PresenceWish::Offline);
        presence.answered(told, &Ok::<(), ()>(()));
        presence.wish(PresenceWish::Online, Instant::now());
        assert!(presence.is_news(presence.tell()), "the poll that told it was from before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stronger_wish_ends_although_a_weaker_one_goes_on() {
        let presence = Presence::new();
        presence.wish(PresenceWish::Online, Instant::now());
        assert_eq!(presence.tell(), PresenceWish::Online);
        let mut changes = presence.watch();
        changes.mark_unchanged();

        presence.wish(PresenceWish::Unavailable, Instant::now());
        assert_eq!(presence.tell(), PresenceWish::Online, "another client may have said so");
        assert!(!changes.has_changed().expect("it is watched"));
        tokio::time::advance(PRESENCE_LINGERS / 2).await;
        presence.wish(PresenceWish::Unavailable, Instant::now());
        tokio::time::advance(PRESENCE_LINGERS / 2).await;
        presence.wish(PresenceWish::Unavailable, Instant::now());
        assert!(changes.has_changed().expect("it is watched"));
        assert_eq!(presence.tell(), PresenceWish::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn every_wish_reaches_a_poll_that_says_otherwise() {
        let presence = Presence::new();
        assert_eq!(presence.tell(), PresenceWish::Offline);
        let mut changes = presence.watch();

        presence.wish(PresenceWish::Online, Instant::now());
        assert!(changes.has_changed().expect("it is watched"));
        changes.mark_unchanged();
        assert_eq!(presence.tell(), PresenceWish::Online);

        // The poll says so already: it need not be asked anew.
        presence.wish(PresenceWish::Online, Instant::now());
        assert!(!changes.has_changed().expect("it is watched"));

        // The client goes away, the next poll says offline, and the client comes back.
        tokio::time::advance(PRESENCE_LINGERS * 2).await;
        assert_eq!(presence.tell(), PresenceWish::Offline);
        presence.wish(PresenceWish::Online, Instant::now());
        assert!(changes.has_changed().expect("it is watched"));
    }
}
