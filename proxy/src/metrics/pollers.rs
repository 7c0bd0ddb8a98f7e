//! What each poller does, and when it last succeeded: counted when somebody asks, so that a poll only writes a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::labels::{Activity, Label};

/// What those do whose clients lack something when they have long had no success. The others wait for somebody.
const WANTING: [Activity; 2] = [Activity::Polling, Activity::Failing];

/// All pollers of the process.
#[derive(Debug)]
pub(super) struct Pollers {
    begun: Instant,
    next: AtomicU64,
    running: DashMap<u64, Arc<Standing>>,
}

#[derive(Debug)]
struct Standing {
    /// The number of an [`Activity`].
    activity: AtomicUsize,
    /// Milliseconds from the beginning of the process to the last poll that was stored, or to the poller's own beginning.
    succeeded: AtomicU64,
}

/// One poller, for as long as it runs.
#[derive(Debug)]
pub(crate) struct PollerWatch {
    number: u64,
    standing: Arc<Standing>,
    pollers: Arc<Pollers>,
}

impl Pollers {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), next: AtomicU64::new(0), running: DashMap::new() }
    }

    /// A poller begins.
    pub(super) fn watch(self: &Arc<Self>) -> PollerWatch {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let standing = Arc::new(Standing {
            activity: AtomicUsize::new(Activity::WithoutToken.index()),
            succeeded: AtomicU64::new(self.now()),
        });
        self.running.insert(number, Arc::clone(&standing));
        PollerWatch { number, standing, pollers: Arc::clone(self) }
    }

    /// How many pollers do what, and how long the one that has waited longest for a success has waited for it.
    pub(super) fn count(&self) -> (Vec<(Activity, i64)>, Duration) {
        let mut counts: Vec<_> = Activity::ALL.iter().map(|activity| (*activity, 0)).collect();
        let (now, mut oldest) = (self.now(), 0);
        for standing in &self.running {
            let Some((activity, count)) = counts.get_mut(standing.activity.load(Ordering::Relaxed))
            else {
                continue;
            };
            *count += 1;
            if WANTING.contains(activity) {
                let age = now.saturating_sub(standing.succeeded.load(Ordering::Relaxed));
                oldest = oldest.max(age);
            }
        }
        (counts, Duration::from_millis(oldest))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl PollerWatch {
    /// What it does now. Who was not in want of a success before has nothing to catch up with yet.
    pub(crate) fn does(&self, activity: Activity) {
        let before = self.standing.activity.swap(activity.index(), Ordering::Relaxed);
        if !WANTING.iter().any(|one| one.index() == before) {
            self.succeeded_now();
        }
    }

    /// A poll is stored.
    pub(crate) fn succeeded(&self) {
        self.succeeded_now();
        self.does(Activity::Polling);
    }

    /// A poll is under way, the first of its account or not. What became of the one before holds until this one succeeds.
    pub(crate) fn polls(&self, is_first: bool) {
        let failed = [Activity::Failing.index(), Activity::TurnedAway.index()];
        if !failed.contains(&self.standing.activity.load(Ordering::Relaxed)) {
            self.does(if is_first { Activity::Beginning } else { Activity::Polling });
        }
    }

    fn succeeded_now(&self) {
        self.standing.succeeded.store(self.pollers.now(), Ordering::Relaxed);
    }
}

impl Drop for PollerWatch {
    fn drop(&mut self) {
        self.pollers.running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_fails_or_hangs_grows_old_and_who_rests_does_not() {
        let pollers = Arc::new(Pollers::new());
        let (one, other) = (pollers.watch(), pollers.watch());
        one.polls(false);
        other.does(Activity::Resting);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(pollers.count().1, Duration::from_mins(1));
        one.does(Activity::Failing);
        one.polls(false);
        let (counts, oldest) = pollers.count();
        assert_eq!(oldest, Duration::from_mins(1), "a new try is no success");
        assert!(counts.contains(&(Activity::Failing, 1)), "{counts:?}");
        one.succeeded();
        assert_eq!(pollers.count().1, Duration::ZERO);
        tokio::time::advance(Duration::from_mins(1)).await;
        drop(one);
        other.polls(false);
        assert_eq!(pollers.count().1, Duration::ZERO, "nobody missed anything while it rested");
    }
    #[tokio::test(start_paused = true)]
    async fn who_begins_or_is_turned_away_grows_old_only_when_it_fails() {
        let pollers = Arc::new(Pollers::new());
        let (begins, turned_away) = (pollers.watch(), pollers.watch());
        begins.polls(true);
        turned_away.polls(false);
        turned_away.does(Activity::TurnedAway);
        tokio::time::advance(Duration::from_mins(10)).await;
        turned_away.polls(false);
        let (counts, oldest) = pollers.count();
        assert_eq!(oldest, Duration::ZERO);
        for activity in [Activity::Beginning, Activity::TurnedAway] {
            assert!(counts.contains(&(activity, 1)), "{counts:?}");
        }
        begins.does(Activity::Failing);
        turned_away.does(Activity::Failing);
        assert_eq!(pollers.count().1, Duration::ZERO);
        tokio::time::advance(Duration::from_mins(1)).await;
        begins.polls(true);
        assert_eq!(pollers.count().1, Duration::from_mins(1));
    }
}
