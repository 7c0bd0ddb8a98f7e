//! Data-only cases: what the head was, what a poll brought, what it is then and how it is undone.

use super::*;
use crate::Section;

/// A state event `key=value` of type `t`; `@user=value` is a member; a message has no `=`.
fn event(text: &str) -> Event {
    let (key, value) = text.split_once('=').map_or((None, text), |(k, v)| (Some(k), v));
    let is_member = key.is_some_and(|key| key.starts_with('@'));
    Event {
        event_id: format!("${value}"),
        event_type: String::from(if is_member { MEMBER } else { "t" }),
        state_key: key.map(str::to_owned),
        body: Bytes::from(value.to_owned()),
        ..Event::default()
    }
}

fn key(name: &str) -> StateKey {
    (String::from(if name.starts_with('@') { MEMBER } else { "t" }), name.to_owned())
}

fn entry(value: &str) -> HeadEntry {
    HeadEntry { body_id: BodyId(value.parse().expect("values are numbers")), unsigned: None }
}

fn head(text: &str) -> HashMap<StateKey, HeadEntry> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (key(k), entry(v)))
        .collect()
}

struct Case {
    mode: Mode,
    limited: bool,
    before: &'static str,
    state: &'static str,
    state_after: Option<&'static str>,
    timeline: &'static str,
    /// What the head held once.
    superseded: &'static [i64],
    /// The head afterwards.
    expected: &'static str,
    /// `ord:key<old` for each change, sorted.
    undo: &'static str,
}

const DELTA: Case = Case {
    mode: Mode::Delta { members_complete: false },
    limited: false,
    before: "",
    state: "",
    state_after: None,
    timeline: "",
    superseded: &[],
    expected: "",
    undo: "",
};

fn check(case: &Case) {
    let events = |text: &str| text.split_whitespace().map(event).collect::<Vec<_>>();
    let room = RoomUpdate {
        room_id: String::from("!r"),
        section: Section::Join,
        limited: case.limited,
        joins_anew: None,
        kicked: false,
        prev_batch: None,
        state: match case.state_after {
            Some(after) => StateBlock::AfterTimeline(events(after)),
            None => StateBlock::BeforeTimeline(events(case.state)),
        },
        timeline: events(case.timeline),
        typing: None,
        receipts: Vec::new(),
        account_data: Vec::new(),
        counts: None,
        summary: super::super::Summary::default(),
        stripped_state: None,
        recency: None,
    };
    let superseded = case.superseded.iter().copied().map(BodyId).collect();
    let body_id = |event: &Event| -> Result<BodyId, std::num::ParseIntError> {
        event.event_id[1..].parse().map(BodyId)
    };
    let plan = plan(&room, case.mode, head(case.before), &superseded, body_id)
        .expect("values are numbers");

    let mut after = head(case.before);
    for removed in &plan.remove {
        after.remove(removed);
    }
    after.extend(plan.set.clone());
    assert_eq!(after, head(case.expected), "head after {plan:?}");

    let mut undo: Vec<String> = plan
        .changes
        .iter()
        .map(|change| {
            let old = change.old.as_ref().map_or_else(String::new, |old| old.body_id.to_string());
            format!("{}:{}<{old}", change.ord, change.key.1)
        })
        .collect();
    undo.sort_unstable();
    let expected: Vec<&str> = case.undo.split_whitespace().collect();
    assert_eq!(undo, expected);

    // The algebra of head and undo: undoing everything that was recorded gives the state before, but
    // for what was learnt and not changed.
    let mut undone = after;
    let mut latest_first: Vec<&Change> = plan.changes.iter().collect();
    latest_first.sort_by_key(|change| std::cmp::Reverse(change.ord));
    for change in latest_first {
        match &change.old {
            Some(old) => undone.insert(change.key.clone(), old.clone()),
            None => undone.remove(&change.key),
        };
    }
    for (key, entry) in head(case.before) {
        assert_eq!(undone.get(&key), Some(&entry), "undo restores {key:?}");
    }
}

