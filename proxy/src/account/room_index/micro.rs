//! What keeping a sorted list of rooms costs, in a small account and in a large one.

use ::tests::micro::measure;
use divan::{Bencher, counter::ItemsCount};

use super::*;

fn listed(number: i64, recency: i64) -> ListedRoom {
    ListedRoom {
        room_nid: RoomNid(number),
        room_id: format!("!room{number}:example.org"),
        section: Section::Join,
        recency,
        notification_count: 0,
        highlight_count: 0,
        thread_counts: None,
    }
}

/// An index of so many rooms, by recency.
fn index(rooms: i64) -> RoomIndex {
    let rooms = (0..rooms).map(|number| listed(number, number * 7 % 1_000)).collect();
    let mut index = RoomIndex::new(Position(1), rooms, DirectRooms::none());
    index.add_order(&[SortBy::Recency]);
    index
}

/// A poll has changed one room, which is then the newest.
#[divan::bench(args = [100, 10_000])]
fn a_poll_of_one_room_taken_in(bencher: Bencher<'_, '_>, rooms: i64) {
    let mut changing = index(rooms);
    let mut pos = 1;
    measure(bencher, ItemsCount::new(1_usize), 1, || {
        pos += 1;
        let rooms = vec![listed(pos * 31 % rooms, pos + 1_000)];
        let changes = Changes { as_of: Position(pos), rooms, direct: None, facts: HashMap::new() };
        changing.apply(changes);
        let newest = changing.in_order(Section::Join, &[SortBy::Recency]).next();
        usize::from(newest.is_some_and(|room| room.recency == pos + 1_000))
    });
}

/// The newest twenty.
#[divan::bench(args = [100, 10_000])]
fn a_page_of_20_rooms(bencher: Bencher<'_, '_>, rooms: i64) {
    let read = index(rooms);
    measure(bencher, ItemsCount::new(20_usize), 20, || {
        let page = read.in_order(Section::Join, &[SortBy::Recency]).take(20);
        page.filter(|room| room.section == Section::Join).count()
    });
}
