//! The tail of a device's inbox: the to-device messages that its latest polls brought.
//!
//! Written by the device's poller after the commit and before anybody is woken. Losing it loses nothing.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use store::{InboxMessage, InboxPage, InboxSeq};
use tokio::time::Instant;

use super::KEEP;

/// How many messages are kept.
const MOST_MESSAGES: usize = 100;

/// How many bytes are kept.
const MOST_BYTES: usize = 64 * 1024;

/// The latest to-device messages of a device.
#[derive(Debug, Default)]
pub(crate) struct InboxTail(Mutex<Option<Box<Messages>>>);

#[derive(Debug)]
struct Messages {
    /// Their numbers follow each other, up to the last of the inbox.
    kept: VecDeque<InboxMessage>,
    bytes: usize,
    /// When the last of them came.
    at: Instant,
}

impl InboxTail {
    /// A poll has brought `messages`: the inbox ends at `now`, and ended at `before` as far as this process knew.
    pub(crate) fn push(&self, before: InboxSeq, now: InboxSeq, messages: &[Bytes]) {
        if now == before {
            return;
        }
        let mut tail = self.lock();
        // Otherwise others were stored that this process did not hear of, or some of these had been told before.
        let follow = i64::try_from(messages.len()).is_ok_and(|count| before.0 + count == now.0);
        if !follow {
            *tail = None;
            return;
        }
        let at = Instant::now();
        let kept =
            tail.get_or_insert_with(|| Box::new(Messages { kept: VecDeque::new(), bytes: 0, at }));
        kept.at = at;
        if kept.kept.back().is_some_and(|last| last.seq != before) {
            kept.kept.clear();
            kept.bytes = 0;
        }
        for (seq, message) in (before.0 + 1..).zip(messages) {
            kept.bytes += message.len();
            kept.kept.push_back(InboxMessage { seq: InboxSeq(seq), message: message.clone() });
        }
        while kept.kept.len() > MOST_MESSAGES || kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.kept.pop_front() else { break };
            kept.bytes -= oldest.message.len();
        }
    }

    /// Up to `limit` messages after `after`, oldest first, if all of the inbox from there to its end at `end` is here.
    pub(crate) fn after(&self, after: InboxSeq, end: InboxSeq, limit: usize) -> Option<InboxPage> {
        let tail = self.lock();
        let messages = tail.as_ref().filter(|messages| messages.at.elapsed() < KEEP)?;
        let kept = &messages.kept;
        if kept.front()?.seq.0 > after.0 + 1 || kept.back()?.seq < end {
            return None;
        }
        let mut rest = kept.iter().filter(|message| message.seq > after);
        let messages = rest.by_ref().take(limit).cloned().collect();
        Some(InboxPage { messages, more: rest.next().is_some() })
    }

    /// Drops everything: other sessions may have acknowledged some of it, so that it is no longer held.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// Drops what is too old to be asked for.
    pub(crate) fn sweep(&self) {
        self.lock().take_if(|messages| messages.at.elapsed() >= KEEP);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Messages>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(texts: &[&'static str]) -> Vec<Bytes> {
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
    }

    #[track_caller]
    fn check(tail: &InboxTail, after: i64, end: i64, limit: usize, expected: Option<(&str, bool)>) {
        let page = tail.after(InboxSeq(after), InboxSeq(end), limit);
        let text = |message: &InboxMessage| {
            format!("{}{}", message.seq, String::from_utf8_lossy(&message.message))
        };
        let found =
            page.map(|page| (page.messages.iter().map(text).collect::<String>(), page.more));
        assert_eq!(found, expected.map(|(text, more)| (text.to_owned(), more)));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_there_from_the_first_that_was_kept_to_the_last() {
        let tail = InboxTail::default();
        check(&tail, 0, 0, 9, None);
        tail.push(InboxSeq(3), InboxSeq(5), &bytes(&["a", "b"]));
        tail.push(InboxSeq(5), InboxSeq(5), &[]);
        tail.push(InboxSeq(5), InboxSeq(6), &bytes(&["c"]));
        check(&tail, 3, 6, 9, Some(("4a5b6c", false)));
        check(&tail, 3, 6, 2, Some(("4a5b", true)));
        check(&tail, 5, 6, 9, Some(("6c", false)));
        check(&tail, 2, 6, 9, None);
        check(&tail, 3, 7, 9, None);
        tokio::time::advance(KEEP).await;
        check(&tail, 5, 6, 9, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_follow_is_not_kept() {
        let tail = InboxTail::default();
        tail.push(InboxSeq(0), InboxSeq(1), &bytes(&["a"]));
        // Of two messages one was there already.
        tail.push(InboxSeq(1), InboxSeq(2), &bytes(&["a", "b"]));
        check(&tail, 0, 2, 9, None);
        tail.push(InboxSeq(2), InboxSeq(3), &bytes(&["c"]));
        // A message came that nobody told this process of.
        tail.push(InboxSeq(4), InboxSeq(5), &bytes(&["e"]));
        check(&tail, 2, 5, 9, None);
        check(&tail, 4, 5, 9, Some(("5e", false)));
    }

    #[tokio::test(start_paused = true)]
    async fn little_is_kept_and_not_for_long() {
        let tail = InboxTail::default();
        let large = Bytes::from(vec![b'x'; MOST_BYTES / 2]);
        tail.push(InboxSeq(0), InboxSeq(3), &[large.clone(), large.clone(), large]);
        assert!(tail.after(InboxSeq(0), InboxSeq(3), 9).is_none());
        assert_eq!(
            tail.after(InboxSeq(1), InboxSeq(3), 9).map(|page| page.messages.len()),
            Some(2)
        );
        tail.sweep();
        assert!(tail.lock().is_some());
        tokio::time::advance(KEEP).await;
        tail.sweep();
        assert!(tail.lock().is_none());
    }
}
