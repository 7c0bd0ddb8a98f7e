//! What other replicas tell, taken in.

use std::sync::Arc;

use crate::state::State;

/// Takes in what a replica told.
pub(super) fn hear(_state: &Arc<State>, _told: &str) {}

/// For a while nothing could be heard.
pub(super) fn missed(_state: &Arc<State>) {}
