//! Bodies that nothing refers to, and redactions of events that are stored nowhere.
//!
//! Nothing counts references: that would be a write more for each event and account. A sweep reads them all, and marks the
//! bodies that it met nowhere. A reference that came while it read may have been missed; so a body goes only when a later
//! sweep, begun hours after the mark was set, meets it nowhere either. Who refers to a body that has a mark takes the mark
//! off in the same transaction (`account_stream::bodies`), and who read it before it had one is finished by then. What
//! goes is looked at once more, under its row lock.
//!
//! A window of bodies is swept at a time: five bytes for each are what it costs in memory.

use std::time::Instant;

use super::Pace;
use crate::{Error, Store};

/// How long a mark has to stand before the sweep begins that acts on it, in milliseconds: longer than any transaction.
const STANDS: i64 = 6 * 60 * 60 * 1000;

/// What to sweep, and how.
#[derive(Clone, Copy, Debug)]
pub struct BodySweep {
    /// The time at which it begins.
    pub now: i64,
    /// Redactions of events that have been stored nowhere since then go.
    pub oldest: i64,
    /// How many bodies are looked at together, about: for each window all references are read.
    pub window: usize,
    /// How much at once.
    pub pace: Pace,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Bodies that were found unused for the first time.
    pub marked: u64,
    /// Bodies that went.
    pub removed: u64,
    /// Redactions that went.
    pub redactions: u64,
}

/// Bodies that are looked at together, by number, and which of them are used. Their numbers have gaps: told again, a body
/// takes one without need. So they are listed, and not counted.
#[derive(Default)]
struct Window {
    first: i64,
    /// How far each is from the first, in order.
    offsets: Vec<u32>,
    used: Vec<bool>,
}

impl Window {
    /// Adds the next body; `false` if it is too far from the first.
    fn add(&mut self, body_id: i64) -> bool {
        if self.offsets.is_empty() {
            self.first = body_id;
        }
        let offset = self.offset(body_id);
        self.offsets.extend(offset);
        self.used.extend(offset.map(|_| false));
        offset.is_some()
    }

    fn see(&mut self, body_id: i64) {
        if let Some(offset) = self.offset(body_id)
            && let Ok(place) = self.offsets.binary_search(&offset)
        {
            self.used[place] = true;
        }
    }

    fn offset(&self, body_id: i64) -> Option<u32> {
        u32::try_from(body_id.checked_sub(self.first)?).ok()
    }

    fn last(&self) -> Option<i64> {
        self.offsets.last().map(|offset| self.first + i64::from(*offset))
    }

    /// The bodies, each with whether it is used, so many at a time: all of them would take three times as much as the window.
    fn judged(&self, at_once: usize) -> impl Iterator<Item = Vec<(i64, bool)>> {
        self.offsets.chunks(at_once).zip(self.used.chunks(at_once)).map(|(offsets, used)| {
            let ids = offsets.iter().map(|offset| self.first + i64::from(*offset));
            ids.zip(used.iter().copied()).collect()
        })
    }
}

impl Store {
    /// Sweeps all bodies, and then the redactions.
    pub async fn sweep_bodies(&self, sweep: BodySweep) -> Result<Swept, Error> {
        let begun = Instant::now();
        let mut swept = Swept::default();
        let mut after = 0;
        loop {
            // Bodies first, and then what refers to them: one that comes in between has its turn next time.
            let mut window = self.window(after, sweep).await?;
            let Some(last) = window.last() else { break };
            after = last;
            self.references(sweep.pace, |body_id| window.see(body_id)).await?;
            self.judge(&window, sweep, begun, &mut swept).await?;
        }
        swept.redactions = self.sweep_redactions(sweep).await?;
        Ok(swept)
    }

    /// The bodies after `after`, as many as fit.
    async fn window(&self, after: i64, sweep: BodySweep) -> Result<Window, Error> {
        let mut window = Window::default();
        let mut after = after;
        while window.offsets.len() < sweep.window {
            let rows = self
                .query(
                    "bodies::window",
                    "-- bodies::window
                    SELECT body_id FROM event_bodies WHERE body_id > $1 ORDER BY body_id LIMIT $2",
                    &[&after, &sweep.pace.rows],
                )
                .await?;
            let Some(last) = rows.last() else { break };
            after = last.get("body_id");
            if !rows.iter().all(|row| window.add(row.get("body_id"))) {
                break;
            }
            sweep.pace.rest().await;
        }
        Ok(window)
    }

    /// Goes through the bodies of a window whose references have been read. A sweep may take hours: a mark says when it was
    /// set, for it has to stand from then on.
    async fn judge(
        &self,
        window: &Window,
        sweep: BodySweep,
        begun: Instant,
        swept: &mut Swept,
    ) -> Result<(), Error> {
        let at_once = usize::try_from(sweep.pace.rows).unwrap_or(1).max(1);
        for bodies in window.judged(at_once) {
            let of = |used: bool| {
                let judged = bodies.iter().filter(move |(_, is_used)| *is_used == used);
                judged.map(|(body_id, _)| *body_id).collect::<Vec<i64>>()
            };
            self.unmark(&of(true)).await?;
            let unused = of(false);
            if !unused.is_empty() {
                swept.removed += self.remove(&unused, sweep.now - STANDS).await?;
                let passed = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
                swept.marked += self.mark(&unused, sweep.now.saturating_add(passed)).await?;
            }
            sweep.pace.rest().await;
        }
        Ok(())
    }

