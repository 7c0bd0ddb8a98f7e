//! What the homeserver remembers of how it was polled: times and counts.

use std::sync::Mutex;
use std::time::Instant;

/// The first reply of an account: the one to a sync without a `since`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstReply {
    /// When it was asked for last.
    pub begun: Option<Instant>,
    /// How many bytes of it were handed out.
    pub bytes: usize,
    /// When the next poll began after it, which says that it is stored.
    pub followed: Option<Instant>,
}

/// How the homeserver was polled in a span of time.
#[derive(Debug, Clone, Default)]
pub struct Polls {
    /// When each poll with a `since` began, and of which account it was.
    pub begun: Vec<(usize, Instant)>,
    /// How many told something.
    pub telling: usize,
    /// How many were under way at once, at most.
    pub most_at_once: usize,
}

#[derive(Debug, Default)]
pub(super) struct Observed(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    polls: Polls,
    under_way: usize,
}

/// A poll that is under way.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Observed);

impl Observed {
    pub(super) fn begins(&self, account: usize) -> UnderWay<'_> {
        let mut noted = self.0.lock().unwrap();
        noted.polls.begun.push((account, Instant::now()));
        noted.under_way += 1;
        noted.polls.most_at_once = noted.polls.most_at_once.max(noted.under_way);
        UnderWay(self)
    }

    pub(super) fn tells(&self) {
        self.0.lock().unwrap().polls.telling += 1;
    }

    pub(super) fn polls(&self) -> Polls {
        self.0.lock().unwrap().polls.clone()
    }

    pub(super) fn forget(&self) {
        let mut noted = self.0.lock().unwrap();
        noted.polls = Polls { most_at_once: noted.under_way, ..Polls::default() };
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().under_way -= 1;
    }
}
