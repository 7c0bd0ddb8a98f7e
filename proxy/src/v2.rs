//! Sync v2: `GET /sync` as the specification has it.
//!
//! Stands on `views`; knows nothing of v3, of pollers, or of how anything is stored.

mod answer;
mod archive;
mod filters;
mod migration;
mod request;
mod room_stream;
mod rooms;
pub(crate) mod sync;
mod write;

pub(crate) use self::filters::FilterCache;

#[cfg(test)]
mod fuzz;
