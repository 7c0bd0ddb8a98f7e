//! What a room is called: the algorithm of the specification, in English. Pure; where its inputs come from is not known here.
//!
//! <https://spec.matrix.org/v1.16/client-server-api/#calculating-the-display-name-for-a-room>

use std::borrow::Cow;

use super::facts::Hero;

/// How many members a name is made of, at most: as many as homeservers tell.
pub(super) const HEROES: usize = 5;

/// What a name is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Basis {
    /// `name` of `m.room.name`.
    pub(super) name: Option<String>,
    /// `alias` of `m.room.canonical_alias`.
    pub(super) alias: Option<String>,
    /// Members other than the user, most important first.
    pub(super) heroes: Vec<Candidate>,
    /// How many are joined or invited, the user among them; `None` if that was never told.
    pub(super) members: Option<i64>,
}

/// A member other than the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Who.
    pub(super) hero: Hero,
    /// Whether the member is known to have left, or to be banned.
    pub(super) is_gone: bool,
}

/// Of members known rather than told: who is there, or, where nobody is, who was.
pub(super) fn those_here(mut known: Vec<Candidate>) -> Vec<Candidate> {
    if known.iter().any(|candidate| !candidate.is_gone) {
        known.retain(|candidate| !candidate.is_gone);
    }
    known
}

impl Basis {
    /// Whether it takes members to make the name.
    pub(super) fn is_made_of_members(&self) -> bool {
        self.given().is_none()
    }

    fn given(&self) -> Option<&String> {
        let name = self.name.as_ref().filter(|name| !name.is_empty());
        name.or_else(|| self.alias.as_ref().filter(|alias| is_alias(alias)))
    }

    /// The name, and the members that it is made of, if it is made of members.
    pub(super) fn into_name(self) -> (String, Vec<Hero>) {
        if let Some(given) = self.given() {
            return (given.clone(), Vec::new());
        }
        let here = self.heroes.iter().filter(|candidate| !candidate.is_gone).count();
        // The user is a member as well.
        let members = self.members.unwrap_or_else(|| count(here).saturating_add(1));
        let heroes: Vec<Hero> =
            self.heroes.into_iter().map(|candidate| candidate.hero).take(HEROES).collect();
        (of_members(&heroes, members), heroes)
    }
}

fn is_alias(alias: &str) -> bool {
    ruma_identifiers_validation::room_alias_id::validate(alias).is_ok()
}

fn of_members(heroes: &[Hero], members: i64) -> String {
    let mut names = display_names(heroes);
    if members <= 1 {
        if names.is_empty() {
            return String::from("Empty room");
        }
        return format!("Empty room (was {})", listed(&names));
    }
    if names.is_empty() {
        return format!("{members} people");
    }
    match members.saturating_sub(1).saturating_sub(count(names.len())) {
        ..=0 => {}
        1 => names.push(Cow::Borrowed("1 other")),
        others => names.push(Cow::Owned(format!("{others} others"))),
    }
    listed(&names)
}

fn count(members: usize) -> i64 {
    i64::try_from(members).unwrap_or(i64::MAX)
}

/// What each is called; who is called like another is told apart by the user ID.
/// <https://spec.matrix.org/v1.16/client-server-api/#calculating-the-display-name-for-a-user>
fn display_names(heroes: &[Hero]) -> Vec<Cow<'_, str>> {
    let plain: Vec<&str> = heroes.iter().map(display_name).collect();
    let names = heroes.iter().zip(&plain).map(|(hero, name)| {
        let alike = plain.iter().filter(|other| *other == name).count();
        match alike {
            1 => Cow::Borrowed(*name),
            _ => Cow::Owned(format!("{name} ({})", hero.user_id)),
        }
    });
    names.collect()
}

fn display_name(hero: &Hero) -> &str {
    hero.displayname.as_deref().filter(|name| !name.is_empty()).unwrap_or(&hero.user_id)
}

