//! Microbenchmarks, measured by divan.
//!
//! They stand beside what they measure, in files `micro.rs`, because that is private. A crate that has some has a module
//! `micro` at its root, with two tests: one of the ordinary run, that plays each benchmark once ([`play`]), and one that
//! `tests/run micro` runs alone, that measures ([`run`]). No time is ever asserted.

use std::sync::atomic::{AtomicUsize, Ordering};

use divan::counter::IntoCounter;
use divan::{Bencher, Divan};

/// How many were played or measured in this process.
static PLAYED: AtomicUsize = AtomicUsize::new(0);

/// Measures a call that counts what it has done, rooms or events or bytes: `expected` each time. `counter` is what its
/// throughput is told in.
pub fn measure(
    bencher: Bencher<'_, '_>,
    counter: impl IntoCounter,
    expected: usize,
    mut call: impl FnMut() -> usize,
) {
    assert_eq!(call(), expected, "it does not do what is measured");
    let mut last = 0;
    bencher.counter(counter).bench_local(|| {
        last = call();
        last
    });
    assert_eq!(last, expected, "it does so no longer");
    PLAYED.fetch_add(1, Ordering::Relaxed);
}

/// Plays each benchmark of the crate once, as a test of them.
pub fn play() {
    Divan::default().test_benches();
    // They are found by what the linker put together, which may have been nothing.
    assert!(PLAYED.load(Ordering::Relaxed) > 0, "no benchmark was found");
}

/// Measures those that the arguments of the process name.
pub fn run() {
    // The flag that let this test run would have divan measure only what it ignores.
    Divan::from_args().run_ignored().run_benches();
}
