//! Tables `redactions`, `event_copies` and `redaction_scans`, and the pruning of what they name.
//!
//! Who is told of a redaction, in a timeline or inside the redacted event, prunes every stored body of
//! that event, for everybody; and the copies of its content inside other events, for itself. Both
//! happen in the transaction that stores what was told.
//!
//! Accounts that are told at the same time need no lock between them. Of one account nothing else is
//! stored meanwhile (its row is locked), so what it was told before is there to be pruned, and what it
//! is told later finds the row in `redactions`. Another account's body that is not committed yet is
//! pruned when that account is told, or told the body again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::atomic::Ordering,
};

use bytes::Bytes;

use crate::{
    AccountId, BodyId, Error, Event, Position, RoomNid, Store,
    account_stream::{BodyIds, insert_bodies},
    room_heads::bytes_of,
    tx::{Statement, Tx, params},
};

const REDACTION: &str = "m.room.redaction";

/// What redactions mean for JSON, which the store only carries. `create` is the body of the room's
/// `m.room.create`, where it is known: it names the room version.
#[derive(Clone, Copy, Debug)]
pub struct RedactionRules {
    /// The event that a redaction is for.
    pub target: fn(create: Option<&[u8]>, redaction: &[u8]) -> Option<String>,
    /// The body of an event when it is redacted; `None` for one that cannot be.
    pub prune: fn(create: Option<&[u8]>, body: &[u8]) -> Option<Bytes>,
    /// An event's `unsigned` without the content of these other events; `None` when nothing is left.
    pub without_copies: fn(unsigned: &[u8], redacted: &HashSet<String>) -> Option<Bytes>,
}

/// A gap in a timeline in which redactions may have gone unheard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactionScan {
    /// The room.
    pub room_nid: RoomNid,
    /// Its Matrix ID.
    pub room_id: String,
    /// The poll that left the gap.
    pub pos: Position,
    /// Upstream's token after the gap.
    pub from: String,
    /// Upstream's token before the gap.
    pub until: String,
}

/// What redactions did to the events that an account was told, and by them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Redacted {
    /// Something of what was told is redacted, or redacts.
    pub(crate) any: bool,
    /// What was stored has been pruned.
    pub(crate) pruned: bool,
}

/// Counts a transaction that pruned once it is over: also one of whose commit nobody heard, because its answer was lost or
/// who waited for it is gone. Not before it: who looks in between would take the number for newer than what it reads.
pub(crate) struct Pruning<'a> {
    store: &'a Store,
    redacted: Redacted,
}

impl Drop for Pruning<'_> {
    fn drop(&mut self) {
        if self.redacted.pruned {
            self.store.prunings.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Store {
    /// How many transactions of this process have pruned what was stored. Whoever keeps copies of events compares it:
    /// while it stays, no redaction that this process has stored concerns them.
    pub fn prunings(&self) -> u64 {
        self.prunings.load(Ordering::Acquire)
    }

    /// What counts a transaction, if it pruned, as soon as it is dropped.
    pub(crate) fn pruning(&self, redacted: Redacted) -> Pruning<'_> {
        Pruning { store: self, redacted }
    }

    /// Gaps of the account that have yet to be looked through, oldest first.
    pub async fn redaction_scans(
        &self,
        account_id: AccountId,
        limit: i64,
    ) -> Result<Vec<RedactionScan>, Error> {
        let rows = self
            .query(
                "redactions::redaction_scans",
                "-- redactions::redaction_scans
                SELECT
                    s.room_nid,
                    (SELECT r.room_id FROM rooms r WHERE r.room_nid = s.room_nid) AS room_id,
                    s.pos, s.from_token, s.until_token
                FROM redaction_scans s
                WHERE s.account_id = $1
                ORDER BY s.pos, s.room_nid
                LIMIT $2",
                &[&account_id.0, &limit],
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| RedactionScan {
                room_nid: RoomNid(row.get("room_nid")),
                room_id: row.get("room_id"),
                pos: Position(row.get("pos")),
                from: row.get("from_token"),
                until: row.get("until_token"),
            })
            .collect())
    }

    /// Applies the redactions that were found in a gap, and is done with the gap.
    pub async fn finish_redaction_scan(
        &self,
        account_id: AccountId,
        scan: &RedactionScan,
        found: &[Event],
    ) -> Result<(), Error> {
        let tx = self.tx_on_account("redactions::finish_redaction_scan", account_id).await?;
        let told: Vec<_> = found.iter().map(|event| (scan.room_nid, event)).collect();
        let bodies = insert_bodies(&tx, told.iter().copied()).await?;
        let redacted = apply(&tx, self.redaction_rules, account_id, &told, &bodies).await?;
        tx.execute(
            "-- redactions::finish_redaction_scan
            DELETE FROM redaction_scans WHERE account_id = $1 AND room_nid = $2 AND pos = $3",
            &[&account_id.0, &scan.room_nid.0, &scan.pos.0],
        )
        .await?;
        let _counted = self.pruning(redacted);
        tx.commit().await?;
        Ok(())
    }
}

