//! What reading a filter costs.

use ::tests::micro::measure;
use divan::{Bencher, black_box, counter::BytesCount};

use super::*;

const FILTER: &str = r#"{"presence":{"types":[]},"room":{"timeline":{"limit":20,"lazy_load_members":true,"unread_thread_notifications":true},"state":{"lazy_load_members":true,"not_types":["org.example.*"]},"ephemeral":{"types":["m.receipt","m.typing"]},"not_rooms":["!a:example.org"]}}"#;

#[divan::bench]
fn a_filter_read(bencher: Bencher<'_, '_>) {
    measure(bencher, BytesCount::of_str(FILTER), 1, || {
        let filter = Filter::parse(black_box(FILTER).as_bytes()).expect("a filter");
        usize::from(filter.room.timeline.lazy_load_members)
    });
}
