//! What tokens of `GET /sync` cost.

use ::tests::micro::measure;
use divan::{Bencher, black_box, counter::ItemsCount};

use super::*;

const BATCH: SyncToken = SyncToken::Batch {
    pos: Position(123_456),
    device: DeviceNid(789),
    inbox: InboxSeq(4_242),
    members: MemoryId(99_999_999),
};

#[divan::bench]
fn minted(bencher: Bencher<'_, '_>) {
    let tokens = Tokens::new(&[1; 32]);
    let length = BATCH.mint(&tokens, AccountId(77)).len();
    let call = || black_box(BATCH).mint(&tokens, AccountId(77)).len();
    measure(bencher, ItemsCount::new(1_usize), length, call);
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let tokens = Tokens::new(&[1; 32]);
    let minted = BATCH.mint(&tokens, AccountId(77));
    measure(bencher, ItemsCount::new(1_usize), 1, || {
        usize::from(SyncToken::read(&tokens, AccountId(77), black_box(&minted)) == Ok(BATCH))
    });
}