/// `A`, `A and B`, `A, B and C`.
fn listed(names: &[Cow<'_, str>]) -> String {
    match names {
        [] => String::new(),
        [one] => one.to_string(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(user_id: &str, displayname: Option<&str>) -> Candidate {
        let hero = Hero {
            user_id: user_id.to_owned(),
            displayname: displayname.map(str::to_owned),
            avatar_url: None,
        };
        Candidate { hero, is_gone: false }
    }

    /// Members whose names are written with a capital; those in brackets are gone.
    fn heroes(names: &str) -> Vec<Candidate> {
        let one = |word: &str| {
            let name = word.trim_matches(['(', ')']);
            let user_id = format!("@{}:x", name.to_lowercase());
            Candidate { is_gone: name != word, ..candidate(&user_id, Some(name)) }
        };
        names.split_whitespace().map(one).collect()
    }

    #[track_caller]
    fn check(names: &str, members: Option<i64>, expected: &str) {
        let basis = Basis { heroes: heroes(names), members, ..Basis::default() };
        assert_eq!(basis.into_name().0, expected);
    }

    #[test]
    fn the_members_make_a_name() {
        check("Alice", Some(2), "Alice");
        check("Alice Bob", Some(3), "Alice and Bob");
        check("Alice Bob Carol", Some(4), "Alice, Bob and Carol");
        check("A B C D E", Some(6), "A, B, C, D and E");
    }

    #[test]
    fn who_is_not_named_is_counted() {
        check("Alice", Some(3), "Alice and 1 other");
        check("Alice Bob", Some(6), "Alice, Bob and 3 others");
        check("A B C D E", Some(1007), "A, B, C, D, E and 1001 others");
        check("A B C D E F G", Some(8), "A, B, C, D, E and 2 others");
        check("", Some(4), "4 people");
        check("Alice", Some(i64::MAX), "Alice and 9223372036854775805 others");
    }

    #[test]
    fn who_is_alone_is_in_an_empty_room() {
        check("", Some(1), "Empty room");
        check("", None, "Empty room");
        check("", Some(0), "Empty room");
        check("", Some(i64::MIN), "Empty room");
        check("(Alice)", Some(1), "Empty room (was Alice)");
        check("Alice Bob", Some(1), "Empty room (was Alice and Bob)");
    }

    #[test]
    fn where_nobody_counted_the_members_those_known_are_all() {
        check("Alice Bob", None, "Alice and Bob");
        check("(Alice)", None, "Empty room (was Alice)");
        check("Alice (Bob)", None, "Alice and Bob");
    }

    #[test]
    fn who_is_gone_counts_where_nobody_is_there() {
        let check = |known: &str, expected: &str| {
            assert_eq!(those_here(heroes(known)), heroes(expected), "{known}");
        };
        check("Alice (Bob) Carol", "Alice Carol");
        check("(Alice) (Bob)", "(Alice) (Bob)");
        check("", "");
    }

    #[track_caller]
    fn check_named(name: Option<&str>, alias: Option<&str>, expected: &str) {
        let basis = Basis {
            name: name.map(str::to_owned),
            alias: alias.map(str::to_owned),
            heroes: heroes("Alice"),
            members: Some(2),
        };
        let (found, heroes) = basis.into_name();
        assert_eq!(found, expected);
        assert_eq!(heroes.is_empty(), expected != "Alice", "{expected}");
    }

    #[test]
    fn a_name_comes_before_an_alias_and_an_alias_before_members() {
        check_named(Some("Den"), Some("#den:x"), "Den");
        check_named(None, Some("#den:x"), "#den:x");
        check_named(Some(""), Some("#den:x"), "#den:x");
        check_named(Some(" "), None, " ");
        check_named(None, None, "Alice");
        for no_alias in ["", "#", "den", "#den", "@den:x", "#d\0n:x"] {
            check_named(None, Some(no_alias), "Alice");
        }
    }

    #[test]
    fn who_is_called_alike_is_told_apart() {
        let check = |heroes: &[(&str, Option<&str>)], expected: &str| {
            let heroes = heroes.iter().map(|(user_id, name)| candidate(user_id, *name)).collect();
            let basis = Basis { heroes, ..Basis::default() };
            assert_eq!(basis.into_name().0, expected);
        };
        check(&[("@a:x", Some("Al")), ("@b:x", Some("Al"))], "Al (@a:x) and Al (@b:x)");
        check(
            &[("@a:x", Some("Al")), ("@b:x", Some("Bo")), ("@c:x", Some("Al"))],
            "Al (@a:x), Bo and Al (@c:x)",
        );
        check(&[("@a:x", Some("Al")), ("@b:x", Some("al"))], "Al and al");
        // Who has no name is called by the user ID, also in somebody else's mouth.
        check(&[("@a:x", None), ("@b:x", Some(""))], "@a:x and @b:x");
        check(&[("@a:x", None), ("@b:x", Some("@a:x"))], "@a:x (@a:x) and @a:x (@b:x)");
        check(&[("@a:x", Some("N\0l"))], "N\0l");
    }
}