#[test]
fn timeline_state_replaces_and_is_undone_in_place() {
    check(&Case {
        before: "a=1",
        timeline: "m a=2 m a=3",
        expected: "a=3",
        undo: "1:a<1 3:a<2",
        ..DELTA
    });
}

#[test]
fn a_new_key_is_undone_to_nothing() {
    check(&Case { timeline: "a=1", expected: "a=1", undo: "0:a<", ..DELTA });
}

#[test]
fn the_same_event_again_is_no_change() {
    check(&Case { before: "a=1", state: "a=1", timeline: "a=1", expected: "a=1", ..DELTA });
}

#[test]
fn state_before_the_timeline_changes_in_the_gap() {
    check(&Case {
        before: "a=1",
        state: "a=2",
        timeline: "a=3",
        expected: "a=3",
        undo: "-1:a<1 0:a<2",
        ..DELTA
    });
}

#[test]
fn what_the_timeline_holds_did_not_happen_in_the_gap() {
    check(&Case {
        before: "@bob=1",
        state: "@bob=2",
        timeline: "@bob=2",
        expected: "@bob=2",
        undo: "0:@bob<1",
        ..DELTA
    });
}

#[test]
fn the_state_of_another_branch_is_not_set_again() {
    let fork = Case { before: "a=2", state: "a=1", superseded: &[1], expected: "a=2", ..DELTA };
    check(&fork);
    // After a gap nothing says that it was not set back.
    check(&Case { limited: true, expected: "a=1", undo: "-1:a<2", ..fork });
}

#[test]
fn a_lazily_loaded_member_is_learnt_not_changed() {
    check(&Case { state: "@bob=1", expected: "@bob=1", ..DELTA });
}

#[test]
fn a_member_of_a_gap_is_a_change() {
    check(&Case { limited: true, state: "@bob=1", expected: "@bob=1", undo: "-1:@bob<", ..DELTA });
}

#[test]
fn a_new_member_is_a_change_when_all_members_are_known() {
    let mode = Mode::Delta { members_complete: true };
    check(&Case { mode, state: "@bob=1", expected: "@bob=1", undo: "-1:@bob<", ..DELTA });
}

#[test]
fn a_first_full_state_records_no_undo() {
    check(&Case {
        mode: Mode::Replace,
        state: "a=1 b=2",
        timeline: "a=3",
        expected: "a=3 b=2",
        undo: "0:a<1",
        ..DELTA
    });
}

#[test]
fn a_full_state_drops_what_it_does_not_hold() {
    check(&Case {
        mode: Mode::Replace,
        before: "a=1 b=2 @bob=3",
        state: "a=4",
        expected: "a=4",
        undo: "-1:@bob<3 -1:a<1 -1:b<2",
        ..DELTA
    });
}

#[test]
fn state_after_agreeing_with_the_timeline_adds_nothing() {
    check(&Case {
        before: "a=1",
        state_after: Some("a=2"),
        timeline: "a=2",
        expected: "a=2",
        undo: "0:a<1",
        ..DELTA
    });
}

#[test]
fn state_after_without_timeline_event_changed_in_the_gap() {
    check(&Case {
        before: "a=1",
        state_after: Some("a=2"),
        timeline: "m",
        expected: "a=2",
        undo: "-1:a<1",
        ..DELTA
    });
}

#[test]
fn state_after_overrules_the_timeline() {
    check(&Case {
        before: "a=1",
        state_after: Some("a=2"),
        timeline: "a=2 a=3",
        expected: "a=2",
        undo: "0:a<1 1:a<2 2:a<3",
        ..DELTA
    });
}

#[test]
fn what_state_after_does_not_mention_ends_as_it_began() {
    check(&Case {
        before: "a=1",
        state_after: Some(""),
        timeline: "a=2",
        expected: "a=1",
        undo: "0:a<1 1:a<2",
        ..DELTA
    });
}
