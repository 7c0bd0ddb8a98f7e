//! Faults, alone and mixed: what is promised in docs/reliability.md, shown on the real binary, real Postgres, a real
//! homeserver and a scripted one.
//!
//! A fault that only a homeserver's script can make is with the poller's tests, in `tests/e2e/poller`. Here are those that
//! need the process killed, the database or the disk or the clock gone wrong, and the storm of all of them.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the right answer to anything unexpected"
)]

mod alone;
mod backup;
mod clock;
mod marks;
mod replies;
mod storm;
mod vanishing;
mod world;
