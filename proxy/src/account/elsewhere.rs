//! What a device remembers of the other replicas: what they were told of it, and what was heard of them.
//!
//! All of it only saves telling and asking again. It must not know how anything is told.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::PresenceWish;
use crate::upstream::OnBehalfOf;

/// How often the one that polls for a device is told that a client uses it here.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How much longer a presence has to be wished for to be told again.
const PRESENCE_GRAIN: Duration = Duration::from_secs(5);

/// How long others are told that the device's token is good, after they used it.
const VOUCHED_FOR: Duration = Duration::from_mins(1);

/// How often they are told.
const VOUCH_EVERY: Duration = Duration::from_secs(5);

/// How long a demand is not repeated.
const DEMAND_EVERY: Duration = Duration::from_secs(1);

/// A device and the other replicas.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    told: Option<Told>,
    demanded: Option<(u64, Instant)>,
    used: Option<Instant>,
    vouched: Option<Instant>,
    looks: u64,
    seen: u64,
}

/// What the one that polls was told last.
#[derive(Debug)]
struct Told {
    at: Instant,
    presence: Option<(PresenceWish, Instant)>,
    client: OnBehalfOf,
}

impl Elsewhere {
    /// Whether it is time to tell the one that polls that a client uses the device here, with this wish until then.
    pub(crate) fn is_use_due(
        &self,
        presence: Option<(PresenceWish, Instant)>,
        client: &OnBehalfOf,
    ) -> bool {
        let mut known = self.known();
        let now = Instant::now();
        let is_told = known.told.as_ref().is_some_and(|told| {
            let still_wished = match (presence, told.presence) {
                (None | Some((PresenceWish::Offline, _)), _) => true,
                (Some((wish, until)), Some((told, told_until))) => {
                    wish == told && until <= told_until + PRESENCE_GRAIN
                }
                (Some(_), None) => false,
            };
            now < told.at + TELL_EVERY && still_wished && told.client == *client
        });
        if !is_told {
            known.told = Some(Told { at: now, presence, client: client.clone() });
        }
        !is_told
    }

    /// Whether a poll that covers so many writes has to be demanded. It is demanded from then on.
    pub(crate) fn is_demand_due(&self, writes: u64) -> bool {
        let mut known = self.known();
        let now = Instant::now();
        let is_demanded = known
            .demanded
            .is_some_and(|(demanded, at)| demanded >= writes && now < at + DEMAND_EVERY);
        if !is_demanded {
            known.demanded = Some((writes, now));
        }
        !is_demanded
    }

    /// Another process polls from now on: it was told nothing yet.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        (known.told, known.demanded) = (None, None);
    }

    /// A client uses the device at another replica.
    pub(crate) fn used(&self) {
        self.known().used = Some(Instant::now());
    }

    /// Whether it is time to tell the others that the device's token is good.
    pub(crate) fn is_vouching_due(&self) -> bool {
        let mut known = self.known();
        let is_used = known.used.is_some_and(|at| at.elapsed() < VOUCHED_FOR);
        let is_due = is_used && known.vouched.is_none_or(|at| at.elapsed() >= VOUCH_EVERY);
        if is_due {
            known.vouched = Some(Instant::now());
        }
        is_due
    }

    /// A look at the store begins: what it sees counts only if none that began later has been taken in.
    pub(crate) fn begin_look(&self) -> u64 {
        let mut known = self.known();
        known.looks += 1;
        known.looks
    }

    /// Whether what a look saw is the newest.
    pub(crate) fn is_newest(&self, look: u64) -> bool {
        let mut known = self.known();
        let is_newest = look > known.seen;
        known.seen = known.seen.max(look);
        is_newest
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_use_is_told_first_when_it_changes_and_now_and_then() {
        let device = Elsewhere::default();
        let client = OnBehalfOf::default();
        assert!(device.is_use_due(None, &client));
        assert!(!device.is_use_due(None, &client));
        let online =
            |seconds| Some((PresenceWish::Online, Instant::now() + Duration::from_secs(seconds)));
        assert!(device.is_use_due(online(30), &client));
        assert!(!device.is_use_due(online(31), &client), "that is hardly longer");
        assert!(device.is_use_due(online(60), &client));
        assert!(!device.is_use_due(None, &client), "who wishes for nothing changes nothing");
        assert!(device.is_use_due(None, &OnBehalfOf::told(Some("192.0.2.7"), None)));
        tokio::time::advance(TELL_EVERY).await;
        assert!(device.is_use_due(None, &client));
        device.forget();
        assert!(device.is_use_due(None, &client));
    }

    #[tokio::test(start_paused = true)]
    async fn a_demand_is_made_once_for_all_who_wait_for_it() {
        let device = Elsewhere::default();
        assert!(device.is_demand_due(3));
        assert!(!device.is_demand_due(3));
        assert!(!device.is_demand_due(2));
        assert!(device.is_demand_due(4));
        tokio::time::advance(DEMAND_EVERY).await;
        assert!(device.is_demand_due(4), "it may have got lost");
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_uses_a_device_is_told_that_its_token_is_good() {
        let device = Elsewhere::default();
        assert!(!device.is_vouching_due());
        device.used();
        assert!(device.is_vouching_due());
        assert!(!device.is_vouching_due());
        tokio::time::advance(VOUCH_EVERY).await;
        assert!(device.is_vouching_due());
        tokio::time::advance(VOUCHED_FOR).await;
        assert!(!device.is_vouching_due());
    }

    #[test]
    fn an_older_look_does_not_undo_a_newer_one() {
        let device = Elsewhere::default();
        let (older, newer) = (device.begin_look(), device.begin_look());
        assert!(device.is_newest(newer));
        assert!(!device.is_newest(older));
    }
}