/// Whether any of these events brings a redaction.
pub(crate) fn brings(told: &[(RoomNid, &Event)]) -> bool {
    told.iter().any(|(_, event)| event.redacted_because.is_some() || is_redaction(event))
}

/// Asks for a redaction of any of these events, or of one that is copied in them. Is there none, and [`brings`] none of
/// them one either, there is nothing to [`apply`].
pub(crate) fn known<'a>(told: &[(RoomNid, &'a Event)]) -> Option<Statement<'a>> {
    if told.is_empty() {
        return None;
    }
    let mut events = InRooms::new();
    for (nid, event) in told {
        events.insert((&event.event_id, nid.0));
        events.extend(event.copies.iter().map(|event_id| (event_id.as_str(), nid.0)));
    }
    let (event_ids, nids): (Vec<&str>, Vec<i64>) = events.into_iter().unzip();
    Some(Statement::new(
        "-- redactions::known
        SELECT r.event_id
        FROM UNNEST($1::TEXT[], $2::BIGINT[]) AS t (event_id, room_nid)
        JOIN redactions r ON r.event_id = t.event_id AND r.room_nid = t.room_nid
        LIMIT 1",
        params![event_ids, nids],
    ))
}

fn is_redaction(event: &Event) -> bool {
    event.event_type == REDACTION && event.state_key.is_none()
}

/// Applies the redactions among the events that an account was `told`, and those known already to the
/// events that it was told. Comes after everything else that the transaction stores of them, and under
/// the account's row lock.
pub(crate) async fn apply(
    tx: &Tx,
    rules: RedactionRules,
    account_id: AccountId,
    told: &[(RoomNid, &Event)],
    bodies: &BodyIds,
) -> Result<Redacted, Error> {
    if told.is_empty() {
        return Ok(Redacted::default());
    }
    let mut work = Work { tx, rules, account_id, creates: HashMap::new() };
    let redactions = work.redactions(told, bodies).await?;
    work.insert(&redactions).await?;
    let (mut bodies_of, mut copies_of) = (InRooms::new(), InRooms::new());
    for (event_id, nid) in redactions.keys() {
        bodies_of.insert((event_id, nid.0));
        copies_of.insert((event_id, nid.0));
    }
    for (nid, event) in told {
        bodies_of.insert((&event.event_id, nid.0));
        for event_id in &event.copies {
            copies_of.insert((event_id, nid.0));
        }
    }
    let pruned = work.prune(&bodies_of).await? | work.remove_copies(&copies_of).await?;
    Ok(Redacted { any: pruned || bodies.any_pruned || !redactions.is_empty(), pruned })
}

/// Event IDs, each with its room.
type InRooms<'a> = BTreeSet<(&'a str, i64)>;

/// An event of a timeline with copies of redacted events in it.
#[derive(Default)]
struct Carrier {
    unsigned: Option<Bytes>,
    redacted: HashSet<String>,
}

