//! The microbenchmarks of this crate: see `tests::micro`.

#[test]
fn each_is_played() {
    ::tests::micro::play();
}

#[test]
#[ignore = "it measures, for `tests/run micro`"]
fn measured() {
    ::tests::micro::run();
}
