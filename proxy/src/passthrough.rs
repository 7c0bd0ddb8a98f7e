//! Everything that the homeserver answers itself, carried there and back.
//!
//! Neighbours: `dispatch` hands over requests; [`Forwarder`] carries them. Where something must be looked at on the way
//! (a login's answer, a logout, one of our tokens in a query) there is a file for it, and only that much is looked at.
//!
//! Invariants: the raw path and query go out byte for byte unless one of our own tokens stands in the query; bodies are
//! streamed both ways with no limit, except the small or paged ones that a file here edits; redirects are the client's.

mod batch_tokens;
mod buffer;
mod connect;
mod forward;
mod headers;
mod json_edit;
mod login;
mod logout;
mod members;
mod messages;
mod progress;
mod query;
mod write;

pub(crate) use self::batch_tokens::batch_tokens;
pub(crate) use self::forward::Forwarder;
pub(crate) use self::login::{Place, rewrite_base_url};
pub(crate) use self::logout::{Extent, log_out};
pub(crate) use self::members::members;
pub(crate) use self::messages::{Paged, messages};
pub(crate) use self::write::write;
