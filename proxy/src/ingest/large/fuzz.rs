//! A large reply, whatever it holds and in whatever pieces it comes: it is what it would be as a small one.

use ::tests::fuzz::{check, corpus, json as some_json};
use bytes::Bytes;

use super::{super::fuzz::ASKED, *};

#[test]
fn large_reply() {
    let seeds = corpus("sync_reply");
    check("large_reply", |choices| {
        let reply = some_json(choices, &seeds);
        choices.note("reply", &String::from_utf8_lossy(&reply));
        match (main_poll(&reply, ASKED), in_parts(&reply)) {
            (Ok(small), Ok(large)) => assert_eq!(in_order(small), in_order(large)),
            (Err(_), Err(_)) => {}
            (small, large) => panic!("small: {small:?}, large: {large:?}"),
        }
        let ways = [1, 2, 3, 5, 8, 64].map(|piece| places(&reply, piece));
        let whole = places(&reply, usize::MAX);
        assert!(ways.iter().all(|way| *way == whole), "{ways:?} {whole}");
    });
}

/// Every part of a room that is listed again and again comes in one batch.
#[test]
fn a_batch_ends_between_rooms() {
    let room = |number: usize| format!(r#""!{:05}":{{"timeline":{{"limited":true}}}}"#, number / 7);
    let rooms: Vec<String> = (0..5 * ROOMS).map(room).collect();
    let reply = format!(r#"{{"rooms":{{"join":{{{}}}}},"next_batch":"s1"}}"#, rooms.join(","));
    let large = Large::in_memory(Bytes::from(reply));
    let (head, parts) = LargePoll::read(large, ASKED).expect("a reply");
    assert_eq!((head.next_batch.as_str(), parts.rooms()), ("s1", 5 * ROOMS));
    let mut room_ids = Vec::new();
    let (mut batches, mut next) = (0, 0);
    while let Some((batch, after)) = parts.batch(next).expect("rooms") {
        room_ids.extend(batch.rooms.into_iter().map(|room| room.room_id));
        (batches, next) = (batches + 1, after);
    }
    assert!(batches >= 4 && room_ids.is_sorted() && next == parts.rooms());
    let told = room_ids.len();
    room_ids.dedup();
    assert_eq!((told, room_ids.len()), ((5 * ROOMS).div_ceil(7), told));
}

fn in_parts(reply: &[u8]) -> Result<Poll, PartError> {
    let large = Large::in_memory(Bytes::copy_from_slice(reply));
    let (mut poll, parts) = LargePoll::read(large, ASKED)?;
    let mut next = 0;
    while let Some((batch, after)) = parts.batch(next)? {
        next = after;
        poll.rooms.extend(batch.rooms);
        poll.quarantined.extend(batch.quarantined);
    }
    Ok(poll)
}

/// A poll as text, with its rooms and what is wrong with it in an order of their own.
fn in_order(mut poll: Poll) -> String {
    poll.rooms.sort_by(|one, other| one.room_id.cmp(&other.room_id));
    poll.quarantined.sort();
    format!("{poll:#?}")
}

/// Where everything stands in a reply that comes in pieces of this size.
fn places(reply: &[u8], piece: usize) -> String {
    let mut scanner = Scanner::new();
    let fed = reply.chunks(piece).try_for_each(|piece| scanner.feed(piece));
    format!("{:?}", fed.and_then(|()| scanner.finish()))
}
