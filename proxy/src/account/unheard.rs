//! Whether something may be stored of which this process has not heard: a commit whose answer was lost with its connection, or
//! with the task that waited for it.
//!
//! Where a stream stands is looked up in the store before each poll that follows a failure. What a stored poll leaves to be done
//! beside that, and what memory holds of it, is made up for only where it may be needed.

use std::sync::atomic::{AtomicBool, Ordering};

/// That storing has begun, and nothing has been heard of it yet.
#[derive(Debug, Default)]
pub(crate) struct Unheard(AtomicBool);

impl Unheard {
    /// Something is about to be stored.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// It is stored, and everybody knows; or what is stored has been looked up.
    pub(crate) fn heard(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether something may be stored that nobody has heard of.
    pub(crate) fn is_any(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
