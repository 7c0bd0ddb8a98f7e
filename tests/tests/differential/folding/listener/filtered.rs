//! Clients with any filter: judged by what that lets through.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::client::Client;
use tests::random::Random;

use super::super::script::{ME, Room, Script};
use super::{Known, Listener, Sees};
use crate::filters::Filter;

impl Listener {
    /// So many with a filter of their own, which may name rooms of the script.
    pub(in super::super) fn filtered(alice: &Client, script: &Script, seed: u64) -> Vec<Self> {
        let mut random = Random::seeded(seed ^ 0xf1);
        let rooms: Vec<String> = script.rooms.iter().map(|room| room.room_id.clone()).collect();
        [("a filter", 1), ("another filter", 4)]
            .map(|(name, seldom)| {
                let filter = Filter::random(&mut random, &rooms);
                Self {
                    name,
                    client: alice.clone(),
                    wishes: filter.json().clone(),
                    is_v3: false,
                    state_after: false,
                    sees: Sees::Filtered(filter),
                    seldom,
                    forgets: seldom > 1,
                    knows: Known::default(),
                    kept: Known::default(),
                }
            })
            .into()
    }

    /// What it knows, beside what was told and its filter lets through.
    pub(super) fn agrees_with(&self, filter: &Filter, script: &Script) -> Result<(), String> {
        let model = &self.knows.model;
        let untold = &filter.json()["account_data"]["not_types"];
        let mut truth = script.account_data.clone();
        truth.retain(|kind, _| {
            !untold.as_array().is_some_and(|all| all.iter().any(|one| one == kind))
        });
        self.same(filter, "account data", &model.account_data, &truth)?;
        for room in &script.rooms {
            let known = model.rooms.get(&room.room_id);
            if filter.admits_room(&room.room_id) {
                // A room of which nothing is let through may be left out.
                let nothing = crate::model::Room::default();
                self.agrees_on(filter, room, known.unwrap_or(&nothing))?;
            } else if known.is_some() {
                return Err(format!(
                    "{}: is told of {} by {}",
                    self.name,
                    room.room_id,
                    filter.json()
                ));
            }
        }
        Ok(())
    }

    fn agrees_on(
        &self,
        filter: &Filter,
        room: &Room,
        known: &crate::model::Room,
    ) -> Result<(), String> {
        let told: Vec<&String> = room
            .tail
            .iter()
            .filter(|(_, kind)| filter.admits_in_timeline(kind))
            .map(|(id, _)| id)
            .collect();
        let tail: Vec<&String> =
            self.knows.tails.get(&room.room_id).into_iter().flatten().collect();
        // As many of the newest as its limit lets through; and what came before a gap, if nothing after it was told yet.
        let has_newest = told.ends_with(&tail) && !tail.is_empty();
        if !(told.is_empty() || has_newest || tail.ends_with(&told)) {
            return self.same(filter, "timeline", &tail, &told);
        }
        let through = |kind: &str| filter.admits_as_state(kind) || filter.admits_in_timeline(kind);
        if let Some((kind, _)) = known.state.keys().find(|(kind, _)| !through(kind)) {
            return Err(format!("{}: is told of {kind} by {}", self.name, filter.json()));
        }
        // What a timeline leaves out is told as state only by what comes after it.
        let judged = |key: &(String, String)| {
            filter.admits_as_state(&key.0)
                && filter.admits_in_timeline(&key.0)
                && (key.0 != "m.room.member" || !filter.lazy() || key.1 == ME)
        };
        let id = |event: &Value| event["event_id"].as_str().unwrap_or_default().to_owned();
        let state = known.state.iter().filter(|(key, _)| judged(key));
        let state: BTreeMap<_, String> =
            state.map(|(key, event)| (key.clone(), id(event))).collect();
        let truth = room.state.clone().into_iter().filter(|(key, _)| judged(key)).collect();
        self.same(filter, "state", &state, &truth)?;
        if filter.json()["room"]["ephemeral"].is_null() {
            let receipts = known.receipts.iter();
            let receipts = receipts.map(|((user, _, _), event)| (user.clone(), event.clone()));
            self.same(filter, "receipts", &receipts.collect(), &room.receipts)?;
        }
        if filter.whole_timelines() {
            self.same(filter, "counts", &known.unread, &room.unread)?;
        }
        self.same(filter, "room data", &known.account_data, &room.account_data)
    }

    fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        filter: &Filter,
        what: &str,
        knows: &T,
        told: &T,
    ) -> Result<(), String> {
        if knows == told {
            return Ok(());
        }
        Err(format!(
            "{}: {what}: knows {knows:?}, was told {told:?}, by {}",
            self.name,
            filter.json()
        ))
    }
}
