//! Sorting members. The order is total: one list has one order, whatever the database gave first.
//!
//! Names compare without regard to case, by code point: each character is folded through its upper
//! case to its lower case, which brings `ß` and `SS`, `σ` and `ς` together as Unicode's full case
//! folding does. Equal names stand in the order of their user IDs.

use std::cmp::Reverse;

use store::Member;

use super::{list::Sort, power_levels::PowerLevels};

/// Brings members into order.
pub(super) fn sort(members: &mut [Member], sort: Sort, levels: &PowerLevels) {
    match sort {
        Sort::ByPl => members.sort_by_cached_key(|member| {
            (Reverse(levels.of(&member.user_id)), name(member), member.user_id.clone())
        }),
        Sort::ByName => {
            members.sort_by_cached_key(|member| (name(member), member.user_id.clone()));
        }
    }
}

/// The folded name: the display name, or the user ID without `@` where there is none.
fn name(member: &Member) -> String {
    match member.displayname.as_deref() {
        Some(name) if !name.is_empty() => fold(name),
        _ => fold(member.user_id.strip_prefix('@').unwrap_or(&member.user_id)),
    }
}

fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use store::BodyId;

    use super::*;

    const LEVELS: &[u8] =
        br#"{"content":{"users":{"@admin:x":100,"@mod:x":50,"@muted:x":-1},"users_default":0}}"#;

    /// Sorts members given as (localpart, display name) both ways round.
    #[track_caller]
    fn check(order: Sort, members: &[(&str, Option<&str>)], expected: &[&str]) {
        let levels = PowerLevels::read(None, Some(LEVELS));
        let mut members: Vec<Member> = members
            .iter()
            .map(|(localpart, displayname)| Member {
                user_id: format!("@{localpart}:x"),
                membership: "join".to_owned(),
                displayname: displayname.map(str::to_owned),
                body_id: BodyId(1),
            })
            .collect();
        for _ in 0..2 {
            members.reverse();
            sort(&mut members, order, &levels);
            let sorted: Vec<&str> = members
                .iter()
                .map(|member| member.user_id.trim_start_matches('@').trim_end_matches(":x"))
                .collect();
            assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn by_name() {
        check(
            Sort::ByName,
            &[("alice", Some("ZAlice")), ("bob", None), ("charlie", Some("YCharlie"))],
            &["bob", "charlie", "alice"],
        );
        check(
            Sort::ByName,
            &[("a", Some("beta")), ("b", Some("ALPHA")), ("c", Some("Gamma"))],
            &["b", "a", "c"],
        );
        check(
            Sort::ByName,
            &[("c", Some("same")), ("a", Some("SAME")), ("b", Some("Same"))],
            &["a", "b", "c"],
        );
        check(Sort::ByName, &[("b", Some("")), ("a", Some("c"))], &["b", "a"]);
        check(
            Sort::ByName,
            &[("a", Some("ÉMILE")), ("b", Some("émile")), ("c", Some("Zoe")), ("d", Some("Ελένη"))],
            &["c", "a", "b", "d"],
        );
        check(Sort::ByName, &[("b", Some("straße")), ("a", Some("STRASSE"))], &["a", "b"]);
        check(Sort::ByName, &[("b", Some("ΟΔΟΣ")), ("a", Some("οδος"))], &["a", "b"]);
    }

    #[test]
    fn by_pl() {
        check(
            Sort::ByPl,
            &[
                ("muted", Some("A")),
                ("zoe", Some("b")),
                ("yan", Some("C")),
                ("mod", None),
                ("admin", None),
            ],
            &["admin", "mod", "zoe", "yan", "muted"],
        );
    }
}
