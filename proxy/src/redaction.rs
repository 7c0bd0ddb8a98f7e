//! What a redaction is for, and what it leaves of an event, by the rules of each room version:
//! <https://spec.matrix.org/v1.16/rooms/>, section "Redactions" of each version.
//!
//! The store calls this through [`RULES`] for what it keeps. Pure. A room version that is not known
//! gets the least that any known one keeps.

use std::collections::HashSet;

use bytes::Bytes;
use store::RedactionRules;

use crate::{
    ingest::is_key,
    json::{self, Object, ObjectWriter},
};

/// The rules as the store wants them.
pub const RULES: RedactionRules = RedactionRules { target, prune, without_copies };

/// What an event keeps at its top, of that which clients are told.
const KEPT: [&str; 6] = ["type", "room_id", "sender", "state_key", "origin_server_ts", "event_id"];

/// How deep events may be nested in each other's `unsigned`.
const MAX_DEPTH: u32 = 4;

/// A room version, as far as redactions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// 1, 2, …; those to come are taken to be like the newest known.
    Number(u32),
    /// An experimental one, or a room whose version is not known.
    Unknown,
}

/// The event that a redaction is for. Up to room version 10 it is named at the top of the redaction, after
/// that in its content; whoever sent the event may have written anything into the other place.
fn target(create: Option<&[u8]>, redaction: &[u8]) -> Option<String> {
    let event = Object::read(redaction)?;
    let at_top = || event.get("redacts").and_then(json::text);
    let in_content = || {
        let content = event.object("content")?;
        content.get("redacts").and_then(json::text)
    };
    let target = match Version::of(create) {
        Version::Number(..11) => at_top(),
        Version::Number(_) => in_content().or_else(at_top),
        Version::Unknown => at_top().or_else(in_content),
    };
    target.filter(|event_id| is_key(event_id)).map(std::borrow::Cow::into_owned)
}

/// What a redaction leaves of an event. Homeservers redact no `m.room.create`.
fn prune(create: Option<&[u8]>, body: &[u8]) -> Option<Bytes> {
    let Some(event) = Object::read(body) else { return Some(Bytes::from_static(b"{}")) };
    let event_type = event.get("type").and_then(json::text).unwrap_or_default();
    if event_type == "m.room.create" {
        return None;
    }
    Some(pruned(&event, &event_type, Version::of(create)))
}

fn pruned(event: &Object<'_>, event_type: &str, version: Version) -> Bytes {
    let mut out = Vec::new();
    let mut writer = ObjectWriter::new(&mut out);
    for key in KEPT {
        if let Some(value) = event.get(key) {
            writer.raw(key, value.get().as_bytes());
        }
    }
    let mut kept = ObjectWriter::new(writer.key("content"));
    let content = event.object("content");
    let value_of = |key| content.as_ref().and_then(|content| content.get(key));
    for key in version.kept_content(event_type) {
        if let Some(value) = value_of(key) {
            kept.raw(key, value.get().as_bytes());
        }
    }
    if event_type == "m.room.member"
        && version.is_from(11)
        && let Some(signed) = value_of("third_party_invite").and_then(Object::of)
    {
        let mut invite = ObjectWriter::new(kept.key("third_party_invite"));
        if let Some(signed) = signed.get("signed") {
            invite.raw("signed", signed.get().as_bytes());
        }
        invite.end();
    }
    kept.end();
    writer.end();
    out.into()
}

impl Version {
    fn of(create: Option<&[u8]>) -> Self {
        let Some(event) = create.and_then(Object::read) else { return Self::Unknown };
        let content = event.object("content");
        match content.as_ref().and_then(|content| content.get("room_version")) {
            // The specification's default.
            None => Self::Number(1),
            Some(version) => json::text(version)
                .and_then(|version| version.parse().ok())
                .map_or(Self::Unknown, Self::Number),
        }
    }

    fn is_from(self, first: u32) -> bool {
        matches!(self, Self::Number(number) if number >= first)
    }

    fn is_up_to(self, last: u32) -> bool {
        matches!(self, Self::Number(number) if number <= last)
    }

    /// The keys of an event's content that stay whole.
    fn kept_content(self, event_type: &str) -> Vec<&'static str> {
        let always: &[&str] = match event_type {
            "m.room.member" => &["membership"],
            "m.room.join_rules" => &["join_rule"],
            "m.room.history_visibility" => &["history_visibility"],
            "m.room.power_levels" => &[
                "ban",
                "events",
                "events_default",
                "kick",
                "redact",
                "state_default",
                "users",
                "users_default",
            ],
            _ => &[],
        };
        let by_version = match event_type {
            "m.room.member" if self.is_from(9) => Some("join_authorised_via_users_server"),
            "m.room.join_rules" if self.is_from(8) => Some("allow"),
            "m.room.power_levels" if self.is_from(11) => Some("invite"),
            "m.room.redaction" if self.is_from(11) => Some("redacts"),
            "m.room.aliases" if self.is_up_to(5) => Some("aliases"),
            _ => None,
        };
        always.iter().copied().chain(by_version).collect()
    }
}

