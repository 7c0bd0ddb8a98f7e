//! What docs/scaling.md says of tables and statements.

use std::collections::BTreeSet;
use std::fs;

use tests::paths::repository;

/// The tables of the schema, by what can be done with them.
pub(super) struct Tables {
    /// They can have partitions by account.
    pub(super) keyed: Vec<String>,
    /// And so can these, which are also found otherwise than by their account.
    pub(super) sessions: Vec<String>,
    /// They stay as they are.
    small: Vec<String>,
    /// They are nobody's.
    pub(super) shared: Vec<String>,
}

impl Tables {
    /// Those that can have partitions by account.
    pub(super) fn spread(&self) -> Vec<String> {
        [&self.keyed[..], &self.sessions].concat()
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        [&self.keyed, &self.sessions, &self.small, &self.shared].into_iter().flatten()
    }
}

/// Of each table of the schema, what the page says can be done with it.
pub(super) fn tables() -> Tables {
    let rows = rows_below("| Tables |");
    let [keyed, sessions, small, shared] = &rows[..] else { panic!("{rows:?}") };
    for ((_, says), begins) in
        rows.iter().zip(["Partitions by account:", "The same.", "Stay as they are:", "Are shared"])
    {
        assert!(says.starts_with(begins), "{says}");
    }
    let names = |row: &(String, String)| quoted(&row.0);
    Tables {
        keyed: names(keyed),
        sessions: names(sessions),
        small: names(small),
        shared: names(shared),
    }
}

/// The statements that look into every partition, as the page has them.
pub(super) fn statements() -> BTreeSet<String> {
    rows_below("| Statements |").iter().flat_map(|(names, _)| quoted(names)).collect()
}

/// The two cells of each row of the table with this heading.
fn rows_below(heading: &str) -> Vec<(String, String)> {
    let page = fs::read_to_string(repository().join("docs/scaling.md")).unwrap();
    let rows: Vec<_> = page
        .lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .map(|(first, second)| (first.to_owned(), second.to_owned()))
        .collect();
    assert!(!rows.is_empty(), "the page has no table `{heading}`");
    rows
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
