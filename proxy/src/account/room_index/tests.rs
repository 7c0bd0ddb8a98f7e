//! Random changes of an index compared with sorting from scratch, and what each kind of change does.

use std::cmp::Reverse;

use super::*;

const ORDERS_ASKED: &[&[SortBy]] = &[
    &[SortBy::Recency],
    &[SortBy::Name],
    &[SortBy::HighlightCount, SortBy::NotificationCount, SortBy::Recency],
    &[SortBy::NotificationCount, SortBy::Name],
    &[],
];
const LISTED: [Section; 3] = [Section::Join, Section::Invite, Section::Knock];

fn listed(number: i64, section: Section) -> ListedRoom {
    ListedRoom {
        room_nid: RoomNid(number),
        room_id: format!("!{number:02}:x"),
        section,
        recency: 0,
        notification_count: 0,
        highlight_count: 0,
        thread_counts: None,
    }
}

fn nothing() -> RoomIndex {
    RoomIndex::new(Position(0), Vec::new(), DirectRooms::none())
}

/// A poll that changes nothing.
fn changes_of(pos: i64) -> Changes {
    Changes { as_of: Position(pos), rooms: Vec::new(), direct: None, facts: HashMap::new() }
}

fn facts(name: &str) -> Facts {
    Facts {
        name: name.to_owned(),
        room_type: None,
        is_encrypted: false,
        tags: BTreeSet::new(),
        changed: Position(0),
    }
}

fn direct(room_ids: &[&str], pos: i64) -> DirectRooms {
    let list = crate::json::strings(room_ids);
    DirectRooms::read(format!(r#"{{"content":{{"@a:x":{list}}}}}"#).as_bytes(), Position(pos))
}

fn ids<'a>(rooms: impl Iterator<Item = &'a IndexedRoom>) -> Vec<String> {
    rooms.map(|room| room.room_id.to_string()).collect()
}

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).expect("31 bits") % end
    }

    fn section(&mut self) -> Section {
        [Section::Join, Section::Join, Section::Invite, Section::Knock, Section::Leave]
            [usize::try_from(self.below(5)).expect("small")]
    }

    /// A poll that changes some of forty rooms, a few values of which are often equal.
    fn changes(&mut self, as_of: i64) -> Changes {
        let mut changes = changes_of(as_of);
        for _ in 0..self.below(6) {
            let number = self.below(40);
            let section = self.section();
            changes.rooms.retain(|room| room.room_nid != RoomNid(number));
            changes.rooms.push(ListedRoom {
                recency: self.below(5),
                notification_count: self.below(3),
                highlight_count: self.below(2),
                thread_counts: (self.below(4) == 0)
                    .then(|| br#"{"$t":{"notification_count":1,"highlight_count":1}}"#[..].into()),
                ..listed(number, section)
            });
            let name =
                ["ab", "Ab", "aB", "b", "", "C"][usize::try_from(self.below(6)).expect("small")];
            changes.facts.insert(RoomNid(number), facts(name));
        }
        if self.below(5) == 0 {
            let room_ids: Vec<String> =
                (0..40).filter(|_| self.below(2) == 0).map(|n| format!("!{n:02}:x")).collect();
            let room_ids: Vec<&str> = room_ids.iter().map(String::as_str).collect();
            changes.direct = Some(direct(&room_ids, as_of));
        }
        changes
    }
}

/// Sorted the slow way, from nothing but the rooms.
fn sorted(index: &RoomIndex, section: Section, order: &[SortBy]) -> Vec<String> {
    let mut rooms: Vec<&IndexedRoom> =
        (0..40).filter_map(|number| index.get(RoomNid(number))).collect();
    rooms.retain(|room| room.section == section);
    rooms.sort_by_key(|room| room.room_id.clone());
    for by in order.iter().rev() {
        // Names of these tests are plain letters.
        let name = |room: &IndexedRoom| room.facts.as_ref().map(|facts| facts.name.to_lowercase());
        match by {
            SortBy::Recency => rooms.sort_by_key(|room| Reverse(room.recency)),
            SortBy::Name => rooms.sort_by_key(|room| name(room)),
            SortBy::NotificationCount => {
                rooms.sort_by_key(|room| Reverse(room.unread.notifications));
            }
            SortBy::HighlightCount => rooms.sort_by_key(|room| Reverse(room.unread.highlights)),
        }
    }
    ids(rooms.into_iter())
}

