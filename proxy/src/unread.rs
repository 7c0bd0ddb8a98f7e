//! Unread counts as a client sees them: of a room alone, or of the room and all of its threads. Pure.

use std::collections::BTreeMap;

use store::RoomHead;

/// How much is unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unread {
    /// What notifies.
    pub(crate) notifications: i64,
    /// What of that is highlighted.
    pub(crate) highlights: i64,
}

#[derive(serde::Deserialize)]
struct ThreadCounts {
    #[serde(default)]
    notification_count: i64,
    #[serde(default)]
    highlight_count: i64,
}

impl Unread {
    /// Outside of threads.
    pub(crate) fn outside_threads(head: &RoomHead) -> Self {
        Self { notifications: head.notification_count, highlights: head.highlight_count }
    }

    /// With all threads.
    pub(crate) fn with_threads(head: &RoomHead) -> Self {
        Self::total(head.notification_count, head.highlight_count, head.thread_counts.as_deref())
    }

    /// With all threads; `threads` is the JSON object `unread_thread_notifications`.
    pub(crate) fn total(notifications: i64, highlights: i64, threads: Option<&[u8]>) -> Self {
        let threads: BTreeMap<String, ThreadCounts> =
            threads.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
        Self {
            notifications: notifications
                + threads.values().map(|counts| counts.notification_count).sum::<i64>(),
            highlights: highlights
                + threads.values().map(|counts| counts.highlight_count).sum::<i64>(),
        }
    }
}
