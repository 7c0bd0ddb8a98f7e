//! Marked points at which a test can have the process killed.
//!
//! A crash is told apart from a restart by what it falls between: a reply and its commit, a commit and the answer. Tests
//! name such a point, and the process that reaches it ends by SIGKILL, as `kill -9` would end it there. The release build
//! has none of this: [`reached`] is empty in it, and nothing can be armed.

/// The program has come to `point` of `what`: of a transaction, by its name, or of a poll or an answer.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_what: &str, _point: &str) {}

#[cfg(debug_assertions)]
pub use armed::{arm, reached};

#[cfg(debug_assertions)]
mod armed {
    use std::{
        process::{self, Command},
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    static ARMED: OnceLock<Mark> = OnceLock::new();

    struct Mark {
        what: String,
        point: String,
        /// How often it is still passed unharmed, and once more.
        left: AtomicU32,
    }

    /// Has the process killed when it comes to a point: `ingest::ingest/before_commit/3` for the third time that it does.
    /// Gives whether the text could be understood; only the first one counts.
    pub fn arm(text: &str) -> bool {
        let mut parts = text.split('/').map(str::to_owned);
        let (Some(what), Some(point)) = (parts.next(), parts.next()) else { return false };
        let Some(times) = parts.next().and_then(|times| times.parse().ok()) else { return false };
        ARMED.set(Mark { what, point, left: AtomicU32::new(times) }).is_ok()
    }

    /// The program has come to `point` of `what`: of a transaction, by its name, or of a poll or an answer.
    pub fn reached(what: &str, point: &str) {
        let Some(mark) = ARMED.get() else { return };
        if mark.what == what && mark.point == point && mark.left.fetch_sub(1, Ordering::AcqRel) == 1
        {
            die();
        }
    }

    /// Nothing of this task happens after the mark: its thread stands still until the signal comes.
    fn die() -> ! {
        let id = process::id().to_string();
        // Where there is no shell the process stands still for ever, which no test takes for an end.
        let _ = Command::new("sh").args(["-c", r#"kill -KILL "$1""#, "kill", &id]).status();
        loop {
            thread::park();
        }
    }
}
