//! Everything that a client which may still ask is told: the same before and after a turn.

use std::collections::BTreeMap;

use store::{
    DeviceNid, Horizon, Place, Position, RoomHead, Section, StateQuery, StateSelection, Store,
    TimelineQuery,
};
use tests::random::seeds;

use super::{HOUR, PACE, due, in_use};
use crate::{database::fresh_store, polls::Feed, state::World};

/// How many stories an ordinary run plays; `TEST_SEEDS=500` plays so many, `TEST_SEED=17` that one.
const SEEDS: u64 = 3;
const POLLS: i64 = 60;
/// After how many polls an account has its turn, and how long it may stay away: a poll comes every hour.
const TURN: i64 = 6;
const AWAY: i64 = 15 * HOUR;
/// How many events of each room stay, and how many a client that knows nothing is shown.
const EVENTS: i64 = 5;
const LIMIT: usize = 5;
/// More than there is of anything.
const ALL: usize = 10_000;

#[tokio::test]
async fn a_turn_changes_no_answer_to_whoever_may_still_ask() {
    let store = fresh_store().await;
    for seed in seeds(SEEDS) {
        let mut feed = Feed::of(&store, &format!("@me-{seed}:x")).await;
        in_use(&feed).await;
        let mut world = World::new(seed, &feed);
        let mut gone = 0;
        for poll in 1..=POLLS {
            feed.now = poll * HOUR;
            world.poll(&mut feed).await;
            world.complete_members_sometimes(&feed).await;
            if poll % TURN != 0 {
                continue;
            }
            let due = due(&store, feed.account_id, feed.now).await;
            let before = Answers::of(&feed, due.retained_from).await;
            let oldest = feed.now - AWAY;
            let horizon = Horizon { now: feed.now, oldest, live_since: oldest, events: EVENTS };
            gone += store.retain(&due, horizon, PACE).await.unwrap().rows;
            let after = Answers::of(&feed, due.retained_from).await;
            before.are(&after, &format!("seed {seed}, poll {poll}"));
        }
        let account = store.account_by_id(feed.account_id).await.unwrap().unwrap();
        // There is a poll an hour, though not each has a position.
        let newest_old = Position((POLLS * HOUR - AWAY) / HOUR);
        assert!(account.retained_from <= newest_old, "nobody is cut off too early");
        assert!(account.retained_from > Position(0) && gone > 100, "seed {seed}: {gone} rows went");
    }
}

/// Answers by what was asked, in words.
struct Answers(BTreeMap<String, String>);

impl Answers {
    /// To every since that is not below `from`, and to a client that knows nothing.
    async fn of(feed: &Feed, from: Position) -> Self {
        let (store, account_id) = (&feed.store, feed.account_id);
        let account = store.account_by_id(account_id).await.unwrap().unwrap();
        let mut answers = Self(BTreeMap::new());
        let sections = [Section::Join, Section::Invite, Section::Knock, Section::Leave];
        let heads = store.rooms_in(account_id, &sections).await.unwrap();
        for head in &heads {
            answers.initial(feed, head, account.pos).await;
        }
        // The first two, which are the nearest to what goes, and some of the others.
        for since in (from.0..=from.0 + 1).chain((from.0 + 2..=account.pos.0).step_by(5)) {
            answers.since(feed, &heads, Position(since), account.pos).await;
        }
        answers
    }

    fn are(&self, others: &Self, when: &str) {
        assert_eq!(self.0.len(), others.0.len(), "{when}");
        for (question, answer) in &self.0 {
            assert_eq!(Some(answer), others.0.get(question), "{when}: {question}");
        }
    }

    fn add(&mut self, question: String, answer: impl std::fmt::Debug) {
        self.0.insert(question, format!("{answer:?}"));
    }

    /// As `views` answers: the newest events of the segment, and the state at their start.
    async fn initial(&mut self, feed: &Feed, head: &RoomHead, now: Position) {
        let (store, account_id) = (&feed.store, feed.account_id);
        let query = TimelineQuery {
            room_nid: head.room_nid,
            after: Position(head.segment_pos.0 - 1),
            before: Place::after(now),
        };
        let found = store.timelines(account_id, DeviceNid(0), &[query], LIMIT + 1).await.unwrap();
        let mut events = found.into_values().next().unwrap_or_default();
        let limited = events.len() > LIMIT || head.segment_limited;
        events.truncate(LIMIT);
        let start = events.last().map_or(Place::after(now), |event| event.place);
        self.add(format!("{} from nothing: timeline", head.room_id), (limited, &events));
        let at_start = StateQuery { room_nid: head.room_nid, at: start, since: None };
        let state = states(store, feed, &[at_start]).await;
        self.add(format!("{} from nothing: state", head.room_id), state);
        let tokens = store.upstream_tokens(account_id, head.room_nid, start).await.unwrap();
        let events_around = (tokens.between_older, tokens.limited);
        self.add(format!("{} from nothing: before the start", head.room_id), events_around);
    }

    async fn since(&mut self, feed: &Feed, heads: &[RoomHead], since: Position, now: Position) {
        let (store, account_id) = (&feed.store, feed.account_id);
        let name = |what: &str| format!("since {since}: {what}");
        let (_, mut changed) = store.changed_rooms(account_id, since).await.unwrap();
        for room in &mut changed {
            // Whether there is more before the segment: only to who knows nothing, and there with its timeline.
            room.head.segment_limited = false;
        }
        self.add(name("rooms"), changed);
        let mut changes = store.room_changes(account_id, since, now, None).await.unwrap();
        for change in &mut changes {
            change.room.head.segment_limited = false;
        }
        self.add(name("changes"), changes);
        let lists = store.device_list_changes(account_id, since, now).await.unwrap();
        self.add(name("device lists"), lists);
        self.add(name("token"), store.next_batch_at(account_id, since).await.unwrap());
        let mut left: Vec<_> = Vec::new();
        for room in store.rooms_left_after(account_id, since).await.unwrap() {
            left.push(room.room_nid);
        }
        self.add(name("left"), left);
        for head in heads {
            let nid = head.room_nid;
            let query = TimelineQuery { room_nid: nid, after: since, before: Place::after(now) };
            let events = store.timelines(account_id, DeviceNid(0), &[query], ALL).await.unwrap();
            let events = events.into_values().next().unwrap_or_default();
            let start = events.last().map_or(Place::after(now), |event| event.place);
            self.add(name(&head.room_id), events);
            let stood = Place::after(since);
            let delta = StateQuery { room_nid: nid, at: start, since: Some(stood) };
            let rest = StateQuery { room_nid: nid, at: Place::after(now), since: Some(start) };
            let whole = StateQuery { room_nid: nid, at: stood, since: None };
            for (what, query) in [("to the start", delta), ("after", rest), ("whole", whole)] {
                let state = states(store, feed, &[query]).await;
                self.add(name(&format!("{}: state {what}", head.room_id)), state);
            }
            let members = store.member_changes(account_id, nid, stood, now, ALL).await.unwrap();
            self.add(name(&format!("{}: members", head.room_id)), members);
        }
    }
}

/// State events, in an order of their own.
async fn states(store: &Store, feed: &Feed, queries: &[StateQuery]) -> Vec<String> {
    let states = store.states(feed.account_id, queries, StateSelection::All).await.unwrap();
    let mut state: Vec<String> =
        states.into_values().flatten().map(|event| format!("{event:?}")).collect();
    state.sort();
    state
}
