//! What many leave for one task to do, in its order. It must not know what that is.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// A queue with room for `most` at a time: what does not fit is dropped.
pub(super) struct Queue<T> {
    waiting: Mutex<Vec<T>>,
    called: Notify,
    most: usize,
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), called: Notify::new(), most }
    }

    /// Leaves something to be done.
    pub(super) fn put(&self, item: T) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < self.most {
            waiting.push(item);
            self.called.notify_one();
        }
    }

    /// What has waited the longest, up to `at_once` of it. Only one task waits here.
    pub(super) async fn take(&self, at_once: usize) -> Vec<T> {
        loop {
            let taken = self.take_now(at_once);
            if !taken.is_empty() {
                return taken;
            }
            self.called.notified().await;
        }
    }

    /// The same without waiting.
    pub(super) fn take_now(&self, at_once: usize) -> Vec<T> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(at_once);
        waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_taken_in_its_order_and_no_more_than_is_asked_for() {
        let queue = Queue::new(10);
        for number in 0..7 {
            queue.put(number);
        }
        assert_eq!(queue.take(5).await, [0, 1, 2, 3, 4]);
        assert_eq!(queue.take(5).await, [5, 6]);
        assert!(queue.take_now(5).is_empty());
    }

    #[tokio::test]
    async fn it_does_not_grow_without_bound() {
        let queue = Queue::new(3);
        for number in 0..7 {
            queue.put(number);
        }
        assert_eq!(queue.take(usize::MAX).await, [0, 1, 2]);
    }
}