fn everything(index: &RoomIndex) -> Vec<Vec<String>> {
    let orders = ORDERS_ASKED.iter().filter(|order| index.has_order(order));
    let lists = orders.flat_map(|order| LISTED.map(|section| ids(index.in_order(section, order))));
    lists.collect()
}

#[test]
fn orders_are_what_sorting_gives_however_rooms_change() {
    let mut most = 0;
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut index = Arc::new(nothing());
        for poll in 1..120 {
            if let Some(order) = ORDERS_ASKED.get(usize::try_from(poll / 20).expect("small"))
                && !index.has_order(order)
            {
                Arc::make_mut(&mut index).add_order(order);
            }
            let snapshot = Arc::clone(&index);
            let before = everything(&snapshot);
            Arc::make_mut(&mut index).apply(random.changes(poll));

            assert_eq!(everything(&snapshot), before, "a request keeps what it looks at");
            for order in ORDERS_ASKED.iter().filter(|order| index.has_order(order)) {
                for section in LISTED {
                    let found = ids(index.in_order(section, order));
                    most = most.max(found.len());
                    assert_eq!(
                        found,
                        sorted(&index, section, order),
                        "{seed}: {order:?} at {poll}"
                    );
                }
            }
        }
        assert_eq!(index.orders.len(), ORDERS_ASKED.len());
    }
    assert!(most > 10, "rooms were there to be sorted");
}

#[test]
fn an_index_that_was_kept_current_is_as_a_new_one() {
    let mut random = Random(7);
    let mut kept = nothing();
    let mut last: HashMap<RoomNid, ListedRoom> = HashMap::new();
    let mut names = HashMap::new();
    let mut direct_now = Vec::new();
    for poll in 1..200 {
        let changes = random.changes(poll);
        last.extend(changes.rooms.iter().map(|room| (room.room_nid, room.clone())));
        names.extend(changes.facts.clone());
        if let Some(direct) = &changes.direct {
            direct_now =
                (0..40).map(|n| format!("!{n:02}:x")).filter(|id| direct.contains(id)).collect();
        }
        kept.apply(changes);
    }
    let direct_now: Vec<&str> = direct_now.iter().map(String::as_str).collect();
    let mut new =
        RoomIndex::new(Position(199), last.into_values().collect(), direct(&direct_now, 1));
    new.add_facts(names);
    for number in 0..40 {
        let undated = |index: &RoomIndex| {
            let room = index.get(RoomNid(number))?.clone();
            let facts = room.facts.clone().map(|known| Facts { changed: Position(0), ..known });
            Some(IndexedRoom { dm_changed: Position(0), facts, ..room })
        };
        assert_eq!(undated(&kept), undated(&new));
    }
    assert_eq!(kept.as_of, new.as_of);
}

#[test]
fn left_rooms_are_gone_and_sections_are_apart() {
    let rooms =
        vec![listed(1, Section::Join), listed(2, Section::Invite), listed(3, Section::Join)];
    let mut index = RoomIndex::new(Position(1), rooms, DirectRooms::none());
    let order = &[SortBy::Recency][..];
    assert!(ids(index.in_order(Section::Join, order)).is_empty(), "nobody asked for the order");
    index.add_order(order);
    assert_eq!(ids(index.in_order(Section::Join, order)), ["!01:x", "!03:x"]);
    assert_eq!(ids(index.in_order(Section::Invite, order)), ["!02:x"]);

    let rooms = vec![listed(1, Section::Leave), listed(2, Section::Join)];
    index.apply(Changes { rooms, ..changes_of(2) });
    assert_eq!(ids(index.in_order(Section::Join, order)), ["!02:x", "!03:x"]);
    assert!(ids(index.in_order(Section::Invite, order)).is_empty());
    assert!(ids(index.in_order(Section::Leave, order)).is_empty());
    assert!(index.get(RoomNid(1)).is_none() && index.as_of == Position(2));
}

