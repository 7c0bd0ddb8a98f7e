//! What writing a room of `POST /sync` costs.

use divan::Bencher;

use super::*;
use crate::{room_json::micro, token::Tokens};

#[divan::bench]
fn a_room_of_20_events_and_20_of_state(bencher: Bencher<'_, '_>) {
    let (tokens, view) = (Tokens::new(&[1; 32]), micro::room());
    let about = About { initial: true, state_before: None };
    micro::writes(bencher, 40 * 600, |out| room(&micro::writer(&tokens), &about, &view, out));
}
