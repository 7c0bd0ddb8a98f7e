//! Sync v2: `GET /sync` as the specification has it.
//!
//! Stands on `views`; knows nothing of v3, of pollers, or of how anything is stored.

mod answer;
mod archive;
#[cfg(debug_assertions)]
mod check;
mod filters;
mod migration;
mod request;
mod room_stream;
mod rooms;
pub(crate) mod sync;
mod write;

#[cfg(debug_assertions)]
pub use self::check::leave_unchecked;
pub(crate) use self::filters::FilterCache;

#[cfg(test)]
mod fuzz;
