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
        // Whatever the homeserver says: a sum of it may be beyond every number.
        let sum = |of_room: i64, of_thread: fn(&ThreadCounts) -> i64| {
            threads.values().map(of_thread).fold(of_room, i64::saturating_add)
        };
        Self {
            notifications: sum(notifications, |counts| counts.notification_count),
            highlights: sum(highlights, |counts| counts.highlight_count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Unread;

    #[test]
    fn threads_are_counted_in() {
        let check = |threads: &str, notifications: i64, highlights: i64| {
            let total = Unread::total(1, 0, Some(threads.as_bytes()));
            assert_eq!(total, Unread { notifications, highlights }, "{threads}");
        };
        check("{}", 1, 0);
        check(
            r#"{"$a":{"notification_count":2},"$b":{"notification_count":3,"highlight_count":1}}"#,
            6,
            1,
        );
        check(
            r#"{"$a":{"notification_count":9223372036854775807,"highlight_count":9223372036854775807},
                "$b":{"notification_count":9223372036854775807,"highlight_count":1}}"#,
            i64::MAX,
            i64::MAX,
        );
        check("x", 1, 0);
    }
}
