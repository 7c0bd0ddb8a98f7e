//! Load, for the benchmarks: a homeserver that costs next to nothing, clients that wait, and what the proxies and Postgres
//! cost meanwhile.
//!
//! The end-to-end tests have a [`crate::scripted_homeserver`], which is told what to say reply by reply and remembers all
//! that it is asked. The one here knows how to play accounts, by the thousand or of any size, and remembers only times and
//! counts.

pub mod clients;
pub mod homeserver;
pub mod machine;
pub mod open_files;
pub mod step;
pub mod world;
