//! Where a poller's own stream stands, so that it need not look it up before each poll.
//!
//! Nobody but the poller moves its stream on, while all goes well: what it has stored last is where it stands. Whoever else does
//! (an operator, another process, a handover) is noticed when the next poll is stored, for that is fenced; and after anything but
//! a stored poll it is looked up. So it is known for one poll at a time.

use std::sync::{Mutex, PoisonError};

/// The two kinds of streams that a device's poller moves on, each with a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// The account's.
    Main,
    /// The device's own.
    Light,
}

/// The place of a stream, until it is taken.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Option<(Stream, String)>>);

impl Standing {
    /// The stream stands at this `next_batch` of upstream's: a poll of it was stored, or one from there has brought nothing.
    pub(super) fn is(&self, stream: Stream, next_batch: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((stream, next_batch));
    }

    /// Where the stream stands, if that is known; from then on it is not.
    pub(super) fn take(&self, stream: Stream) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        known.filter(|(of, _)| *of == stream).map(|(_, next_batch)| next_batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_once_and_to_its_own_stream() {
        let standing = Standing::default();
        assert_eq!(standing.take(Stream::Main), None);
        standing.is(Stream::Main, "s1".to_owned());
        assert_eq!(standing.take(Stream::Main).as_deref(), Some("s1"));
        assert_eq!(standing.take(Stream::Main), None, "a poll that fails leaves nothing behind");
        standing.is(Stream::Light, "s2".to_owned());
        assert_eq!(standing.take(Stream::Main), None, "the main poll does not go on from there");
        assert_eq!(standing.take(Stream::Light), None, "nor does the light one, after a main poll");
    }
}