    /// Takes off the marks of bodies that are used after all. There are hardly any, and they are found without a look at the others.
    async fn unmark(&self, used: &[i64]) -> Result<(), Error> {
        let (Some(first), Some(last)) = (used.first(), used.last()) else { return Ok(()) };
        self.query(
            "bodies::unmark",
            "-- bodies::unmark (used)
            UPDATE event_bodies
            SET unused_since = NULL
            WHERE body_id = ANY(ARRAY(
                SELECT body_id
                FROM event_bodies
                WHERE unused_since IS NOT NULL AND body_id >= $2 AND body_id <= $3 AND body_id = ANY($1)
                FOR NO KEY UPDATE SKIP LOCKED
            ))",
            &[&used, first, last],
        )
        .await?;
        Ok(())
    }

    /// Marks those that have no mark yet, or one from the future: a clock was ahead, and they would stay until then.
    async fn mark(&self, unused: &[i64], now: i64) -> Result<u64, Error> {
        let tx = self.tx("bodies::mark").await?;
        let marked = tx
            .execute(
                "-- bodies::mark
                UPDATE event_bodies
                SET unused_since = $2
                WHERE body_id = ANY(ARRAY(
                    SELECT l.body_id
                    FROM UNNEST($1::BIGINT[]) AS t (body_id)
                    CROSS JOIN LATERAL (
                        SELECT body_id
                        FROM event_bodies
                        WHERE body_id = t.body_id AND (unused_since IS NULL OR unused_since > $2)
                        LIMIT 1
                        FOR NO KEY UPDATE SKIP LOCKED
                    ) l
                ))",
                &[&unused, &now],
            )
            .await?;
        tx.commit().await?;
        Ok(marked)
    }

    /// Removes those that have been marked for long enough. Who has one locked is about to use it: nobody is waited for,
    /// so that no two can wait for each other.
    async fn remove(&self, unused: &[i64], marked_by: i64) -> Result<u64, Error> {
        let tx = self.tx("bodies::remove").await?;
        let removed = tx
            .execute(
                "-- bodies::remove
                DELETE FROM event_bodies
                WHERE body_id = ANY(ARRAY(
                    SELECT l.body_id
                    FROM UNNEST($1::BIGINT[]) AS t (body_id)
                    CROSS JOIN LATERAL (
                        SELECT body_id
                        FROM event_bodies
                        WHERE body_id = t.body_id AND unused_since <= $2
                        LIMIT 1
                        FOR UPDATE SKIP LOCKED
                    ) l
                ))",
                &[&unused, &marked_by],
            )
            .await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// Lets go the redactions of events of which no body is stored, and was none since the horizon. Until then a body that
    /// comes late is pruned; after that, only the homeserver itself can tell of it, and that prunes what it redacts.
    async fn sweep_redactions(&self, sweep: BodySweep) -> Result<u64, Error> {
        let mut removed = 0;
        let (mut event_id, mut room_nid) = (String::new(), 0_i64);
        loop {
            let page = self
                .query(
                    "bodies::sweep_redactions",
                    "-- bodies::sweep_redactions
                    WITH page AS MATERIALIZED (
                        SELECT r.ctid AS id, r.event_id, r.room_nid, r.unused_since,
                            (
                                SELECT b.body_id FROM event_bodies b WHERE b.event_id = r.event_id LIMIT 1
                            ) IS NULL AS unused
                        FROM redactions r
                        WHERE (r.event_id, r.room_nid) > ($1, $2)
                        ORDER BY r.event_id, r.room_nid
                        LIMIT $5
                    ),
                    gone AS (
                        DELETE FROM redactions
                        WHERE ctid = ANY(ARRAY(SELECT id FROM page WHERE unused AND unused_since <= $4))
                        RETURNING 1
                    ),
                    marked AS (
                        UPDATE redactions r
                        SET unused_since = CASE WHEN p.unused THEN $3::BIGINT END
                        FROM page p
                        WHERE r.event_id = p.event_id AND r.room_nid = p.room_nid
                            AND p.unused = (p.unused_since IS NULL)
                        RETURNING 1
                    )
                    SELECT event_id, room_nid, (SELECT COUNT(*) FROM gone) AS gone
                    FROM page
                    ORDER BY event_id DESC, room_nid DESC
                    LIMIT 1",
                    &[&event_id, &room_nid, &sweep.now, &sweep.oldest, &sweep.pace.rows],
                )
                .await?;
            let Some(last) = page.first() else { return Ok(removed) };
            (event_id, room_nid) = (last.get("event_id"), last.get("room_nid"));
            removed += u64::try_from(last.get::<_, i64>("gone")).unwrap_or_default();
            sweep.pace.rest().await;
        }
    }
}
