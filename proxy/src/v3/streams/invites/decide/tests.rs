//! What is told of rooms that open, close, are hidden, and move on while a reply is made.

use bytes::Bytes;
use store::{ChangedRoom, Position};

use super::*;

use Section::{Invite, Join, Knock, Leave};

/// Rooms are numbers; those from 100 on are of ignored users.
fn head(nid: i64, section: Section) -> RoomHead {
    RoomHead {
        room_nid: RoomNid(nid),
        room_id: format!("!{nid}"),
        section,
        segment_pos: Position(1),
        segment_limited: false,
        members_complete: false,
        kicked: false,
        forgotten: false,
        notification_count: 0,
        highlight_count: 0,
        thread_counts: None,
        heroes: None,
        joined_member_count: None,
        invited_member_count: None,
        summary_pos: Position(0),
        stripped_state: Some(Bytes::from_static(b"{}")),
        typing: None,
        typing_pos: Position(0),
        recency: 0,
    }
}

fn change((nid, before, section): (i64, Option<Section>, Section)) -> RoomChange {
    let head = head(nid, section);
    let room = ChangedRoom { head, section_before: before, newly_joined: false, cut: None };
    RoomChange { room, stirred: None, was_out: false, counted: false, notified: Vec::new() }
}

/// What is found, briefly.
#[derive(Default)]
struct Case<'a> {
    is_first: bool,
    untold: &'a [i64],
    changed: &'a [(i64, Option<Section>, Section)],
    open: &'a [(i64, Section)],
    later: &'a [(i64, Option<Section>, Section)],
}

#[track_caller]
fn check(case: &Case<'_>, rooms: &[i64], left: &[i64], untold: &[i64]) {
    let found = Found {
        is_first: case.is_first,
        untold: case.untold.iter().copied().map(RoomNid).collect(),
        changed: case.changed.iter().copied().map(change).collect(),
        open: case.open.iter().map(|(nid, section)| head(*nid, *section)).collect(),
        later: case.later.iter().copied().map(change).collect(),
    };
    let news = found.decide(|room| room.room_nid.0 < 100);
    let told: Vec<i64> = news.rooms.iter().map(|room| room.room_nid.0).collect();
    let expected_left: Vec<String> = left.iter().map(|nid| format!("!{nid}")).collect();
    let now_untold: Vec<i64> = news.untold.iter().map(|nid| nid.0).collect();
    assert_eq!((told.as_slice(), now_untold.as_slice()), (rooms, untold));
    assert_eq!(news.left, expected_left);
    assert_eq!(news.is_nothing(), rooms.is_empty() && left.is_empty());
}

#[test]
fn the_first_reply_is_all_that_stand_open() {
    let case =
        Case { is_first: true, open: &[(1, Invite), (2, Knock), (100, Invite)], ..Case::default() };
    check(&case, &[1, 2], &[], &[100]);
    check(&Case { is_first: true, ..Case::default() }, &[], &[], &[]);
}

#[test]
fn changes_open_and_close_rooms() {
    let changed = [
        (1, None, Invite),
        (2, Some(Leave), Knock),
        (3, Some(Knock), Invite),
        // Told again: withdrawn in between, or with other state.
        (4, Some(Invite), Invite),
        (5, Some(Invite), Join),
        (6, Some(Knock), Leave),
        // Came and went in between.
        (7, Some(Leave), Join),
    ];
    check(&Case { changed: &changed, ..Case::default() }, &[1, 2, 3, 4], &[5, 6], &[]);
}

#[test]
fn an_invite_that_was_never_told_is_not_taken_back() {
    let changed = [(100, Some(Invite), Leave), (101, None, Invite), (102, Some(Invite), Invite)];
    let case = Case { untold: &[100, 102, 103], changed: &changed, ..Case::default() };
    check(&case, &[], &[], &[101, 102, 103]);
}

#[test]
fn who_is_newly_ignored_takes_the_invites_along() {
    let open = [(1, Invite), (100, Invite)];
    check(&Case { open: &open, ..Case::default() }, &[], &[100], &[100]);
    // As above, where the same stretch mentions the room.
    let changed = [(100, Some(Invite), Invite)];
    check(&Case { open: &open, changed: &changed, ..Case::default() }, &[], &[100], &[100]);
}

#[test]
fn who_is_ignored_no_longer_brings_them_back() {
    let open = [(1, Invite), (2, Invite)];
    check(&Case { open: &open, untold: &[2], ..Case::default() }, &[2], &[], &[]);
    check(&Case { open: &open, untold: &[2, 7], ..Case::default() }, &[2], &[], &[7]);
}

/// A poll is stored after the moment that is told and before the rooms are read.
#[test]
fn what_a_later_poll_did_is_told_with_that_poll() {
    // The first reply, while 1 is accepted, 2 is invited to, and 3 comes with other state.
    let case = Case {
        is_first: true,
        open: &[(2, Invite), (3, Invite), (4, Invite)],
        later: &[(1, Some(Invite), Join), (2, None, Invite), (3, Some(Invite), Invite)],
        ..Case::default()
    };
    check(&case, &[4], &[], &[1, 3]);
    // With that poll.
    let changed = case.later;
    check(&Case { untold: &[1, 3], changed, ..Case::default() }, &[2, 3], &[], &[]);
}

#[test]
fn a_change_that_a_later_poll_overtakes_is_told_with_that_poll() {
    let case = Case {
        changed: &[(1, None, Invite), (2, Some(Invite), Invite), (3, Some(Invite), Leave)],
        later: &[(1, Some(Invite), Leave), (2, Some(Invite), Join), (3, Some(Leave), Invite)],
        ..Case::default()
    };
    check(&case, &[], &[3], &[1]);
    let changed = case.later;
    check(&Case { untold: &[1], changed, ..Case::default() }, &[3], &[2], &[]);
}

#[test]
fn a_later_poll_leaves_what_is_ignored_meanwhile_to_itself() {
    let later = [(100, Some(Invite), Invite)];
    check(&Case { open: &[(100, Invite)], later: &later, ..Case::default() }, &[], &[], &[]);
    check(&Case { changed: &later, ..Case::default() }, &[], &[100], &[100]);
}
