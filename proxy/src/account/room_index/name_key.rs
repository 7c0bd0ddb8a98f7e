//! What names are sorted by: keys of the Unicode Collation Algorithm (root), without regard to case.
//! <https://www.unicode.org/reports/tr10/>

use std::sync::LazyLock;

use icu_collator::{
    Collator, CollatorBorrowed, CollatorPreferences,
    options::{CollatorOptions, Strength},
};

/// Compares as the name that it was made of. It holds in this process alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameKey(Box<[u8]>);

impl NameKey {
    /// The key of a name.
    pub(super) fn of(name: &str) -> Self {
        if name.is_empty() {
            return Self::default();
        }
        let mut key = Vec::new();
        // Writing into memory cannot fail.
        let Ok(()) = COLLATOR.write_sort_key_to(name, &mut key);
        Self(key.into_boxed_slice())
    }
}

static COLLATOR: LazyLock<CollatorBorrowed<'static>> = LazyLock::new(|| {
    let mut options = CollatorOptions::default();
    // Letters and their accents; case would be the third level.
    options.strength = Some(Strength::Secondary);
    Collator::try_new(CollatorPreferences::default(), options)
        .expect("the data of the root collation is compiled in")
});

#[cfg(test)]
mod tests {
    use super::NameKey;

    #[test]
    fn names_are_sorted_as_readers_expect() {
        let sorted = [
            "",
            "_a",
            "(b)",
            "@alice:x",
            "#den:x",
            "😀",
            "1",
            "10",
            "2",
            "Alice",
            "alice and Bob",
            "Ångström2",
            "Bob",
            "cote",
            "coté",
            "côte",
            "Émile",
            "Emily",
            "zoë",
            "Zoo",
            "Ждан",
            "アリス",
            "爱丽丝",
        ];
        let mut found = sorted;
        found.sort_by_cached_key(|name| NameKey::of(name));
        assert_eq!(found, sorted);
    }

    #[test]
    fn case_and_spelling_make_no_difference_but_accents_do() {
        let check = |one: &str, other: &str, equal: bool| {
            assert_eq!(NameKey::of(one) == NameKey::of(other), equal, "{one:?} {other:?}");
        };
        check("ALICE", "alice", true);
        check("ÉMILE", "émile", true);
        check("e\u{301}", "é", true);
        check("Σίσυφος", "ΣΊΣΥΦΟΣ", true);
        check("e", "é", false);
        check("Straße", "Strasse", false);
        check("a b", "ab", false);
        // Nothing that a name may hold is too much.
        check("N\0l", "N\0l", true);
        check(&"𝕏".repeat(10_000), "x", false);
    }
}
