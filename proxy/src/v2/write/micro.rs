//! What writing a room of `GET /sync` costs.

use std::sync::Arc;

use divan::Bencher;

use super::*;
use crate::{room_json::micro, token::Tokens, v2::request::StateForm};

#[divan::bench]
fn a_room_of_20_events_and_20_of_state(bencher: Bencher<'_, '_>) {
    let (tokens, room) = (Tokens::new(&[1; 32]), micro::room());
    let wishes = Wishes {
        filter: Arc::default(),
        state_form: StateForm::Before,
        known_members: Arc::default(),
    };
    micro::writes(bencher, 40 * 600, |out| {
        let events = micro::writer(&tokens);
        Writer { wishes: &wishes, events }.room(&room, out);
    });
}