#[test]
fn what_is_direct_changes_when_it_does() {
    let rooms = vec![listed(1, Section::Join), listed(2, Section::Join), listed(3, Section::Join)];
    let mut index = RoomIndex::new(Position(5), rooms, direct(&["!01:x", "!04:x"], 4));
    let changed = |index: &RoomIndex, since| {
        let mut rooms = ids(index.dm_changed_after(Position(since)));
        rooms.sort();
        rooms
    };
    // Of a new index nobody knows; but no room can have changed after `m.direct` did.
    assert_eq!(changed(&index, 3), ["!01:x", "!02:x", "!03:x"]);
    assert!(changed(&index, 4).is_empty());

    let told = Some(direct(&["!02:x", "!04:x"], 7));
    index.apply(Changes { direct: told, ..changes_of(8) });
    assert_eq!(changed(&index, 6), ["!01:x", "!02:x"]);
    assert!(changed(&index, 7).is_empty());
    let dm = |index: &RoomIndex, number| index.get(RoomNid(number)).map(|room| room.is_dm);
    assert_eq!(
        (dm(&index, 1), dm(&index, 2), dm(&index, 3)),
        (Some(false), Some(true), Some(false))
    );

    // A room that comes is direct if it was called so before, or in the same poll.
    let rooms = vec![listed(4, Section::Invite), listed(5, Section::Join)];
    let told = Some(direct(&["!02:x", "!04:x", "!05:x"], 9));
    index.apply(Changes { rooms, direct: told, ..changes_of(9) });
    assert_eq!((dm(&index, 4), dm(&index, 5)), (Some(true), Some(true)));
    assert_eq!(changed(&index, 8), ["!05:x"]);
    let told = Some(direct(&["!02:x", "!04:x", "!05:x"], 10));
    index.apply(Changes { direct: told, ..changes_of(10) });
    assert!(changed(&index, 9).is_empty(), "told again is not changed");
}

#[test]
fn facts_are_dated_by_their_last_change() {
    let rooms = || [1, 2].map(|number| listed(number, Section::Join)).into();
    let facts = |name, pos| Facts { changed: Position(pos), ..facts(name) };
    let mut index = RoomIndex::new(Position(3), rooms(), DirectRooms::none());
    let changed = |index: &RoomIndex| {
        let facts = |number| index.get(RoomNid(number))?.facts.as_ref();
        [1, 2].map(|number| facts(number).map(|facts| facts.changed.0))
    };
    assert_eq!(changed(&index), [None, None]);
    let told = [(1, "a"), (2, "b"), (9, "c")].map(|(n, name)| (RoomNid(n), facts(name, 3)));
    index.add_facts(told.into());
    assert_eq!(changed(&index), [Some(3), Some(3)], "no later than they were looked at");
    assert!(index.has_facts && index.get(RoomNid(9)).is_none());

    let told = [(RoomNid(1), facts("a", 5)), (RoomNid(2), facts("B", 5))].into();
    index.apply(Changes { rooms: rooms(), facts: told, ..changes_of(5) });
    assert_eq!(changed(&index), [Some(3), Some(5)]);
    let tagged = Facts { tags: ["m.favourite".to_owned()].into(), ..facts("a", 6) };
    let told = [(RoomNid(1), tagged)].into();
    index.apply(Changes { rooms: rooms(), facts: told, ..changes_of(6) });
    assert_eq!(changed(&index), [Some(6), Some(5)]);
}

#[test]
fn threads_count() {
    let threads = br#"{"$t":{"notification_count":2,"highlight_count":1}}"#[..].into();
    let room = ListedRoom {
        notification_count: 3,
        thread_counts: Some(threads),
        ..listed(1, Section::Join)
    };
    let index = RoomIndex::new(Position(1), vec![room], DirectRooms::none());
    let unread = index.get(RoomNid(1)).expect("it is listed").unread;
    assert_eq!(unread, Unread { notifications: 5, highlights: 1 });
}

#[tokio::test(start_paused = true)]
async fn the_orders_last_asked_for_are_kept() {
    let mut held = Held::new(nothing());
    let order = |length: usize| vec![SortBy::Recency; length];
    for length in 0..ORDERS {
        held.sort(&order(length));
    }
    let snapshot = Arc::clone(&held.index);
    held.sort(&order(0));
    assert!(Arc::ptr_eq(&snapshot, &held.index), "what is there is not made again");
    held.sort(&order(ORDERS));
    let kept = |length: usize| held.index.has_order(&order(length));
    assert!(kept(0) && kept(ORDERS) && !kept(1));
    assert_eq!((held.index.orders.len(), held.asked.len()), (ORDERS, ORDERS));
}

#[tokio::test(start_paused = true)]
async fn an_index_that_nobody_looks_at_is_dropped() {
    let shared = SharedRoomIndex(Mutex::new(Some(Held::new(nothing()))));
    tokio::time::advance(KEEP / 2).await;
    shared.sweep();
    assert!(shared.0.lock().await.is_some());
    tokio::time::advance(KEEP).await;
    let looking = shared.0.lock().await;
    shared.sweep();
    assert!(looking.is_some(), "while somebody looks it stays");
    drop(looking);
    shared.sweep();
    assert!(shared.0.lock().await.is_none());
}