struct Work<'a> {
    tx: &'a Tx,
    rules: RedactionRules,
    account_id: AccountId,
    /// The bodies of `m.room.create`, as far as they were needed.
    creates: HashMap<RoomNid, Option<Bytes>>,
}

impl Work<'_> {
    /// What is redacted by what, as far as these events tell.
    async fn redactions(
        &mut self,
        told: &[(RoomNid, &Event)],
        bodies: &BodyIds,
    ) -> Result<BTreeMap<(String, RoomNid), BodyId>, Error> {
        let mut redactions = BTreeMap::new();
        for (nid, event) in told {
            let mut event = *event;
            if is_redaction(event) {
                let create = self.create(*nid).await?;
                if let Some(target) = (self.rules.target)(create.as_deref(), &event.body) {
                    redactions.insert((target, *nid), bodies.of(event)?);
                }
            }
            while let Some(because) = &event.redacted_because {
                redactions.insert((event.event_id.clone(), *nid), bodies.of(because)?);
                event = because;
            }
        }
        Ok(redactions)
    }

    async fn insert(&self, redactions: &BTreeMap<(String, RoomNid), BodyId>) -> Result<(), Error> {
        if redactions.is_empty() {
            return Ok(());
        }
        let event_ids: Vec<&str> = redactions.keys().map(|(id, _)| id.as_str()).collect();
        let nids: Vec<i64> = redactions.keys().map(|(_, nid)| nid.0).collect();
        let body_ids: Vec<i64> = redactions.values().map(|body_id| body_id.0).collect();
        self.tx
            .execute(
                "-- redactions::insert
                INSERT INTO redactions (event_id, room_nid, redacted_by)
                SELECT t.event_id, t.room_nid, t.redacted_by
                FROM UNNEST($1::TEXT[], $2::BIGINT[], $3::BIGINT[])
                    AS t (event_id, room_nid, redacted_by)
                ON CONFLICT (event_id, room_nid) DO NOTHING",
                &[&event_ids, &nids, &body_ids],
            )
            .await?;
        Ok(())
    }

    /// Prunes the bodies of those of the events that are redacted and not pruned yet. Gives whether there were any.
    async fn prune(&mut self, events: &InRooms<'_>) -> Result<bool, Error> {
        let (event_ids, nids): (Vec<&str>, Vec<i64>) = events.iter().copied().unzip();
        // Locked in one order, after all bodies of the transaction are inserted: see the invariants.
        let rows = self
            .tx
            .query(
                "-- redactions::prune
                SELECT b.body_id, b.body, r.room_nid, r.redacted_by
                FROM UNNEST($1::TEXT[], $2::BIGINT[]) AS t (event_id, room_nid)
                JOIN redactions r ON r.event_id = t.event_id AND r.room_nid = t.room_nid
                JOIN event_bodies b ON b.event_id = r.event_id
                WHERE b.redacted_by IS NULL
                    AND (b.room_nid = r.room_nid OR b.room_nid IS NULL)
                ORDER BY b.event_id, b.body_hash
                FOR NO KEY UPDATE OF b",
                &[&event_ids, &nids],
            )
            .await?;
        let (mut body_ids, mut pruned) = (Vec::<i64>::new(), Vec::<Bytes>::new());
        let mut redacted_by = Vec::<i64>::new();
        for row in rows {
            let create = self.create(RoomNid(row.get("room_nid"))).await?;
            if let Some(body) = (self.rules.prune)(create.as_deref(), row.get("body")) {
                body_ids.push(row.get("body_id"));
                pruned.push(body);
                redacted_by.push(row.get("redacted_by"));
            }
        }
        if body_ids.is_empty() {
            return Ok(false);
        }
        let pruned: Vec<&[u8]> = pruned.iter().map(|body| &**body).collect();
        self.tx
            .execute(
                "-- redactions::prune
                UPDATE event_bodies b
                SET body = t.body, redacted_by = t.redacted_by, displayname = NULL
                FROM UNNEST($1::BIGINT[], $2::BYTEA[], $3::BIGINT[]) AS t (body_id, body, redacted_by)
                WHERE b.body_id = t.body_id",
                &[&body_ids, &pruned, &redacted_by],
            )
            .await?;
        Ok(true)
    }

    /// Takes the content of those of the events that are redacted out of the account's other events. Gives whether it
    /// stood in any.
    async fn remove_copies(&self, events: &InRooms<'_>) -> Result<bool, Error> {
        if events.is_empty() {
            return Ok(false);
        }
        let (event_ids, nids): (Vec<&str>, Vec<i64>) = events.iter().copied().unzip();
        // `OFFSET 0`: joined, Postgres may read through all copies of the account.
        let rows = self
            .tx
            .query(
                "-- redactions::remove_copies
                SELECT c.event_id, e.room_nid, e.pos, e.ord, e.unsigned
                FROM UNNEST($2::TEXT[], $3::BIGINT[]) AS t (event_id, room_nid)
                JOIN redactions r ON r.event_id = t.event_id AND r.room_nid = t.room_nid
                CROSS JOIN LATERAL (
                    SELECT room_nid, event_id, pos, ord
                    FROM event_copies
                    WHERE account_id = $1 AND room_nid = r.room_nid AND event_id = r.event_id
                    OFFSET 0
                ) c
                JOIN timeline_events e
                    ON e.account_id = $1 AND e.room_nid = c.room_nid AND e.pos = c.pos AND e.ord = c.ord",
                &[&self.account_id.0, &event_ids, &nids],
            )
            .await?;
        let mut carriers: BTreeMap<(i64, i64, i32), Carrier> = BTreeMap::new();
        for row in &rows {
            let place = (row.get("room_nid"), row.get("pos"), row.get("ord"));
            let carrier = carriers.entry(place).or_default();
            carrier.unsigned = bytes_of(row, "unsigned");
            carrier.redacted.insert(row.get("event_id"));
        }
        if carriers.is_empty() {
            return Ok(false);
        }
        let (mut nids, mut pos, mut ords) = (Vec::new(), Vec::new(), Vec::new());
        let mut unsigneds = Vec::new();
        for ((nid, at, ord), carrier) in &carriers {
            nids.push(*nid);
            pos.push(*at);
            ords.push(*ord);
            let without = |raw: &Bytes| (self.rules.without_copies)(raw, &carrier.redacted);
            unsigneds.push(carrier.unsigned.as_ref().and_then(without));
        }
        let unsigneds: Vec<Option<&[u8]>> = unsigneds.iter().map(Option::as_deref).collect();
        self.tx
            .execute(
                "-- redactions::remove_copies
                UPDATE timeline_events e
                SET unsigned = t.unsigned
                FROM UNNEST($2::BIGINT[], $3::BIGINT[], $4::INTEGER[], $5::BYTEA[])
                    AS t (room_nid, pos, ord, unsigned)
                WHERE e.account_id = $1
                    AND e.room_nid = t.room_nid
                    AND e.pos = t.pos
                    AND e.ord = t.ord",
                &[&self.account_id.0, &nids, &pos, &ords, &unsigneds],
            )
            .await?;
        Ok(true)
    }

    /// The body of a room's `m.room.create`, if the account knows it.
    async fn create(&mut self, nid: RoomNid) -> Result<Option<Bytes>, Error> {
        if let Some(known) = self.creates.get(&nid) {
            return Ok(known.clone());
        }
        let row = self
            .tx
            .query_opt(
                "-- redactions::create
                SELECT b.body
                FROM room_state s
                JOIN event_bodies b ON b.body_id = s.body_id
                WHERE s.account_id = $1
                    AND s.room_nid = $2
                    AND s.event_type = 'm.room.create'
                    AND s.state_key = ''",
                &[&self.account_id.0, &nid.0],
            )
            .await?;
        let create = row.as_ref().and_then(|row| bytes_of(row, "body"));
        self.creates.insert(nid, create.clone());
        Ok(create)
    }
}
