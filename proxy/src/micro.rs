//! The microbenchmarks of this crate, and the limit of all that write: a copy. See `tests::micro`.

use ::tests::micro::measure;
use divan::{Bencher, black_box, counter::BytesCount};

/// About as many bytes as the others read or write: a poll of one event, a timeline, a room, polls of 100 rooms and of 1,000.
#[divan::bench(args = [1_300, 16_500, 33_000, 370_000, 6_650_000])]
fn copied(bencher: Bencher<'_, '_>, bytes: usize) {
    let from = vec![b'x'; bytes];
    let mut to = Vec::with_capacity(bytes);
    measure(bencher, BytesCount::new(bytes), bytes, || {
        to.clear();
        to.extend_from_slice(black_box(&from));
        black_box(&to).len()
    });
}

#[test]
fn each_is_played() {
    ::tests::micro::play();
}

#[test]
#[ignore = "it measures, for `tests/run micro`"]
fn measured() {
    ::tests::micro::run();
}
