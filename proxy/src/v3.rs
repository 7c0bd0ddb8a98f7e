//! Sync v3: `POST /_matrix/client/v3/sync`, streams with sticky parameters in sessions.
//!
//! The way of a request: `sync` is the endpoint, and says in which order everything happens; `request`
//! reads query and body; `session` finds what the token names; `params` merges the body into the
//! session's parameters and has each stream read its own; `rooms` lets nobody into a room that the
//! user is not in; each of the `streams` answers from the store; `waiting` tells when to look again.
//! The API itself is described in `docs/v3-api.md`.
//!
//! Neighbours: `auth`, `account` and `token` below it, the store beneath. It must not know how polls
//! work, nor anything of sync v2.

mod fields;
mod page_token;
mod params;
mod request;
mod rooms;
mod session;
mod sets;
mod streams;
pub(crate) mod sync;
mod token;
mod view;
mod waiting;

#[cfg(test)]
mod fuzz;