/// Whose content stands in an event's `unsigned`: the replaced state's, and that of aggregated events.
pub(crate) fn copies(unsigned: &Object<'_>) -> Vec<String> {
    let mut found = HashSet::new();
    // It rewrites nothing; it is asked what it would have to look at.
    rewrite(unsigned, MAX_DEPTH, &mut |event_id| {
        found.insert(event_id.to_owned());
        false
    });
    let mut found: Vec<String> = found.into_iter().collect();
    found.sort_unstable();
    found
}

/// `unsigned` without copies that could not be found again: those whose event has no ID that can be kept,
/// and those nested too deep.
pub(crate) fn without_strays(unsigned: &Object<'_>) -> Vec<u8> {
    rewrite(unsigned, MAX_DEPTH, &mut |event_id| !is_key(event_id)).0
}

fn without_copies(unsigned: &[u8], redacted: &HashSet<String>) -> Option<Bytes> {
    let (rest, any) =
        rewrite(&Object::read(unsigned)?, MAX_DEPTH, &mut |event_id| redacted.contains(event_id));
    any.then(|| rest.into())
}

/// `unsigned` without the content of events that are redacted, and whether anything is left.
fn rewrite(
    unsigned: &Object<'_>,
    depth: u32,
    is_redacted: &mut dyn FnMut(&str) -> bool,
) -> (Vec<u8>, bool) {
    let replaces_redacted = unsigned.get("prev_content").is_some()
        && unsigned.get("replaces_state").and_then(json::text).is_some_and(|id| is_redacted(&id));
    let mut out = Vec::new();
    let mut writer = ObjectWriter::new(&mut out);
    let mut any = false;
    for (key, value) in unsigned.members() {
        match &*key {
            "prev_content" if replaces_redacted => continue,
            "m.relations" => match Object::of(value).filter(|_| depth > 0) {
                Some(relations) => {
                    rewrite_relations(&relations, depth, is_redacted, writer.key("m.relations"));
                }
                None => continue,
            },
            _ => writer.raw(&key, value.get().as_bytes()),
        }
        any = true;
    }
    writer.end();
    (out, any)
}

/// Each relation is an aggregated event (`m.replace`), or holds one (`latest_event` of `m.thread`), or
/// holds none. A redacted edit is no edit; a redacted answer in a thread is an answer still.
fn rewrite_relations(
    relations: &Object<'_>,
    depth: u32,
    is_redacted: &mut dyn FnMut(&str) -> bool,
    out: &mut Vec<u8>,
) {
    let mut writer = ObjectWriter::new(out);
    for (name, value) in relations.members() {
        let Some(relation) = Object::of(value) else {
            writer.raw(&name, value.get().as_bytes());
            continue;
        };
        if relation.get("event_id").is_some() {
            if let Some(event) = rewrite_event(&relation, depth, is_redacted) {
                writer.raw(&name, &event);
            }
            continue;
        }
        let Some(latest) = relation.object("latest_event") else {
            writer.raw(&name, value.get().as_bytes());
            continue;
        };
        let event = rewrite_event(&latest, depth, is_redacted).unwrap_or_else(|| {
            let event_type = latest.get("type").and_then(json::text).unwrap_or_default();
            pruned(&latest, &event_type, Version::Unknown).to_vec()
        });
        relation.write_replacing("latest_event", &event, writer.key(&name));
    }
    writer.end();
}

/// An event inside another one; `None` if it is redacted.
fn rewrite_event(
    event: &Object<'_>,
    depth: u32,
    is_redacted: &mut dyn FnMut(&str) -> bool,
) -> Option<Vec<u8>> {
    if event.get("event_id").and_then(json::text).is_none_or(|id| is_redacted(&id)) {
        return None;
    }
    let mut out = Vec::new();
    match event.object("unsigned") {
        Some(unsigned) => {
            let (rest, _) = rewrite(&unsigned, depth - 1, is_redacted);
            event.write_replacing("unsigned", &rest, &mut out);
        }
        None => {
            event.write_without(&[], &mut out);
        }
    }
    Some(out)
}

#[cfg(test)]
mod micro;

#[cfg(test)]
mod tests;
